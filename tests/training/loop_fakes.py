"""One small training, put together by hand as run.py would; also the program that two processes run side by side."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tiny
from luthier.engine.batches import Examples
from luthier.engine.device import Machine
from luthier.engine.dropout import use_cheap_dropout
from luthier.engine.heads import FeatureModel
from luthier.engine.inference import keep_features
from luthier.engine.ranks import ALONE, Ranks, together
from luthier.methods import METHODS, learned
from luthier.models import resolve
from luthier.records import Row
from luthier.serve import answer_examples
from luthier.tasks import TASKS, Work
from luthier.training import Training, TrainOptions
from luthier.training.events import Event, Step

FP32 = Machine("cpu", "float32", "test", 1)


class Noted(Examples):
    """Examples that remember which of them each micro-batch took."""

    taken: list[list[int]]

    def batch(self, indices: Any) -> dict[str, torch.Tensor]:
        if hasattr(self, "taken"):
            self.taken.append([int(i) for i in indices])
        return super().batch(indices)


def rows_of(count: int, longest: int = 12, seed: int = 0) -> list[Row]:
    """Reviews of 3 to `longest` tokens; one word decides the label."""
    draw, rows = random.Random(seed), []
    for number in range(count):
        label = draw.choice(sorted(tiny.CLASS_WORDS))
        words = draw.choices(tiny.PLAIN[:20] + tiny.NAMES, k=draw.randint(1, longest - 2))
        words[draw.randrange(len(words))] = draw.choice(tiny.CLASS_WORDS[label])
        rows.append(Row(str(number), {"text": " ".join(words), "label": label}))
    return rows


def make(
    folder: Path,
    model: Path,
    *,
    rows: int = 48,
    longest: int = 12,
    method: str = "full",
    dropout: float = 0.1,
    seed: int = 7,
    scored: bool = True,
    **options: Any,
) -> Training:
    """A Training of a classifier whose validation rows are eight others."""
    settings = {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "token_budget": 4096,
        "dtype": "float32",
        **options,
    }
    kind = TASKS["classification"]
    task = kind(kind.Options(max_length=200), {"labels": sorted(tiny.CLASS_WORDS)})
    way = METHODS[method](METHODS[method].Options(**({"dropout": dropout} if method == "frozen" else {})))
    torch.manual_seed(seed)
    network = task.build(resolve(str(model)), {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0})
    use_cheap_dropout(network)
    network = way.apply(network, task.head())
    tokenizer = tiny.wordpiece()
    plain = task.encode(rows_of(rows, longest), tokenizer)
    examples = Noted(plain.columns, plain.padding, plain.rows, plain.lengths, limit=plain.limit)
    others = rows_of(8, longest, seed=99)
    validation = task.encode(others, tokenizer)
    if isinstance(network, FeatureModel):
        kept = keep_features(network, examples, FP32, 4096)
        network.head.measure(kept.columns["hidden"])
        examples = Noted(kept.columns, kept.padding, kept.rows, kept.lengths)
        validation = keep_features(network, validation, FP32, 4096)
    examples.taken = []

    def score(model: torch.nn.Module) -> tuple[float, float, dict[str, float]]:
        work = Work(others, validation, model, tokenizer, FP32, 4096)
        answers, loss = answer_examples(task, work)
        return -loss, loss, task.score(others, answers)

    torch.manual_seed(seed)
    return Training(
        model=network,
        examples=examples,
        objective=task,
        options=TrainOptions(**settings),
        machine=FP32,
        seed=seed,
        folder=folder,
        learned=learned,
        score=score if scored else None,
        watched="score",
        fixed={"seed": seed},
    )


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Step)]


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in learned(training.model).items()}


def digest(training: Training) -> str:
    parts = [name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(weights(training).items())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def largest_gap(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights.

    Attention's key biases are left out: they change nothing, so their gradient is rounding alone, which Adam
    scales up to whole steps.
    """
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one if "key.bias" not in name)


def shared_run(method: str, place: Path, model: Path, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Twelve steps without dropout; what each process says it saw."""
    from luthier.training import fit

    training = make(place / method, model, method=method, longest=40, dropout=0.0, token_budget=120, scored=False)
    training.ranks = ranks
    events = list(fit(training))
    flat = torch.cat([t.flatten() for _, t in sorted(weights(training).items())])
    return {"losses": losses(events), "weights": flat.tolist(), "pieces": len(training.examples.taken)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with together() as ranks:
        place, model = Path(sys.argv[1]), Path(sys.argv[2])
        given = {method: shared_run(method, place, model, ranks) for method in ("full", "frozen", "lora")}
        (place / f"rank-{ranks.rank}.json").write_text(json.dumps(given))
        assert np.isfinite(given["full"]["losses"]).all()
