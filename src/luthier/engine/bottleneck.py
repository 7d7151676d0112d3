"""Bottleneck adapters: a narrow detour behind the output projections of a transformer's layers.

Houlsby et al. 2019 (arxiv.org/abs/1902.00751) put one behind the attention and one behind the feed-forward part of
every layer, before each is added to what went in; Pfeiffer et al. 2021 (arxiv.org/abs/2005.00247) found one behind the
feed-forward part to be enough. Here each starts as the identity: what it adds is zero until it is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from luthier.errors import ModelError

from .dropout import CheapDropout
from .layers import stacks

Places = Literal["houlsby", "pfeiffer"]
# How the names of output projections end, over the families of transformers.
_ATTENTION = (
    "attention.output.dense",  # BERT, RoBERTa, ELECTRA, DeBERTa, CamemBERT
    "attention.out_lin",  # DistilBERT
    "attention.dense",  # ALBERT, GPT-NeoX
    "attention.attn.o",  # MPNet
    "attn.Wo",  # ModernBERT
    "attn.c_proj",  # GPT-2
    "self_attn.o_proj",  # LLaMA, Qwen, Mistral, Gemma, Phi-3, OLMo
    "self_attn.dense",  # Phi
    "self_attn.out_proj",  # BART, Marian, OPT
    "encoder_attn.out_proj",
    "SelfAttention.o",  # T5
    "EncDecAttention.o",
    "attn.attention.out_proj",  # GPT-Neo
    "attn.out_proj",  # GPT-J
    "self_attention.dense",  # BLOOM, Falcon
)
_FEED_FORWARD = (
    "output.dense",
    "ffn.lin2",
    "ffn_output",
    "mlp.Wo",
    "mlp.c_proj",
    "mlp.down_proj",
    "mlp.fc2",
    "fc2",
    "DenseReluDense.wo",
    "mlp.fc_out",
    "mlp.dense_4h_to_h",
)


class Bottleneck(nn.Module):
    """x + up(activation(down(x))), rows x length x width in and out."""

    def __init__(self, width: int, size: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        self.dropout = CheapDropout(dropout)
        self.activation = getattr(torch, activation, None) or getattr(nn.functional, activation)
        self.on = True
        nn.init.normal_(self.down.weight, std=width**-0.5)
        for still in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(still)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.dropout(self.activation(self.down(x)))) if self.on else x


def output_projections(model: nn.Module, places: Places) -> list[str]:
    """Full names of the projections that an adapter goes behind, in the order of the layers.

    ModelError naming the class where a layer has none that is known.
    """
    found: list[str] = []
    for stack in stacks(model):
        for i, layer in enumerate(stack.layers):
            names = [name for name, module in layer.named_modules() if _width(module)]
            attention = [name for name in names if _ends(name, _ATTENTION)]
            forward = [name for name in names if _ends(name, _FEED_FORWARD) and name not in attention]
            if not forward or (places == "houlsby" and not attention):
                raise ModelError(
                    f"layer {i + 1} of {stack.name} has no output projection of a name that is known "
                    f"({', '.join(names[:12])})",
                    where=type(model).__name__,
                    fix="method: lora finds its places in any model",
                )
            chosen = [*attention, *forward] if places == "houlsby" else forward
            found += [f"{stack.name}.{i}.{name}" for name in names if name in chosen]
    return found


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return any(f".{name}".endswith(f".{ending}") for ending in endings)


def _width(module: nn.Module) -> int:
    """How many numbers a projection gives; 0 for any other module."""
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, Conv1D):
        return int(module.nf)
    return module.out_features if isinstance(module, nn.Linear) else 0


def insert(model: nn.Module, places: Places, size: int, activation: str, dropout: float) -> list[str]:
    """Put an adapter of `size` behind every output projection, as its submodule `adapter`; their names."""
    names = output_projections(model, places)
    for name in names:
        projection = model.get_submodule(name)
        adapter = Bottleneck(_width(projection), size, activation, dropout)
        device = next(projection.parameters()).device
        projection.add_module("adapter", adapter.to(device))
        projection.register_forward_hook(_adapt)
    return names


def _adapt(projection: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return projection.adapter(output)  # type: ignore[operator]


def bottlenecks(model: nn.Module) -> list[Bottleneck]:
    return [module for module in model.modules() if isinstance(module, Bottleneck)]


@contextmanager
def without_bottlenecks(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes as if it had no adapters."""
    adapters = bottlenecks(model)
    for adapter in adapters:
        adapter.on = False
    try:
        yield
    finally:
        for adapter in adapters:
            adapter.on = True
