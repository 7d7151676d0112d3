"""Every weight moves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from luthier.config import Section

from .base import STOCK_PREDICT, Method, refuse_left_over

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    from .base import Build


class FullOptions(Section):
    """Full fine-tuning has no settings of its own."""

    name: Literal["full"] = "full"


class Full(Method):
    name = "full"
    Options = FullOptions
    kinds = frozenset({"encoder"})

    def learning_rate(self, width: int) -> float:
        """5e-5 at BERT-base's width, as Devlin et al. 2019 tried at most; a narrower model bears more."""
        return round(5e-5 * (768 / width) ** 2, 6)

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        return model.requires_grad_(True)

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        model.save_pretrained(folder)  # type: ignore[operator]

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        from luthier.models import resolve

        model = build(resolve(str(folder)), False)
        refuse_left_over(model, folder)
        return model.eval()

    def card_code(self, auto_class: str, outputs: int) -> str:
        return (
            "import torch\n"
            f"from transformers import AutoTokenizer, {auto_class}\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
            f"model = {auto_class}.from_pretrained(FOLDER).eval()\n\n\n"
            f"{STOCK_PREDICT[auto_class]}"
        )
