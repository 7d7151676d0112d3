"""bf16 answers as fp32 does: what hangs on a rounding is found, and computed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from luthier.engine.device import Machine
from luthier.engine.heads import use_exact_head
from luthier.engine.inference import run
from luthier.methods import METHODS
from luthier.models import resolve
from luthier.serve import answer_examples
from luthier.tasks import TASKS, Work
from luthier.tasks.base import DOUBT

FP32, BF16 = Machine("cpu", "float32", "test", 1), Machine("cpu", "bfloat16", "test", 1)


def untrained(task: str, folder: Path, count: int):
    """(task, model, rows, examples) of a random model, whose answers are as narrow as they come."""
    rows = tiny.rows_for(task, count)
    kind = TASKS[task]
    made = kind(kind.Options(max_length=32, **({"stride": 8} if "stride" in kind.Options.model_fields else {})))
    made.learn(rows)
    torch.manual_seed(0)
    model = METHODS["full"](METHODS["full"].Options()).apply(made.build(resolve(str(folder)), {}), made.head())
    use_exact_head(model, made.head().modules)
    return made, model, rows, made.encode(rows, tiny.wordpiece())


ENCODED = ["classification", "question-answering", "token-classification"]  # their answers are choices


@pytest.mark.parametrize("task", ENCODED)
def test_bf16_gives_the_answers_of_fp32(models, task: str) -> None:
    made, model, rows, examples = untrained(task, models["bert"], 300)
    (exact, loss), (given, near) = (
        answer_examples(made, Work(rows, examples, model, None, machine, 2048)) for machine in (FP32, BF16)
    )
    same = sum(a.prediction == b.prediction for a, b in zip(exact, given))
    assert len(exact) == len(given) == 300
    assert same >= 297
    assert near == pytest.approx(loss, rel=0.02)
    off = [abs(a.confidence - b.confidence) for a, b in zip(exact, given) if a.prediction == b.prediction]
    assert max(off) < 0.1


def test_doubt_is_where_two_labels_are_near() -> None:
    kind = TASKS["classification"]
    made = kind(kind.Options(), {"labels": ["a", "b", "c"]})
    logits = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    ordered = logits.sort(1).values
    expected = torch.nonzero(ordered[:, 2] - ordered[:, 1] < DOUBT)[:, 0].tolist()
    assert made.unsure(None, made.reduce(logits, {})).tolist() == expected
    assert 5 < len(expected) < 200
    sure = torch.tensor([[900.0, -900.0, 0.0]])
    assert made.unsure(None, made.reduce(sure, {})).tolist() == []


@pytest.mark.parametrize("threshold", [None, 0.0, 1.5])
def test_doubt_is_where_two_spans_or_span_and_threshold_are_near(threshold: float | None) -> None:
    kind = TASKS["question-answering"]
    made = kind(kind.Options(max_length=24, stride=8), {"no_answer_threshold": threshold})
    rows = tiny.rows_for("question-answering", 60)
    examples = made.encode(rows, tiny.wordpiece())
    batch = examples.batch(range(len(examples)))
    logits = 2 * torch.randn(*batch["input_ids"].shape, 2, generator=torch.Generator().manual_seed(1))
    expected = []
    for number in range(len(rows)):
        spans, none = [], np.inf
        for i in np.flatnonzero(examples.rows == number):
            start, end = logits[i].double().numpy().T
            places = [t for t in range(1, examples.lengths[i]) if examples.columns["allowed"][i][t]]
            spans += [start[a] + end[b] for a in places for b in places if 0 <= b - a < 30]
            none = min(none, start[0] + end[0])
        best, second = sorted(spans)[:-3:-1]
        if best - second < DOUBT or (threshold is not None and abs(none - best - threshold) < DOUBT):
            expected += np.flatnonzero(examples.rows == number).tolist()
    assert made.unsure(examples, made.reduce(logits, batch)).tolist() == sorted(expected)
    assert 5 < len(expected) < len(examples) / 2


def test_only_some_examples_are_those_examples(models) -> None:
    _, model, _, examples = untrained("question-answering", models["bert"], 20)
    some = np.array([5, 2, 11])
    part = examples.only(some)
    assert part.rows.tolist() == examples.rows[some].tolist()
    whole = {int(i): line for ids, _, out in run(model, examples, FP32, 500) for i, line in zip(ids, out)}
    for ids, _, out in run(model, part, FP32, 500):
        for i, line in zip(ids, out):
            n = part.lengths[i]
            assert float((line[:n] - whole[int(some[i])][:n]).abs().max()) < 1e-5
