"""Every weight moves, or those of the last layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field as Setting

from luthier.config import Section
from luthier.errors import ModelError

from .base import Method, refuse_left_over, stock_predict

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    from .base import Build


class FullOptions(Section):
    """Settings of full fine-tuning."""

    name: Literal["full"] = "full"
    unfreeze_last: int = Setting(
        0,
        ge=0,
        le=10_000,
        description="train only so many of the last layers, the final norm and the head; 0: every weight",
    )


class Full(Method):
    name = "full"
    Options = FullOptions
    bytes_a_weight = 16  # a gradient and AdamW's two averages of every weight

    def learning_rate(self, width: int) -> float:
        """5e-5 at BERT-base's width, as Devlin et al. 2019 tried at most; a narrower model bears more."""
        return round(5e-5 * (768 / width) ** 2, 6)

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        count = self.options.unfreeze_last
        if not count:
            return model.requires_grad_(True)
        from luthier.engine.layers import layer_of, stacks

        layers = sum(len(stack.layers) for stack in stacks(model))
        told = getattr(model.config, "num_hidden_layers", layers)
        if layers < told:
            raise ModelError(
                f"its {told} layers share the weights of {layers}, so the last {count} cannot be trained alone",
                where=type(model).__name__,
                fix="method.unfreeze_last: 0",
            )
        if count > layers:
            raise ModelError(
                f"method.unfreeze_last is {count}, but the model has {layers} layers",
                where=type(model).__name__,
                fix=f"method.unfreeze_last: {layers // 2 or 1}, or 0 for every weight",
            )
        depth = layer_of(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(depth[name] > layers - count)
        return model

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        model.save_pretrained(folder)  # type: ignore[operator]

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        from luthier.models import resolve

        model = build(resolve(str(folder)), False)
        refuse_left_over(model, folder)
        return model.eval()

    def merge(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def card_code(self, auto_class: str, head: HeadSpec) -> str:
        return (
            "import torch\n"
            f"from transformers import AutoTokenizer, {auto_class}\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
            f"model = {auto_class}.from_pretrained(FOLDER).eval()\n\n\n"
            f"{stock_predict(auto_class)}"
        )
