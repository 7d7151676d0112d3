"""AdamW over what is trained: its groups, its rate, and that its state goes to disk and back whole."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from luthier.errors import ModelError, RunError
from luthier.methods import METHODS
from luthier.models import resolve
from luthier.tasks import TASKS
from luthier.training.optimizer import (
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    rate,
    set_rate,
)


def model_with_idle_part() -> nn.ModuleDict:
    torch.manual_seed(0)
    parts = {
        "used": nn.Linear(4, 3),
        "norm": nn.LayerNorm(3),
        "idle": nn.Linear(2, 2),
        "frozen": nn.Linear(2, 2),
    }
    model = nn.ModuleDict(parts)
    model["frozen"].requires_grad_(False)
    return model


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def take_steps(model: nn.ModuleDict, optimizer: torch.optim.Optimizer, first: int, count: int) -> None:
    for step in range(first, first + count):
        torch.manual_seed(step)
        model["norm"](model["used"](torch.randn(5, 4))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return optimizer_tensors(optimizer, {id(p): name for name, p in trained(model).items()})


def test_vectors_are_not_decayed_and_the_frozen_are_left_out() -> None:
    model = model_with_idle_part()
    optimizer = make_optimizer(model, 1e-3, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {g["weight_decay"]: {names[id(p)] for p in g["params"]} for g in optimizer.param_groups}
    assert groups == {
        0.1: {"used.weight", "idle.weight"},
        0.0: {"used.bias", "norm.weight", "norm.bias", "idle.bias"},
    }
    assert all(g["fused"] and g["lr"] == 1e-3 for g in optimizer.param_groups)
    set_rate(optimizer, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.5]
    only_vectors = nn.LayerNorm(3)
    assert [g["weight_decay"] for g in make_optimizer(only_vectors, 1e-3, 0.1).param_groups] == [0.0]


def test_nothing_trained_is_refused() -> None:
    for model in (nn.Linear(2, 2).requires_grad_(False), nn.ReLU()):
        with pytest.raises(ModelError, match="no weight is trained"):
            make_optimizer(model, 1e-3, 0.0)


def test_the_rate_rises_and_falls() -> None:
    linear = [rate(step, 10, 0.2, "linear") for step in range(10)]
    assert linear == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    cosine = [rate(step, 10, 0.2, "cosine") for step in range(10)]
    assert cosine == pytest.approx([1 / 3, 2 / 3] + [0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])
    assert [rate(step, 10, 0.2, "constant") for step in range(10)] == pytest.approx([1 / 3, 2 / 3] + [1.0] * 8)
    assert rate(0, 10, 0.0, "linear") == 1.0
    seen = 0
    for schedule in ("linear", "cosine", "constant"):
        for steps in (1, 2, 7, 1000):
            for warmup in (0.0, 0.06, 0.5, 1.0):
                rates = [rate(step, steps, warmup, schedule) for step in range(steps)]
                peak = rates.index(max(rates))
                assert all(0 < r <= 1 for r in rates)  # no step is wasted on a rate of 0
                assert rates[: peak + 1] == sorted(rates[: peak + 1])
                assert rates[peak:] == sorted(rates[peak:], reverse=True)
                assert warmup == 1 or max(rates) == 1
                seen += 1
    assert seen == 48


def test_the_state_goes_on_bit_for_bit() -> None:
    """Three steps, a copy through tensors, three more: as six without a stop, idle weights included."""
    whole, cut = model_with_idle_part(), model_with_idle_part()
    first = make_optimizer(whole, 1e-2, 0.1)
    take_steps(whole, first, 0, 6)
    before = make_optimizer(cut, 1e-2, 0.1)
    take_steps(cut, before, 0, 3)
    saved = {name: value.clone() for name, value in state_of(cut, before).items()}
    assert len(saved) == 3 * len(trained(cut)) == 18
    assert not saved["idle.weight/exp_avg"].any() and saved["idle.weight/step"] == 0
    after = make_optimizer(cut, 1e-2, 0.1)
    load_optimizer_tensors(after, trained(cut), saved)
    take_steps(cut, after, 3, 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, cut.state_dict()[name]), name
    ours, theirs = state_of(whole, first), state_of(cut, after)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(ours[name].dtype == theirs[name].dtype for name in ours)

    # An idle weight that begins to move later begins as it would have.
    for model, optimizer in ((whole, first), (cut, after)):
        model["idle"](torch.ones(1, 2)).square().sum().backward()
        optimizer.step()
    assert torch.equal(whole["idle"].weight, cut["idle"].weight)


def test_a_state_that_does_not_fit_is_refused() -> None:
    model = model_with_idle_part()
    optimizer = make_optimizer(model, 1e-2, 0.1)
    take_steps(model, optimizer, 0, 1)
    saved = state_of(model, optimizer)
    bad = [{k: v for k, v in saved.items() if k != key} for key in saved]  # any one entry is missing
    bad += [{k: v for k, v in saved.items() if not k.startswith("norm.")}, {}]
    foreign = ("frozen.bias/exp_avg", "other/step", "used.bias/max_exp_avg_sq")
    bad += [{**saved, name: torch.zeros(2)} for name in foreign]
    bad += [{**saved, "used.weight/exp_avg": torch.zeros(3, 3)}, {**saved, "used.bias/step": torch.zeros(1)}]
    assert len(bad) == 18 + 2 + 3 + 2
    for state in bad:
        fresh = make_optimizer(model, 1e-2, 0.1)
        with pytest.raises(RunError, match="do not fit what is trained, the first is "):
            load_optimizer_tensors(fresh, trained(model), state)
        assert not fresh.state


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_with_layer_decay_each_layer_has_a_share_of_the_rate_above_it(models, architecture: str, method: str) -> None:
    kind = TASKS["classification"]
    task = kind(kind.Options(), {"labels": ["a", "b"]})
    way = METHODS[method](METHODS[method].Options())
    model = way.apply(task.build(resolve(str(models[architecture])), {}), task.head())
    optimizer = make_optimizer(model, 1e-3, 0.1, layer_decay=0.5)
    set_rate(optimizer, 2e-3)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    trained = {name: rates.pop(id(p)) for name, p in model.named_parameters() if p.requires_grad}
    assert not rates
    expected = {"embeddings": 2e-3 / 8, "layer.0.": 2e-3 / 4, "layer.1.": 2e-3 / 2}
    counted = dict.fromkeys([*expected, "head"], 0)
    for name, rate_of_it in trained.items():
        place = next((part for part in expected if part in name), "head")
        assert rate_of_it == pytest.approx(expected.get(place, 2e-3)), name
        counted[place] += 1
    assert all(counted[place] for place in ("layer.0.", "layer.1.", "head"))
    assert bool(counted["embeddings"]) == (method == "full")
    decays = {g["weight_decay"] for g in optimizer.param_groups}
    assert decays == {0.0, 0.1}


def test_layer_decay_without_layers_is_refused(models) -> None:
    kind = TASKS["classification"]
    task = kind(kind.Options(), {"labels": ["a", "b"]})
    model = task.build(resolve(str(models["bert"])), {})
    model.base_model.requires_grad_(False)
    with pytest.raises(ModelError, match="only weights above the layers are trained"):
        make_optimizer(model, 1e-3, 0.1, layer_decay=0.9)
    assert len(make_optimizer(model, 1e-3, 0.1).param_groups) == 2
