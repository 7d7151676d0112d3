"""Feature extraction: the backbone stays as it is, its features are computed once, and a head learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field as Setting

from luthier.config import Section
from luthier.errors import ModelError

from .base import Method, refuse_left_over

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    from .base import Build


class FrozenOptions(Section):
    """Settings of feature extraction."""

    name: Literal["frozen"] = "frozen"
    hidden: int = Setting(0, ge=0, le=65536, description="width of the head's hidden layer; 0: a linear head")
    dropout: float = Setting(0.1, ge=0, lt=1, description="dropout inside the head")


class Frozen(Method):
    name = "frozen"
    Options = FrozenOptions
    kinds = frozenset({"encoder"})

    def learning_rate(self, width: int) -> float:
        return 1e-3

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        from luthier.engine.heads import FeatureModel, Head

        backbone = model.base_model
        if backbone is model:
            raise ModelError(
                "its class has no backbone to freeze", where=type(model).__name__, fix="method: full"
            )
        width = int(model.config.hidden_size)  # type: ignore[union-attr,arg-type]
        own = Head(width, head.outputs, self.options.hidden, self.options.dropout)
        return FeatureModel(backbone, own, head.pooled)  # type: ignore[arg-type]

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        from safetensors.torch import save_file

        model.backbone.save_pretrained(folder)  # type: ignore[operator,union-attr]
        state = {name: tensor.contiguous().float() for name, tensor in model.head.state_dict().items()}  # type: ignore[union-attr]
        save_file(state, folder / "head.safetensors")

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        from safetensors.torch import load_file
        from transformers import AutoModel

        from luthier.engine.heads import FeatureModel, Head
        from luthier.models import load_pretrained, resolve

        # A pooler, where the class has one, is not used: features come from the last hidden states.
        backbone = load_pretrained(resolve(str(folder)), AutoModel, head=("pooler",))
        refuse_left_over(backbone, folder, unused="pooler")
        width = int(backbone.config.hidden_size)  # type: ignore[union-attr,arg-type]
        own = Head(width, head.outputs, self.options.hidden, self.options.dropout)
        try:
            own.load_state_dict(load_file(folder / "head.safetensors"))
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"the head does not fit: {str(error).splitlines()[-1].strip()}",
                where=str(folder / "head.safetensors"),
                fix="copy the whole model folder again from where it was trained",
            ) from None
        return FeatureModel(backbone, own, head.pooled).eval()

    def card_code(self, auto_class: str, outputs: int) -> str:
        last = 3 if self.options.hidden else 1
        first = "layers.0" if self.options.hidden else "layers.1"
        second = (
            f'    x = torch.relu(x) @ head["layers.{last}.weight"].T + head["layers.{last}.bias"]\n'
            if self.options.hidden
            else ""
        )
        pool = (
            '    mask = inputs["attention_mask"][..., None]\n    x = (x * mask).sum(1) / mask.sum(1)\n'
            if auto_class == "AutoModelForSequenceClassification"
            else ""
        )
        return (
            "import torch\n"
            "from safetensors.torch import load_file\n"
            "from transformers import AutoModel, AutoTokenizer\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
            "model = AutoModel.from_pretrained(FOLDER).eval()\n"
            'head = load_file(FOLDER + "/head.safetensors")\n\n\n'
            "def predict(inputs):\n"
            "    x = model(**inputs).last_hidden_state\n"
            f"{pool}"
            '    x = (x - head["mean"]) / head["std"]\n'
            f'    x = x @ head["{first}.weight"].T + head["{first}.bias"]\n'
            f"{second}"
            "    return x\n"
        )
