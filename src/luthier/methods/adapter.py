"""Bottleneck adapters between frozen layers (Houlsby et al. 2019, arxiv.org/abs/1902.00751)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Setting

from luthier.config import Section
from luthier.errors import ModelError

from .base import Method, refuse_unfit, stock_base, stock_predict

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    from .base import Build

WEIGHTS, SETTINGS = "adapter.safetensors", "adapter.json"


class AdapterOptions(Section):
    """Settings of bottleneck adapters."""

    name: Literal["adapter"] = "adapter"
    places: Literal["pfeiffer", "houlsby"] = Setting(
        "pfeiffer",
        description="pfeiffer: one behind each feed-forward part; houlsby: one behind each attention, too",
    )
    reduction_factor: int = Setting(
        16, ge=1, le=4096, description="an adapter is the model's width divided by this, but at least 8"
    )
    bottleneck: int = Setting(
        0, ge=0, le=65536, description="width of an adapter in numbers; 0: as reduction_factor says"
    )
    activation: Literal["relu", "gelu", "silu", "tanh"] = Setting("relu", description="between an adapter's two layers")
    dropout: float = Setting(0.0, ge=0, lt=1, description="between an adapter's two layers")

    def size(self, width: int) -> int:
        """Width of an adapter in a model of this width."""
        return self.bottleneck or max(8, width // self.reduction_factor)


class Adapter(Method):
    name = "adapter"
    Options = AdapterOptions
    needs_base = True

    def learning_rate(self, width: int) -> float:
        """1e-3 at BERT-base's width, where Houlsby et al. 2019 and Pfeiffer et al. 2021 tried 1e-4 to 3e-3."""
        return round(1e-3 * 768 / width, 6)

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        from luthier.engine.bottleneck import bottlenecks, insert
        from luthier.engine.heads import head_parameters

        model.requires_grad_(False)
        o = self.options
        size = o.size(int(model.config.hidden_size))  # type: ignore[union-attr,arg-type]
        insert(model, o.places, size, o.activation, o.dropout)
        for parameter in head_parameters(model, head).values():
            parameter.requires_grad_(True)
        for adapter in bottlenecks(model):
            adapter.requires_grad_(True)
        return model

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        from safetensors.torch import save_file

        from luthier.engine.bottleneck import bottlenecks

        state = {n: p.detach().contiguous().float() for n, p in model.named_parameters() if p.requires_grad}
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        first = bottlenecks(model)[0]
        settings = {
            "base_model": base,
            "bottleneck": first.down.out_features,
            **self.options.model_dump(include={"places", "activation", "dropout"}),
        }
        (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from luthier.engine.bottleneck import bottlenecks

        assert base is not None
        model = self.apply(build(base, True), head)  # the file holds the head
        own = {name: p for name, p in model.named_parameters() if p.requires_grad}
        try:
            saved = load_file(folder / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise _unfit(folder, str(error)) from None
        refuse_unfit(set(saved), set(own), folder / WEIGHTS)
        for name, parameter in own.items():
            if parameter.shape != saved[name].shape:
                raise _unfit(folder, f"{name} has the shape {list(saved[name].shape)}, not {list(parameter.shape)}")
            with torch.no_grad():
                parameter.copy_(saved[name])
        model.eval()
        if any(bool(adapter.up.weight.any()) for adapter in bottlenecks(model)):
            _refuse_without_effect(model, folder)
        return model

    def card_code(self, auto_class: str, head: HeadSpec) -> str:
        return (
            "import torch\n"
            "from safetensors.torch import load_file\n"
            f"from transformers import AutoTokenizer, {auto_class}\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
            f"{stock_base(auto_class, head.outputs)}"
            'trained = load_file(FOLDER + "/adapter.safetensors")\n'
            'head = {name: tensor for name, tensor in trained.items() if ".adapter." not in name}\n'
            "base.load_state_dict(head, strict=False)\n"
            "model = base.eval()\n\n\n"
            "def adapt(place):\n"
            '    down, shift, up, bias = (trained[f"{place}.adapter.{part}"] for part in\n'
            '                             ("down.weight", "down.bias", "up.weight", "up.bias"))\n'
            "    model.get_submodule(place).register_forward_hook(\n"
            "        lambda layer, inputs, x: "
            f"x + torch.nn.functional.{self.options.activation}(x @ down.T + shift) @ up.T + bias)\n\n\n"
            "for name in trained:\n"
            '    if name.endswith(".adapter.up.bias"):\n'
            '        adapt(name.removesuffix(".adapter.up.bias"))\n\n\n'
            f"{stock_predict(auto_class)}"
        )


def _refuse_without_effect(model: Any, folder: Path) -> None:
    from luthier.engine.bottleneck import without_bottlenecks
    from luthier.engine.probe import effect

    if not effect(model, without_bottlenecks(model)) > 0:
        raise _unfit(folder, "it changes nothing in what the base model answers, though it was trained")


def _unfit(folder: Path, found: str) -> ModelError:
    return ModelError(
        found.splitlines()[-1].strip(),
        where=str(folder / WEIGHTS),
        fix="use it with the base model and the settings that it was trained with",
    )
