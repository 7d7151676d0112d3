"""A head of our own on features of a backbone that is not trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class HeadSpec:
    """What a task asks of any head: its modules in the stock class, how many numbers it gives, and from what.

    `pooled`: one vector a row (the mean over its tokens); otherwise one vector a token. `peft_type` is peft's
    word for the task.
    """

    modules: tuple[str, ...]
    outputs: int
    pooled: bool
    peft_type: str


def use_exact_head(model: nn.Module, names: Sequence[str]) -> None:
    """Let the linear layers of the head modules `names` compute in fp32 inside autocast.

    They are a sliver of the work, and logits rounded to the 8 bits of bf16 make ties where there are none: one
    answer in eighty came out differently.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and set(names) & set(name.split(".")):
            module.forward = partial(_exact, module)  # type: ignore[method-assign]


def _exact(layer: nn.Linear, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return nn.functional.linear(x.float(), layer.weight, layer.bias)


def mean_pool(states: Tensor, mask: Tensor | None) -> Tensor:
    """rows x length x width and rows x length (1: token) to rows x width, padding left out."""
    if mask is None:
        return states.mean(1)
    weight = mask.to(states.dtype)[..., None]
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


class Head(nn.Module):
    """Features to logits: standardised, then linear, or linear - ReLU - dropout - linear with a hidden layer.

    `mean` and `std` are those of the training features, measured once: raw features of an encoder differ in
    scale by a factor of ten, and one learning rate does not suit them all.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, outputs: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        if hidden:
            self.layers = nn.Sequential(
                nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
            )
        else:
            self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))

    @torch.no_grad()
    def measure(self, features: Sequence[Tensor]) -> None:
        """Take mean and spread from training features (each width, or length x width)."""
        width = self.mean.numel()
        total, squares, count = torch.zeros(width).double(), torch.zeros(width).double(), 0
        for some in features:
            flat = some.double().view(-1, width).cpu()
            total, squares, count = total + flat.sum(0), squares + flat.square().sum(0), count + len(flat)
        mean = total / max(1, count)
        self.mean.copy_(mean)
        self.std.copy_((squares / max(1, count) - mean.square()).clamp(min=1e-12).sqrt().clamp(min=1e-3))

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.layers((features.float() - self.mean) / self.std)


class FeatureModel(nn.Module):
    """A frozen backbone and a Head, called like a stock model: `.logits` is rows (x length) x outputs."""

    def __init__(self, backbone: nn.Module, head: Head, pooled: bool) -> None:
        super().__init__()
        self.backbone, self.head, self.pooled = backbone, head, pooled
        self.config: Any = backbone.config
        backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> FeatureModel:
        """The head alone is put in training mode: a frozen backbone has no dropout."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def features(self, **inputs: Tensor) -> Tensor:
        """rows x width, or rows x length x width if each token is judged."""
        states = self.backbone(**inputs).last_hidden_state
        return mean_pool(states, inputs.get("attention_mask")) if self.pooled else states

    def forward(self, hidden: Tensor | None = None, **inputs: Tensor) -> SimpleNamespace:
        """`hidden`: features that were computed before, in place of `inputs`."""
        return SimpleNamespace(logits=self.head(self.features(**inputs) if hidden is None else hidden))
