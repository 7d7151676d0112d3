"""AdamW and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from luthier.errors import ModelError


def make_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019, arxiv.org/abs/1711.05101) over what is trained, and nothing else.

    Vectors (biases, norms) are not decayed. ModelError if nothing is trained.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ModelError("no weight is trained", where="method", fix="choose another method or other targets")
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, fused=True)


def rate(step: int, steps: int, warmup_ratio: float, schedule: str) -> float:
    """The share of the peak learning rate at `step` (0-based) of `steps`: rises from 0, then falls to 0."""
    warmup = round(steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    left = (steps - step) / max(1, steps - warmup)
    return left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """The optimizer's state as `parameter name/entry` -> tensor; `names` maps id(parameter) to its name."""
    return {
        f"{names[id(p)]}/{entry}": value.detach()
        for p, state in optimizer.state.items()
        for entry, value in state.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, named: dict[str, nn.Parameter], saved: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; every entry must belong to a trained parameter."""
    states: dict[str, dict[str, Any]] = {}
    for key, value in saved.items():
        name, _, entry = key.rpartition("/")
        states.setdefault(name, {})[entry] = value
    for name, state in states.items():
        parameter = named[name]
        optimizer.state[parameter] = {
            entry: value if entry == "step" and parameter.device.type == "cpu" else value.to(parameter.device)
            for entry, value in state.items()
        }
