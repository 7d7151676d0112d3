"""Elastic weights and distillation: their formulas, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from luthier.engine.batches import Examples
from luthier.engine.device import Machine
from luthier.errors import RunError
from luthier.training.forgetting import TEACHER, Distilled, Elastic, ForgettingOptions, with_teacher

FP32 = Machine("cpu", "float32", "test", 1)


class Plain:
    """Cross-entropy of two outputs."""

    couples = False

    def weights(self, examples):
        return np.ones(len(examples))

    def forward(self, model, batch):
        return model(batch["x"])

    def loss(self, logits, batch):
        return nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")


def examples(count: int) -> Examples:
    draw = np.random.default_rng(0)
    columns = {
        "x": list(draw.normal(size=(count, 3)).astype(np.float32)),
        "labels": list(draw.integers(0, 2, count)),
    }
    return Examples(columns, {}, np.arange(count), np.ones(count, dtype=int))


def test_importance_is_the_mean_squared_gradient_over_its_mean_and_its_pull_the_penalty_s_gradient() -> None:
    torch.manual_seed(0)
    model, old = nn.Linear(3, 2), examples(12)
    options = ForgettingOptions(method="ewc", strength=3.0, rows=12)
    elastic = Elastic.measure(model, Plain(), old, FP32, options, 7, lambda done, total: None)
    squares, of_bias = torch.zeros(2, 3), torch.zeros(2)
    for i in range(12):
        model.zero_grad()
        Plain().loss(model(old.batch([i])["x"]), old.batch([i])).backward()
        squares += model.weight.grad.square() / 12
        of_bias += model.bias.grad.square() / 12
    squares /= (squares.sum() + of_bias.sum()) / 8  # weights: their mean importance is 1
    assert torch.allclose(elastic.importance["weight"], squares, rtol=1e-5)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += torch.randn(2, 3)
    model.zero_grad()
    penalty = 3.0 / 2 * (squares * (model.weight - start).square()).sum()
    penalty.backward()
    expected = model.weight.grad.clone()
    model.weight.grad, model.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    elastic(model)
    assert torch.allclose(model.weight.grad, expected, atol=1e-6)
    assert float(model.bias.grad.abs().max()) == 0, "the bias has not moved"


class Apart(Plain):
    """A loss that tells examples apart: one alone has none."""

    couples = True

    def loss(self, logits, batch):
        return nn.functional.cross_entropy(logits @ logits.T, torch.arange(len(logits)), reduction="sum")


def test_importance_under_a_loss_that_tells_examples_apart_is_measured_on_several() -> None:
    torch.manual_seed(0)
    told: list[tuple[int, int]] = []
    options = ForgettingOptions(method="ewc", rows=40)
    elastic = Elastic.measure(nn.Linear(3, 2), Apart(), examples(60), FP32, options, 7, lambda *n: told.append(n))
    assert float(elastic.importance["weight"].min()) > 0
    assert told[-1] == (40, 40)


def test_rows_that_tell_no_weight_from_another_are_refused() -> None:
    options, alone = ForgettingOptions(method="ewc"), examples(1)
    with pytest.raises(RunError, match="sum to 0"):
        Elastic.measure(nn.Linear(3, 2), Apart(), alone, FP32, options, 7, lambda *n: None)


def test_distillation_adds_nothing_at_the_start_and_then_the_squared_difference_of_old_outputs() -> None:
    torch.manual_seed(0)
    model, data = nn.Linear(3, 4), examples(6)
    taught = with_teacher(model, Plain(), data, FP32, 64, lambda done, total: None)
    both = Distilled(Plain(), 2.0, num_old=3)
    batch = taught.batch(np.arange(6))
    plain = Plain().loss(model(batch["x"]), batch)
    assert float(both.loss(model(batch["x"]), batch)) == pytest.approx(float(plain), abs=1e-6)
    with torch.no_grad():
        model.bias[3] += 5.0  # a new label's output is free
        model.bias[0] += 1.0
    moved = both.loss(model(batch["x"]), batch) - Plain().loss(model(batch["x"]), batch)
    assert float(moved) == pytest.approx(2.0 * 6 * (1.0 / 3), rel=1e-5)


def test_distillation_of_tokens_leaves_padding_out() -> None:
    both = Distilled(Plain(), 1.0, num_old=2)
    both.objective = SimpleNamespace(loss=lambda logits, batch: logits.sum() * 0)
    logits, teacher = torch.ones(2, 3, 2), torch.zeros(2, 3, 2)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert float(both.loss(logits, {TEACHER: teacher, "attention_mask": mask})) == pytest.approx(2.0)
