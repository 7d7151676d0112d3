"""AdamW and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from luthier.errors import ModelError, RunError


def make_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019, arxiv.org/abs/1711.05101) over what is trained alone.

    Vectors (biases, norms) are not decayed. With `layer_decay` below 1 the head learns at the full rate, the uppermost
    layer at that share of it, and so on down to the embeddings (discriminative fine-tuning: Howard and Ruder 2018,
    arxiv.org/abs/1801.06146; as a power of depth: Clark et al. 2020, arxiv.org/abs/2003.10555). ModelError if nothing
    is trained, or nothing of what is trained lies below the head.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise ModelError("no weight is trained", where="method", fix="choose another method or other targets")
    scales = _scales(model, [name for name, _ in trained], layer_decay)
    groups: list[dict[str, Any]] = []
    for scale in sorted(set(scales), reverse=True):
        own = [p for (_, p), s in zip(trained, scales) if s == scale]
        groups += [
            {"params": [p for p in own if p.ndim >= 2], "weight_decay": weight_decay, "scale": scale},
            {"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0, "scale": scale},
        ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, fused=True)


def _scales(model: nn.Module, names: list[str], layer_decay: float) -> list[float]:
    """Each parameter's share of the learning rate."""
    if layer_decay == 1.0:
        return [1.0] * len(names)
    from luthier.engine.layers import layer_of

    depths = layer_of(model)
    last = max(depths.values())
    if all(depths[name] == last for name in names):
        raise ModelError(
            "only weights above the layers are trained, so none would have a rate of its own",
            where="train.layer_decay",
            fix="leave it out, or choose a method that trains layers (full, lora)",
        )
    return [layer_decay ** (last - depths[name]) for name in names]


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
        group["lr"] = value * group["scale"]


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
