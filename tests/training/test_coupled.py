"""A step whose loss hangs on all its rows together, cut in micro-batches: the gradient is that of the whole step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from loop_fakes import FP32

import tiny
from luthier.engine.batches import Examples, micro_batches
from luthier.engine.dropout import use_cheap_dropout
from luthier.engine.heads import FeatureModel
from luthier.engine.inference import keep_features
from luthier.methods import METHODS, learned
from luthier.models import resolve
from luthier.records import Row
from luthier.tasks import TASKS
from luthier.training import Training, TrainOptions, checkpoint, fit
from luthier.training.events import Step
from luthier.training.loop import _Stepper

ROWS = 16


def training(
    folder: Path,
    model: Path,
    dropout: float,
    token_budget: int,
    method: str = "full",
    rows: Sequence[Row] = (),
    **options: Any,
) -> Training:
    task = TASKS["embedding"](TASKS["embedding"].Options(max_length=64, **options), {"width": 32})
    rows = rows or tiny.rows_for("embedding", ROWS)
    torch.manual_seed(3)
    network = task.build(resolve(str(model)), {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0})
    use_cheap_dropout(network)
    network = METHODS[method](METHODS[method].Options()).apply(network, task.head())
    examples: Examples = task.encode(rows, tiny.wordpiece())
    if isinstance(network, FeatureModel):
        examples = keep_features(network, examples, FP32, 512)
        network.head.measure(examples.columns["a_hidden"])
    settings = {
        "epochs": 3,
        "batch_size": ROWS,
        "learning_rate": 1e-3,
        "save_steps": 1000,
        "dtype": "float32",
    }
    return Training(
        model=network,
        examples=examples,
        objective=task,
        options=TrainOptions(token_budget=token_budget, **settings),
        machine=FP32,
        seed=1,
        folder=folder,
        learned=learned,
        score=None,
        watched="loss",
        fixed={},
    )


def gradient(made: Training) -> tuple[float, dict[str, torch.Tensor], int]:
    """(loss, gradients, pieces) of one step over all rows, as the loop computes them."""
    trained = [p for p in made.model.parameters() if p.requires_grad]
    stepper = _Stepper(made, torch.optim.SGD(trained), trained)
    indices = np.arange(len(made.examples))
    stepper.weight = float(len(indices))
    made.model.train()
    torch.manual_seed(11)
    loss = stepper._backward(indices)
    pieces = micro_batches(indices, made.examples.lengths, int(made.options.token_budget))
    return loss, _gradients(made.model), len(pieces)


def by_hand(made: Training) -> tuple[float, dict[str, torch.Tensor]]:
    """The same with the graph of every piece kept in memory."""
    pieces = micro_batches(np.arange(ROWS), made.examples.lengths, int(made.options.token_budget))
    task = made.objective
    made.model.train()
    torch.manual_seed(11)
    outputs = torch.cat([task.forward(made.model, made.examples.batch(piece)) for piece in pieces])
    loss = task.loss(outputs, made.examples.batch(np.concatenate(pieces))) / ROWS
    loss.backward()
    return float(loss.detach()), _gradients(made.model)


def _gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def gap(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    assert max(float(g.abs().max()) for g in one.values()) > 1e-3
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("budget", [40, 100, 200])
def test_pieces_give_the_gradient_of_the_whole(models, tmp_path: Path, budget: int) -> None:
    whole = gradient(training(tmp_path, models["bert"], 0.0, 100_000))
    cut = gradient(training(tmp_path, models["bert"], 0.0, budget))
    assert whole[2] == 1 and cut[2] >= 3
    assert cut[0] == pytest.approx(whole[0], abs=1e-6)
    assert gap(cut[1], whole[1]) < 1e-6


def test_only_one_piece_at_a_time_keeps_what_its_gradient_needs(models, tmp_path: Path) -> None:
    made, kept = training(tmp_path, models["bert"], 0.0, 150), []
    forward = made.objective.forward
    made.objective.forward = lambda model, batch: kept.append(torch.is_grad_enabled()) or forward(model, batch)
    pieces = gradient(made)[2]
    assert kept == [False] * pieces + [True] * pieces


def test_dropout_included(models, tmp_path: Path) -> None:
    found, kept = (training(tmp_path, models["bert"], 0.3, 150) for _ in range(2))
    loss, gradients, pieces = gradient(found)
    expected, exact = by_hand(kept)
    assert pieces >= 3
    assert loss == pytest.approx(expected, abs=1e-6)
    assert gap(gradients, exact) < 1e-6


def test_other_masks_the_second_time_would_be_noticed(models, tmp_path: Path, monkeypatch) -> None:
    found, kept = (training(tmp_path, models["bert"], 0.3, 150) for _ in range(2))
    monkeypatch.setattr(checkpoint, "restore_random", lambda state: None)
    assert gap(gradient(found)[1], by_hand(kept)[1]) > 1e-3


def test_a_piece_that_saw_its_own_rows_alone_would_be_noticed(models, tmp_path: Path) -> None:
    whole, apart = (training(tmp_path, models["bert"], 0.0, budget) for budget in (100_000, 150))
    apart.objective.couples = False
    assert gap(gradient(apart)[1], gradient(whole)[1]) > 1e-3


def test_random_numbers_go_on_as_after_one_pass(models, tmp_path: Path) -> None:
    found, kept = (training(tmp_path, models["bert"], 0.3, 150) for _ in range(2))
    gradient(found)
    after = torch.rand(3)
    by_hand(kept)
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_two_processes_have_the_gradient_of_one(models, tmp_path: Path, count: int) -> None:
    """Theirs are averaged. With a single row one of them has nothing of its own."""
    beasts = iter(tiny.BEASTS)
    pairs = tiny.rows_for("embedding", count)
    rows = [Row(row.id, {**row.fields, "negative": f"a {next(beasts)} in the film"}) for row in pairs]
    loss, alone, _ = gradient(training(tmp_path, models["bert"], 0.0, 100_000, rows=rows))
    shares = []
    for rank in (0, 1):
        made = training(tmp_path, models["bert"], 0.0, 100_000, rows=rows)
        both = {"num_processes": 2, "process_index": rank, "prepare_model": lambda model: model}
        made.accelerator = SimpleNamespace(**both)
        own, share, _ = gradient(made)
        assert own == pytest.approx(loss, abs=1e-6)
        shares.append(share)
    assert gap({name: (shares[0][name] + shares[1][name]) / 2 for name in alone}, alone) < 1e-6


@pytest.mark.parametrize("method", ["full", "frozen"])
def test_a_run_is_the_same_whatever_the_token_budget(models, tmp_path: Path, method: str) -> None:
    losses = {}
    for budget in (150, 100_000):
        made = training(tmp_path / str(budget), models["bert"], 0.0, budget, method)
        losses[budget] = [event.loss for event in fit(made) if isinstance(event, Step)]
    assert len(losses[150]) == 3
    assert losses[150] == pytest.approx(losses[100_000], abs=2e-5)
    assert losses[150][-1] < losses[150][0]
