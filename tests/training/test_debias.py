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
from luthier.training.debias import ADVERSARY, Debiased, Weighted, corrected, row_groups, row_weights, told_by_label
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


@pytest.mark.parametrize("weights", ["", "w"])
def test_the_adversary_pulls_no_longer_than_it_may(parts: Any, weights: str) -> None:
    """Of every row at most `strength` times the task's own gradient; the adversary's and the head's are their own."""
    model, task, examples, rows = parts
    found, own = {}, {}
    for strength in (1e-6, 0.5, 1.0, 100.0):
        torch.manual_seed(1)
        options = TrainOptions(row_weights=weights, debias={"column": "who", "strength": strength})
        objective, grouped = corrected(task, model, task, options, examples, rows, len(rows))
        assert isinstance(objective, Debiased)
        with torch.no_grad():  # an adversary that is sure, so that its pull is longer than it may be
            getattr(model, ADVERSARY)[2].weight.mul_(50)
        found[strength] = gradients(model, objective, grouped, [list(range(12))])
        own[strength] = at_vectors(model, objective, grouped)
        cut = gradients(model, objective, grouped, [[0, 5, 7], [1, 2, 3, 4], [6, 8, 9, 10, 11]])
        for name, gradient in found[strength].items():
            torch.testing.assert_close(gradient, cut[name], atol=1e-4, rtol=1e-3)
        batch = grouped.batch(np.arange(12))
        with torch.no_grad():  # what is told is the task's loss
            told = objective.loss(objective.forward(model, batch), batch)
        assert told.item() == pytest.approx(objective.inner.loss(task.forward(model, batch), batch).item(), rel=1e-5)
        objective.close()
    assert not hasattr(model, ADVERSARY)
    alone = own[1e-6]
    for strength in (0.5, 1.0):
        pulls, most = (own[strength] - alone).norm(dim=1), strength * alone.norm(dim=1)
        assert bool((pulls <= most * 1.01 + 1e-6).all()) and bool((pulls > most * 0.99).any())
    sizes = {name: float(gradient.norm()) for name, gradient in found[1.0].items()}
    theirs = max(size for name, size in sizes.items() if name.startswith(ADVERSARY))
    assert 0 < theirs < max(sizes.values())  # a clip of all gradients together is not filled by the adversary's
    assert float((own[1.0] - alone).norm()) > float((own[0.5] - alone).norm()) * 1.5
    for name in [name for name in found[1.0] if name.startswith((ADVERSARY, "classifier"))]:
        torch.testing.assert_close(found[1.0][name], found[100.0][name], atol=1e-5, rtol=1e-3)


def at_vectors(model: Any, objective: Debiased, examples: Any) -> torch.Tensor:
    """rows x width: the gradient at what the head is given."""
    model.train()
    batch = examples.batch(np.arange(12))
    logits = objective.forward(model, batch)
    (vectors,) = objective.given
    (found,) = torch.autograd.grad(objective.loss(logits, batch), vectors)
    return found


def test_the_pull_is_to_where_the_adversary_knows_what_the_label_alone_tells(parts: Any) -> None:
    """The gradient of the divergence of the two guesses; and what is added to the task's gradient goes down it."""
    model, task, examples, rows = parts
    torch.manual_seed(1)
    options = TrainOptions(debias={"column": "who", "strength": 0.5})
    objective, grouped = corrected(task, model, task, options, examples, rows, len(rows))
    assert isinstance(objective, Debiased)
    adversary, batch = getattr(model, ADVERSARY), grouped.batch(np.arange(12))
    known = objective._labels(batch["labels"])
    goal = (known @ objective.odds + objective.start).softmax(1)

    def apart(at: torch.Tensor) -> torch.Tensor:
        given = torch.cat([torch.nn.functional.layer_norm(at, at.shape[1:]), known], 1)
        return (goal * (goal.log() - adversary(given).log_softmax(1))).sum()

    objective.forward(model, batch)
    vectors = objective.given[0].detach().clone().requires_grad_()
    _, theirs = objective._game(vectors.detach().clone(), batch)
    (expected,) = torch.autograd.grad(apart(vectors), vectors)
    torch.testing.assert_close(theirs, expected, atol=1e-6, rtol=1e-4)
    added = at_vectors(model, objective, grouped)
    objective.strength = 1e-9
    added = added - at_vectors(model, objective, grouped)
    assert float((added * expected).sum()) > 0 and float(added.norm()) > 1e-4
    with torch.no_grad():  # a pull that is shorter than it may be is not made longer
        adversary[2].weight.mul_(1e-3)
    objective.strength = 1.0
    _, theirs = objective._game(vectors.detach().clone(), batch)
    added = at_vectors(model, objective, grouped)
    objective.strength = 1e-9
    torch.testing.assert_close(added - at_vectors(model, objective, grouped), theirs, atol=1e-6, rtol=1e-2)
    objective.close()


@pytest.mark.parametrize("column", ["who", "w"])
def test_rows_without_a_group_or_a_weight_do_not_play(parts: Any, column: str) -> None:
    model, task, examples, rows = parts
    blank = {"who": "", "w": 0}[column]
    some = [row if i < 8 else Row(row.id, {**row.fields, column: blank}) for i, row in enumerate(rows)]
    some = [Row(row.id, {**row.fields, "w": row["w"] + 1}) if i < 8 else row for i, row in enumerate(some)]
    options = TrainOptions(row_weights="w", debias={"column": "who", "strength": 1.0})
    found = {}
    for number in (8, 12):
        torch.manual_seed(1)
        objective, grouped = corrected(task, model, task, options, examples, some, len(some))
        assert isinstance(objective, Debiased)
        vectors = torch.randn(12, getattr(model, ADVERSARY)[0].in_features - 2, generator=torch.manual_seed(3))
        against, pull = objective._game(vectors[:number].clone(), grouped.batch(np.arange(number)))
        found[number] = (against.detach(), pull[:8])
        assert number == 8 or not pull[8:].any()
        objective.close()
    for one, other in zip(found[8], found[12]):
        torch.testing.assert_close(one, other)


def test_what_a_label_alone_tells_of_a_group() -> None:
    """The weighted shares of each label's rows; of several labels or numbers a linear guess."""
    labels = np.eye(2)[[0, 0, 0, 1, 1, 1]]
    group, weights = np.array([0, 0, 1, 1, 1, -100]), np.array([1.0, 1, 2, 1, 1, 9])
    odds, start = told_by_label(labels, group, weights, 3)
    shares = np.exp(labels @ odds + start)
    np.testing.assert_allclose(shares[0], [0.5, 0.5, 0], atol=1e-3)
    np.testing.assert_allclose(shares[5], [0, 1, 0], atol=1e-3)
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(4_000, 1))
    for groups, slope in ((2, 2.0), (3, 0.0)):
        chance = 1 / (1 + np.exp(-slope * numbers[:, 0] - 1))
        group = (draw.random(4_000) < chance).astype(int) * (groups - 1)
        odds, start = told_by_label(numbers, group, np.ones(4_000), groups)
        told = np.exp(numbers @ odds + start)
        told /= told.sum(1, keepdims=True)
        assert np.abs(told[:, groups - 1] - chance).mean() < 0.03 and np.abs(told.sum(1) - 1).max() < 1e-9
        assert groups == 2 or told[:, 1].max() < 1e-6  # no row is of it


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
        ("classification", "lora", {"debias": {"column": "who"}, "adversarial": "fgm"}, "is in it"),
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
