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

    from luthier.engine.heads import Head, HeadSpec
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
    changes_backbone = False
    bytes_a_weight = 4
    kinds = frozenset({"encoder", "decoder"})
    own_head = True

    def learning_rate(self, width: int) -> float:
        return 1e-3

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        from luthier.engine.heads import FeatureModel, head_parameters

        backbone = model.base_model  # a class without a head is its own backbone
        if backbone is model and head_parameters(model, head):
            raise ModelError("its class has no backbone to freeze", where=type(model).__name__, fix="method: full")
        return FeatureModel(backbone, self._head(model, head), head.pooled, head.pooling)  # type: ignore[arg-type]

    def _head(self, model: nn.Module, head: HeadSpec) -> Head:
        from luthier.engine.heads import Head

        width = int(model.config.hidden_size)  # type: ignore[union-attr,arg-type]
        return Head(width, head.outputs, self.options.hidden, self.options.dropout, head.residual)

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        from safetensors.torch import save_file

        model.backbone.save_pretrained(folder)  # type: ignore[operator,union-attr]
        state = {name: tensor.contiguous().float() for name, tensor in model.head.state_dict().items()}  # type: ignore[union-attr]
        save_file(state, folder / "head.safetensors")

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        from safetensors.torch import load_file
        from transformers import AutoModel

        from luthier.engine.heads import FeatureModel
        from luthier.models import load_pretrained, resolve

        # A pooler, where the class has one, is not used: features come from the last hidden states.
        backbone = load_pretrained(resolve(str(folder)), AutoModel, head=("pooler",))
        refuse_left_over(backbone, folder, unused="pooler")
        own = self._head(backbone, head)
        try:
            own.load_state_dict(load_file(folder / "head.safetensors"))
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"the head does not fit: {str(error).splitlines()[-1].strip()}",
                where=str(folder / "head.safetensors"),
                fix="copy the whole model folder again from where it was trained",
            ) from None
        return FeatureModel(backbone, own, head.pooled, head.pooling).eval()

    def card_code(self, auto_class: str, head: HeadSpec) -> str:
        first, last = ("layers.0", "layers.3") if self.options.hidden else ("layers.1", "")
        lines = [
            "def predict(inputs):",
            "    states = model(**inputs).last_hidden_state",
            f"    features = {_POOLS[head.pooling] if head.pooled else 'states'}",
            '    x = (features - head["mean"]) / head["std"]',
            f'    x = x @ head["{first}.weight"].T + head["{first}.bias"]',
        ]
        if last:
            lines.append(f'    x = torch.relu(x) @ head["{last}.weight"].T + head["{last}.bias"]')
        lines.append("    return features + x" if head.residual else "    return x")
        return (
            "import torch\n"
            "from safetensors.torch import load_file\n"
            "from transformers import AutoModel, AutoTokenizer\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
            "model = AutoModel.from_pretrained(FOLDER).eval()\n"
            'head = load_file(FOLDER + "/head.safetensors")\n\n\n' + "\n".join(lines) + "\n"
        )


_POOLS = {
    "mean": '(states * inputs["attention_mask"][..., None]).sum(1) / inputs["attention_mask"].sum(1, keepdim=True)',
    "cls": "states[:, 0]",
    "last": "states[:, -1]",
}
