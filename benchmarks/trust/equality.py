"""B6, F1, F6, F7, F8: what only decides speed and memory changes no loss and no answer.

The same run twice, in fp32, over 50 steps and more, once with a setting that must not matter: how a step is cut into
micro-batches (and how many rows are answered at once), how far rows are padded, whether they are packed, whether
activations are computed again. Losses may differ by 1e-5, answers not at all.
"""

from __future__ import annotations

import atexit
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from bars import Bar, Trial
from kill import as_written

import luthier
import tiny
from luthier.errors import LuthierError
from luthier.files import read_jsonl, read_log, write_jsonl

STEPS = 50
GAP = 1e-5
MODELS = {"classification": "bert", "token-classification": "roberta", "generation": "llama", "seq2seq": "t5"}
KINDS = [
    ("classification", "full"),
    ("generation", "lora"),
    ("token-classification", "adapter"),
    ("generation", "full"),
    ("classification", "lora"),
    ("seq2seq", "full"),
]


@contextmanager
def _padded_to(multiple: int) -> Iterator[None]:
    from luthier.engine import batches

    before, batches.ROUND = batches.ROUND, multiple
    try:
        yield
    finally:
        batches.ROUND = before


Change = tuple[dict[str, Any], Callable[[], AbstractContextManager[None]]]
CHANGES: dict[str, Change] = {
    "a row at a time": ({"train": {"token_budget": 1}}, nullcontext),
    "two or three rows at a time": ({"train": {"token_budget": 90}}, nullcontext),
    "padded to multiples of 64": ({}, lambda: _padded_to(64)),
    "padded to the longest": ({}, lambda: _padded_to(1)),
    "activations computed again": ({"train": {"gradient_checkpointing": True}}, nullcontext),
    "packed": ({"task": {"packing": "on"}}, nullcontext),
}


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    grid = [(kind, name) for name in CHANGES for kind in KINDS if name != "packed" or kind[0] == "generation"]
    random.Random(seed).shuffle(grid)
    if twin:
        grid.sort(key=lambda cell: cell[1] != TELLING[twin] or cell[0][0] not in ("generation", "classification"))
    for kind, name in grid[:count]:
        yield Trial(f"{'-'.join(kind)}, {name}", _differs(kind, name, twin))


def _differs(kind: tuple[str, str], name: str, twin: str) -> str:
    settings, context = CHANGES[name]
    first = _plain(kind)
    with put_in(twin) if twin else nullcontext():
        try:
            other = _run(kind, settings, context)
        except LuthierError as error:
            return str(error)
    losses, changed = (_losses(run) for run in (first, other))
    if len(losses) < STEPS or len(changed) != len(losses):
        return f"{len(losses)} and {len(changed)} steps"
    gap = max(abs(a - b) for a, b in zip(losses, changed))
    if gap > GAP:
        return f"the loss differs by up to {gap:.1e}"
    rows, others = (read_jsonl(run.folder.predictions / "test.jsonl") for run in (first, other))
    odd = sum(a["prediction"] != b["prediction"] for a, b in zip(rows, others, strict=True))
    return f"{odd} of {len(rows)} answers differ" if odd else ""


@cache
def _plain(kind: tuple[str, str]) -> luthier.Run:
    return _run(kind, {}, nullcontext)


def _run(kind: tuple[str, str], settings: dict[str, Any], context: Callable[[], Any]) -> luthier.Run:
    """A run of 50 steps without dropout, with these settings on top."""
    task, method = kind
    place = _place()
    model, rows = place / MODELS[task], place / f"{task}.jsonl"
    if not model.exists():
        tiny.save_model(model, MODELS[task])
    if not rows.exists():
        write_jsonl(rows, ({"id": row.id, **as_written(row)} for row in tiny.rows_for(task, 150)))
    windows = {"stride": 8} if task == "token-classification" else {}
    writing = {"max_new_tokens": 4} if task in ("generation", "seq2seq") else {}
    packing = {"packing": "off"} if task == "generation" else {}
    length = 192 if task == "generation" else 64  # room for several dialogs in a pack
    recipe: dict[str, Any] = {
        "model": str(model),
        "task": {
            "name": task,
            "max_length": length,
            **windows,
            **writing,
            **packing,
            **settings.get("task", {}),
        },
        "data": {"train": str(rows), "validation": 0, "test": 0.2},
        "method": {"name": method, **({"dropout": 0.0} if method in ("lora", "adapter") else {})},
        "train": {
            "epochs": 10,
            "batch_size": 24,
            "learning_rate": 1e-3,
            "dropout": "model" if task == "seq2seq" else 0.0,
            "dtype": "float32",
            "token_budget": 4096,
            **settings.get("train", {}),
        },
    }
    with context():
        return luthier.train(recipe, out=Path(tempfile.mkdtemp(dir=place)))


def _losses(run: luthier.Run) -> list[float]:
    return [event["loss"] for event in read_log(run.folder.events) if event["event"] == "step"]


@cache
def _place() -> Path:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    os.environ.setdefault("LUTHIER_HOME", f"{folder.name}/home")
    return Path(folder.name)


TWINS = {
    "mean-of-means": "each micro-batch weighs the same, whatever it holds",
    "padding-seen": "padding is read as if it were text",
    "packs-seen": "packed rows see each other",
}
TELLING = {
    "mean-of-means": "two or three rows at a time",
    "padding-seen": "padded to multiples of 64",
    "packs-seen": "packed",
}


@contextmanager
def put_in(twin: str) -> Iterator[None]:
    """The bug, while the block runs."""
    import torch

    from luthier.engine import batches
    from luthier.engine.language import model as language
    from luthier.training import loop

    if twin == "mean-of-means":
        owner: Any = loop._Stepper
        name, real = "_backward", loop._Stepper._backward

        def broken(self: Any, indices: Any) -> float:
            pieces = loop.micro_batches(indices, self.t.examples.lengths, int(self.t.options.token_budget), 1)
            whole, total = self.weight, 0.0
            for piece in pieces:
                self.weight = float(self.weights[piece].sum()) * len(pieces)
                total += real(self, piece)
            self.weight = whole
            return total
    elif twin == "padding-seen":
        owner, name, real = batches.Examples, "batch", batches.Examples.batch

        def broken(self: Any, indices: Any) -> Any:  # type: ignore[misc]
            batch = real(self, indices)
            return {k: torch.ones_like(v) if k.endswith("attention_mask") else v for k, v in batch.items()}
    else:
        # Beside an attention mask transformers does not look at positions, which tell where a document begins.
        owner, name, real = language, "_states", language._states

        def broken(model: Any, read: Any, inputs: Any) -> Any:  # type: ignore[misc]
            return real(model, read, {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"])})

    setattr(owner, name, broken)
    try:
        yield
    finally:
        setattr(owner, name, real)


BAR = Bar(
    "equality",
    "Micro-batches, padding, packing and recomputing change no loss by more than 1e-5 in fp32, and no answer.",
    len(KINDS) * (len(CHANGES) - 1) + 2,
    trials,
    TWINS,
)
