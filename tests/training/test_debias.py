"""Rows that weigh more or less, and an adversary on the way to a label: exact, and refused where they mean nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bias_cases
import luthier
import tiny
from luthier.errors import DataError, RecipeError
from luthier.models import load_tokenizer, resolve
from luthier.records import Row
from luthier.tasks import TASKS
from luthier.training.debias import ADVERSARY, Debiased, Weighted, _reversed, corrected, row_groups, row_weights
from luthier.training.options import TrainOptions


@pytest.fixture(scope="module")
def parts(models: dict[str, Path]) -> Any:
    """(model, task, examples, rows) of twelve sentences; the model as it comes, without dropout."""
    source = resolve(str(models["bert"]))
    task = TASKS["classification"](TASKS["classification"].Options(max_length=32))
    rows = [
        Row(row.id, {**row.fields, "w": i % 3, "who": "ab"[i % 2]}, "f.jsonl", i + 1)
        for i, row in enumerate(tiny.reviews(12))
    ]
    task.learn(rows)
    torch.manual_seed(0)
    model = task.build(source, {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    return model, task, task.encode(rows, load_tokenizer(source)), rows


def gradients(model: Any, objective: Any, examples: Any, cuts: list[list[int]]) -> dict[str, torch.Tensor]:
    model.train()
    model.zero_grad()
    weight = float(objective.weights(examples).sum())
    for cut in cuts:
        batch = examples.batch(np.array(cut))
        (objective.loss(objective.forward(model, batch), batch) / weight).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_weighted_loss_is_that_of_repeated_rows(parts: Any) -> None:
    """A row of weight 2 counts as two rows, one of weight 0 as none; and a step may be cut anywhere."""
    model, task, examples, rows = parts
    options = TrainOptions(row_weights="w")
    objective, weighed = corrected(task, model, task, options, examples, rows, len(rows))
    assert isinstance(objective, Weighted)
    once = gradients(model, objective, weighed, [list(range(12))])
    cut = gradients(model, objective, weighed, [[0, 5, 7], [1, 2, 3, 4], [6, 8, 9, 10, 11]])
    plain = [i for i in range(12) for _ in range(i % 3)]
    repeated = gradients(model, task, examples.only(np.array(plain)), [list(range(len(plain)))])
    assert len(once) == len(repeated) > 20
    for name, gradient in once.items():
        torch.testing.assert_close(gradient, cut[name], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(gradient, repeated[name], atol=1e-5, rtol=1e-4)


def test_the_adversary_pulls_the_other_way(parts: Any) -> None:
    """The encoder's gradient is the task's minus `strength` times the adversary's; the adversary's own is its own."""
    model, task, examples, rows = parts
    alone = gradients(model, task, examples, [list(range(12))])
    found = {}
    for strength in (1e-6, 1.0, 2.0):
        torch.manual_seed(1)
        options = TrainOptions(debias={"column": "who", "strength": strength})
        objective, grouped = corrected(task, model, task, options, examples, rows, len(rows))
        assert isinstance(objective, Debiased)
        found[strength] = gradients(model, objective, grouped, [list(range(12))])
        cut = gradients(model, objective, grouped, [[0, 5, 7], [1, 2, 3, 4], [6, 8, 9, 10, 11]])
        batch = grouped.batch(np.arange(12))
        with torch.no_grad():  # what is told is the task's loss
            told = objective.loss(objective.forward(model, batch), batch)
        assert told.item() == pytest.approx(task.loss(task.forward(model, batch), batch).item(), rel=1e-5)
        for name, gradient in found[strength].items():
            torch.testing.assert_close(gradient, cut[name], atol=1e-4, rtol=1e-3)
        objective.close()
    assert not hasattr(model, ADVERSARY)
    name = "bert.encoder.layer.0.output.dense.weight"
    one, two = (found[s][name] - alone[name] for s in (1.0, 2.0))
    torch.testing.assert_close(found[1e-6][name], alone[name], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(two, 2 * one, atol=1e-5, rtol=1e-3)
    assert float(one.norm()) > 1e-4
    for name in [name for name in found[1.0] if name.startswith((ADVERSARY, "classifier"))]:
        torch.testing.assert_close(found[1.0][name], found[2.0][name], atol=1e-5, rtol=1e-3)


def test_reversed_gradient() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    out = _reversed(x, 3.0)
    assert torch.allclose(out, x)
    out.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [-3.0, -3.0]


def test_columns_that_are_none(parts: Any) -> None:
    rows = [Row("a", {"w": 1, "who": "x"}, "f", 1), Row("b", {"w": "heavy"}, "f", 2)]
    with pytest.raises(DataError, match="f:2"):
        row_weights(rows, "w", 2)
    assert row_weights([rows[0], Row("c", {}, "", 0)], "w", 1).tolist() == [1.0, 1.0]
    with pytest.raises(RecipeError, match="no training row") as error:
        row_weights(rows, "v", 2)
    assert '"w"' in error.value.fix
    with pytest.raises(RecipeError, match="names 1 group,"):
        row_groups(rows, "who")
    assert row_groups([*rows, Row("d", {"who": "y"})], "who")[0].tolist() == [0, -100, 1]


@pytest.mark.parametrize(
    ("task", "method", "train", "said"),
    [
        ("embedding", "full", {"row_weights": "w"}, "not made of them"),
        ("pretraining", "full", {"row_weights": "w"}, "not made of them"),
        ("question-answering", "full", {"debias": {"column": "who"}}, "one vector a row"),
        ("classification", "frozen", {"debias": {"column": "who"}}, "leaves as it is"),
    ],
)
def test_where_it_means_nothing(task: str, method: str, train: dict[str, Any], said: str) -> None:
    from luthier.training.debias import refuse_unfit

    made = TASKS[task](TASKS[task].Options())
    with pytest.raises(RecipeError, match=said) as error:
        refuse_unfit(TrainOptions(**train), made, method)
    assert error.value.fix


@pytest.mark.parametrize("train", [{"row_weights": "w"}, {"debias": {"column": "who"}}], ids=["weights", "adversary"])
def test_a_run_that_is_carried_on_ends_the_same(
    train: dict[str, Any], models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the third step and resumed, with the adversary in its checkpoint: the same weights, bit for bit."""
    from luthier.run.job import Job
    from luthier.run.start import resume
    from luthier.training.events import Step

    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
    rows = [{**row, "w": 1 + i % 2} for i, row in enumerate(bias_cases.planted(120))]
    data = bias_cases.write(tmp_path / "rows.jsonl", rows)
    recipe = bias_cases.recipe(models["bert"], data, epochs=2, save_steps=2, **train)
    whole = luthier.train(recipe, out=tmp_path / "whole")
    emit = Job.emit

    def stop(job: Job, event: Any) -> None:
        emit(job, event)
        if isinstance(event, Step) and event.step == 3:
            job.watch.asked = 2

    with monkeypatch.context() as patch:
        patch.setattr(Job, "emit", stop)
        with pytest.raises(luthier.Interrupted):
            luthier.train(recipe, out=tmp_path / "cut")
    resume(str(tmp_path / "cut"))
    one, two = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == two and whole.evaluation
