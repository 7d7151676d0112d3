"""Weights that are not trained, kept in bf16 where that loses nothing.

Autocast turns a float32 weight into bf16 at every use, and only remembers the result where the weight is trained: a
frozen model reads all its weights twice and writes them once, in every forward pass. Most language models were
published in bf16, so their weights are bf16 numbers already; kept as such they take half the memory and need no
conversion. Outside autocast they are used in the type of what they meet, with the same values as before.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def keep_frozen_in_bf16(model: nn.Module) -> int:
    """Keep weight matrices that are not trained in bf16 if all their values are bf16 numbers; how many numbers are.

    Tied weights stay tied. Embeddings give what they gave before: float32. Meant for a model whose saved form does not
    hold these weights, for it changes the type they would be saved in.
    """
    apart = tuple(getattr(model, "_keep_in_fp32_modules", None) or ())
    holders: dict[int, list[tuple[str, nn.Module, str]]] = {}
    weights: dict[int, nn.Parameter] = {}
    for path, module in model.named_modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                holders.setdefault(id(weight), []).append((path, module, name))
                weights[id(weight)] = weight
    kept = 0
    for key, places in holders.items():
        weight = weights[key]
        if weight.requires_grad or weight.dtype != torch.float32 or weight.ndim != 2:
            continue
        if not all(_fits(path, module, name, apart) for path, module, name in places):
            continue
        short = weight.detach().to(torch.bfloat16)
        if not torch.equal(short.float(), weight.detach()):
            continue
        shared = nn.Parameter(short, requires_grad=False)
        for _, module, name in places:
            setattr(module, name, shared)
            module.forward = partial(_FORWARD[_kind(module)], module)
        kept += weight.numel()
    return kept


def _fits(path: str, module: nn.Module, name: str, apart: tuple[str, ...]) -> bool:
    """Whether this module's forward is one of those below, and nothing has changed it."""
    plain = name == "weight" and _kind(module) in _FORWARD and "forward" not in vars(module)
    return plain and not set(apart) & set(path.split("."))


def _kind(module: nn.Module) -> str:
    """The class, where it is the plain one: subclasses do more."""
    kind = type(module)
    known = kind in (nn.Linear, nn.Embedding) or kind.__module__ == "transformers.pytorch_utils"
    return kind.__name__ if known else ""


def _linear(layer: Any, x: Tensor) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):
        return functional.linear(x, layer.weight, layer.bias)
    return functional.linear(x, layer.weight.to(x.dtype), layer.bias)


def _conv1d(layer: Any, x: Tensor) -> Tensor:
    """GPT-2's linear layer, whose weight stands the other way round."""
    weight = layer.weight if torch.is_autocast_enabled(x.device.type) else layer.weight.to(x.dtype)
    return torch.addmm(layer.bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], layer.nf)


def _embedding(layer: Any, ids: Tensor) -> Tensor:
    return nn.Embedding.forward(layer, ids).float()


_FORWARD = {"Linear": _linear, "Conv1D": _conv1d, "Embedding": _embedding}
