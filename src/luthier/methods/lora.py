"""Low-rank updates beside frozen weights (Hu et al. 2021, arxiv.org/abs/2106.09685), by peft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field as Setting

from luthier.config import Section
from luthier.errors import ModelError

from .base import STOCK_PREDICT, Method

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    from .base import Build


class LoraOptions(Section):
    """Settings of LoRA."""

    name: Literal["lora"] = "lora"
    rank: int = Setting(16, ge=1, le=4096, description="rank of each update")
    alpha: int = Setting(32, ge=1, le=65536, description="updates are scaled by alpha / rank")
    dropout: float = Setting(0.0, ge=0, lt=1, description="dropout in front of each update")
    target: Literal["all-linear"] | list[str] = Setting(
        "all-linear",
        description="linear layers that get an update: all of the backbone, or names such as [query, value]",
    )


class Lora(Method):
    name = "lora"
    Options = LoraOptions
    kinds = frozenset({"encoder"})
    needs_base = True

    def learning_rate(self, width: int) -> float:
        """Ten times the rate of full tuning at BERT-base's width; falls with width as that does, but slower."""
        return round(5e-4 * 768 / width, 6)

    def _targets(self, model: nn.Module, head: HeadSpec) -> list[str]:
        """Full names of the backbone's linear layers that get an update."""
        from torch import nn as torch_nn

        outside = (*head.modules, "pooler")
        linear = [
            name
            for name, module in model.named_modules()
            if isinstance(module, torch_nn.Linear) and not set(outside) & set(name.split("."))
        ]
        asked = self.options.target
        found = (
            linear
            if asked == "all-linear"
            else [n for n in linear if any(n == a or n.endswith("." + a) for a in asked)]
        )
        unmet = (
            []
            if asked == "all-linear"
            else [a for a in asked if not any(n == a or n.endswith("." + a) for n in linear)]
        )
        if not found or unmet:
            leaves = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise ModelError(
                f"method.target {unmet or asked} matches no linear layer of this model",
                where=type(model).__name__,
                fix=f"choose from {', '.join(leaves)}, or write target: all-linear",
            )
        return found

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        from luthier.models.quiet import quiet_transformers

        # A pooler lies between backbone and head, and many base models come without one: it goes with the head.
        heads = (*head.modules, "pooler")
        present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        config = LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha,
            lora_dropout=self.options.dropout,
            target_modules=self._targets(model, head),
            modules_to_save=[name for name in heads if name in present],
            task_type=head.peft_type,
        )
        with quiet_transformers():  # peft still asks for what transformers has renamed, with a warning
            return get_peft_model(model, config)

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        model.peft_config["default"].base_model_name_or_path = base  # type: ignore[index,union-attr]
        model.save_pretrained(folder, save_embedding_layers=False)  # type: ignore[operator]
        (folder / "README.md").unlink(missing_ok=True)  # peft's own card; luthier writes the real one

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from luthier.models.quiet import quiet_transformers

        assert base is not None
        weights = folder / "adapter_model.safetensors"
        with quiet_transformers():
            model = build(base, True)  # the adapter holds the head
            tuned = get_peft_model(model, LoraConfig.from_pretrained(str(folder)))
        try:
            saved = load_file(weights)
            # peft only warns about keys that do not fit, and answers with the base model.
            odd = sorted(set(saved) ^ set(get_peft_model_state_dict(tuned, save_embedding_layers=False)))
            if odd:
                raise RuntimeError(f"{len(odd)} weights do not fit the model, the first is {odd[0]}")
            set_peft_model_state_dict(tuned, saved)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ModelError(
                str(error).splitlines()[-1].strip(),
                where=str(weights),
                fix="use it with the base model and the settings that it was trained with",
            ) from None
        return tuned.eval()

    def card_code(self, auto_class: str, outputs: int) -> str:
        return (
            "import torch\n"
            "from peft import PeftModel\n"
            f"from transformers import AutoTokenizer, {auto_class}\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
            f"base = {auto_class}.from_pretrained(BASE, num_labels={outputs})\n"
            "model = PeftModel.from_pretrained(base, FOLDER).eval()\n\n\n"
            f"{STOCK_PREDICT[auto_class]}"
        )
