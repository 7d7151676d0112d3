"""The shape of a model from its config.json and the headers of its weights: nothing is loaded, torch is not needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.models.kinds import kind_of, read_config
from luthier.models.weights import Tensor, read_tensors, weight_files

Family = Literal["encoder", "llama", "decoder", "t5", "bart"]

_LAYER = re.compile(r"\.(\d+)\.")
_EMBEDDING = re.compile(r"(^|\.)([a-z_]*embed[a-z_]*|shared|wte|wpe|lm_head|relative_attention_bias)(\.|$)")
_HEADS = ("classifier", "qa_outputs", "pooler", "score", "cls", "lm_head")
_T5 = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "t5gemma")
_JOINED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. `layers` are the encoder's, or a decoder's own; `decoder_layers` only an encoder-decoder's.

    `tensors` are the weights as their headers have them; `fast`: its layers can be computed by `decoder_layer.py`.
    """

    kind: str
    family: Family
    layers: int
    decoder_layers: int
    width: int
    inner: int
    heads: int
    groups: int  # heads of keys and values
    head_width: int
    vocabulary: int
    fast: bool
    tensors: Mapping[str, Tensor]

    @property
    def parameters(self) -> int:
        return _count(self.tensors.values())

    @property
    def in_layers(self) -> int:
        """Weights that are multiplied with hidden states in some layer."""
        return _count(t for name, t in self.tensors.items() if _LAYER.search(name) and len(t.shape) == 2)

    @property
    def low(self) -> bool:
        """Whether the weights were saved in bf16, so that all of them are bf16 numbers."""
        return all(t.dtype == "BF16" for t in self.tensors.values() if t.dtype[0] in "FB" and len(t.shape) == 2)

    def last_layers(self, count: int) -> int:
        """The weights of the last `count` layers and of what follows them."""
        total = self.layers + self.decoder_layers
        kept = 0
        for name, tensor in self.tensors.items():
            found = _LAYER.search(name)
            if found:
                depth = int(found[1]) + (self.layers if self.decoder_layers and "decoder" in name else 0)
                kept += tensor.elements if depth >= total - count else 0
            elif not _EMBEDDING.search(name):
                kept += tensor.elements
        return kept

    def low_rank(self, rank: int, targets: Iterable[str] = ()) -> int:
        """The numbers of low-rank updates to all linear layers, or to those whose names end as `targets` do."""
        return sum(rank * sum(t.shape) for t in self._updated(targets))

    def updates(self, targets: Iterable[str] = ()) -> float:
        """Low-rank updates a layer."""
        return len(self._updated(targets)) / max(1, self.layers + self.decoder_layers)

    def _updated(self, targets: Iterable[str]) -> list[Tensor]:
        ends = tuple(f".{one}.weight" for one in targets)
        return [
            tensor
            for name, tensor in self.tensors.items()
            if len(tensor.shape) == 2
            and _LAYER.search(name)
            and not _EMBEDDING.search(name)
            and not any(f".{head}." in f".{name}" for head in _HEADS)
            and (not ends or f".{name}".endswith(ends))
        ]


def shape_of(folder: Path) -> Shape:
    """The shape of the model in `folder`; ModelError as `read_config` and `weight_files` raise it."""
    config = read_config(folder)
    tensors = read_tensors(weight_files(folder))
    kind = kind_of(config, str(folder))
    size = _Sizes(config)
    width = size("hidden_size", "d_model", "n_embd", "dim", default=768)
    layers = size("num_hidden_layers", "encoder_layers", "n_layer", "n_layers", "num_layers", default=12)
    heads = size("num_attention_heads", "encoder_attention_heads", "n_head", "n_heads", "num_heads", default=12)
    both = kind == "encoder-decoder"
    joined = {part for name in tensors for part in name.split(".")}
    gated = set(_JOINED) <= joined
    family: Family = "encoder"
    if both:
        family = "t5" if config.get("model_type") in _T5 else "bart"
    elif kind == "decoder":
        family = "llama" if gated or "rms_norm_eps" in config else "decoder"
    inner = size("intermediate_size", "encoder_ffn_dim", "d_ff", "n_inner", "hidden_dim", "ffn_dim", default=4 * width)
    return Shape(
        kind=kind,
        family=family,
        layers=layers,
        decoder_layers=size("decoder_layers", "num_decoder_layers", default=layers) if both else 0,
        width=width,
        inner=inner,
        heads=heads,
        groups=size("num_key_value_heads", default=heads),
        head_width=size("head_dim", "d_kv", default=max(1, width // heads)),
        vocabulary=size("vocab_size", default=30_000),
        fast=gated and not {"q_norm", "pre_feedforward_layernorm"} & joined and not config.get("attention_dropout"),
        tensors=tensors,
    )


class _Sizes:
    """Positive whole numbers of a config under the names that architectures have for them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def __call__(self, *names: str, default: int) -> int:
        for name in names:
            value = self.config.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return default


def _count(tensors: Iterable[Tensor]) -> int:
    return sum(t.elements for t in tensors if t.dtype.startswith(("F", "BF")))
