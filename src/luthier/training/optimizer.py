"""AdamW and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from luthier.errors import ModelError, RunError


def make_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019, arxiv.org/abs/1711.05101) over what is trained alone.

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


_ENTRIES = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps for each parameter


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """The optimizer's state as `parameter name/entry` -> tensor; `names` maps id(parameter) to its name.

    A parameter that has had no gradient yet has the zeros that AdamW begins with.
    """
    out: dict[str, Tensor] = {}
    for parameter in _parameters(optimizer):
        state = optimizer.state.get(parameter) or {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        out |= {f"{names[id(parameter)]}/{entry}": state[entry].detach() for entry in _ENTRIES}
    return out


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, named: dict[str, nn.Parameter], saved: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave. RunError unless every trained parameter has all its entries."""
    own = {id(p) for p in _parameters(optimizer)}
    shapes = {
        f"{name}/{entry}": () if entry == "step" else tuple(p.shape)
        for name, p in named.items()
        for entry in _ENTRIES
        if id(p) in own
    }
    odd = sorted(set(shapes) ^ set(saved)) or sorted(k for k in shapes if tuple(saved[k].shape) != shapes[k])
    if odd:
        raise RunError(
            f"{len(odd)} entries of the optimizer do not fit what is trained, the first is {odd[0]}",
            where="checkpoint",
            fix="restore the recipe that the run began with, or train again with --out NEW",
        )
    for name, parameter in named.items():
        if id(parameter) in own:
            state = {entry: saved[f"{name}/{entry}"].to(parameter.device) for entry in _ENTRIES}
            optimizer.state[parameter] = state


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
