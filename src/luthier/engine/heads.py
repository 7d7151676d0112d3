"""What follows the backbone: the stock head's modules, or a head of our own on features that are not trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class HeadSpec:
    """What a task asks of any head: its modules in the stock class, how many numbers it gives, and from what.

    `modules` are names or dotted paths ("classifier", "cls.predictions"); none where the stock class has no head of
    the task's own. `pooled`: one vector a row (made of its tokens'); otherwise one vector a token. `peft_type`
    is peft's word for the task; "" where it has none.
    """

    modules: tuple[str, ...]
    outputs: int
    pooled: bool
    peft_type: str
    pooling: str = "mean"  # how tokens become one vector: mean, cls (the first) or last
    residual: bool = False  # another head adds to features of its own width, and begins by adding nothing

    @property
    def trained(self) -> tuple[str, ...]:
        """The modules that are trained whatever the method: the head, and a pooler on the way to it.

        A pooler lies between backbone and head, and many base models come without one.
        """
        return (*self.modules, "pooler") if self.modules else ()


def lies_in(name: str, modules: Iterable[str]) -> bool:
    """Whether the module or parameter `name` is, or lies in, one of `modules` (names or dotted paths)."""
    return any(f".{module}." in f".{name}." for module in modules)


def tied_outside(model: nn.Module, modules: Sequence[str]) -> set[int]:
    """id of every parameter of `modules` that is one with a parameter elsewhere, as an output embedding may be."""
    named = list(model.named_parameters(remove_duplicate=False))
    elsewhere = {id(p) for name, p in named if not lies_in(name, modules)}
    return {id(p) for name, p in named if lies_in(name, modules)} & elsewhere


def head_parameters(model: nn.Module, head: HeadSpec) -> dict[str, nn.Parameter]:
    """Name -> parameter of what `head.trained` names in this model; what is tied to the backbone is the backbone's."""
    tied = tied_outside(model, head.trained)
    return {name: p for name, p in model.named_parameters() if lies_in(name, head.trained) and id(p) not in tied}


def head_modules(model: nn.Module, head: HeadSpec) -> list[str]:
    """Full names of the largest modules of `head.trained` that hold parameters, none of them tied to the backbone."""
    tied = tied_outside(model, head.trained)
    found: list[str] = []
    for name, module in model.named_modules():
        own = {id(p) for p in module.parameters()}
        if lies_in(name, head.trained) and own and not own & tied and not lies_in(name, found):
            found.append(name)
    return found


def use_exact_head(model: nn.Module, names: Sequence[str]) -> None:
    """Let the linear layers of the head modules `names` compute in fp32 inside autocast.

    They are a sliver of the work, and logits rounded to the 8 bits of bf16 make ties where there are none: one
    answer in eighty came out differently. A layer as wide as the vocabulary is no sliver, and stays as it is.
    """
    whole = getattr(getattr(model, "config", None), "vocab_size", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and lies_in(name, names) and module.out_features != whole:
            module.forward = partial(_exact, module)  # type: ignore[method-assign]


def _exact(layer: nn.Linear, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return nn.functional.linear(x.float(), layer.weight, layer.bias)


def pool(states: Tensor, mask: Tensor | None, pooling: str = "mean") -> Tensor:
    """rows x length x width and rows x length (1: token) to rows x width: the tokens' mean, the first, or the last."""
    if pooling == "cls":
        return states[:, 0]
    if mask is None:
        return states.mean(1) if pooling == "mean" else states[:, -1]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    weight = mask.to(states.dtype)[..., None]
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


class Head(nn.Module):
    """Features to logits: standardised, then linear, or linear - ReLU - dropout - linear with a hidden layer.

    With `residual` these are added to the features, and are zero at first.

    `mean` and `std` are those of the training features, measured once: raw features of an encoder differ in
    scale by a factor of ten, and one learning rate does not suit them all.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, outputs: int, hidden: int, dropout: float, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        if hidden:
            self.layers = nn.Sequential(
                nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
            )
        else:
            self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))
        if residual:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)

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
            made = self.layers((features.float() - self.mean) / self.std)
            return features.float() + made if self.residual else made


class FeatureModel(nn.Module):
    """A frozen backbone and a Head, called like a stock model: `.logits` is rows (x length) x outputs."""

    def __init__(self, backbone: nn.Module, head: Head, pooled: bool, pooling: str = "mean") -> None:
        super().__init__()
        self.backbone, self.head, self.pooled, self.pooling = backbone, head, pooled, pooling
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
        return pool(states, inputs.get("attention_mask"), self.pooling) if self.pooled else states

    def forward(self, hidden: Tensor | None = None, **inputs: Tensor) -> SimpleNamespace:
        """`hidden`: features that were computed before, in place of `inputs`."""
        return SimpleNamespace(logits=self.head(self.features(**inputs) if hidden is None else hidden))
