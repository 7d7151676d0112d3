"""Low-rank updates beside frozen weights (Hu et al. 2021, arxiv.org/abs/2106.09685), by peft."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field as Setting

from luthier.config import Section
from luthier.errors import ModelError

from .base import Method
from .peft_folder import load_adapter, peft_card, save_adapter, saved_config

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
    modules: list[str] = Setting(
        [], description="modules trained whole and saved beside the updates, such as [LayerNorm]"
    )
    use_dora: bool = Setting(
        False,
        description="learn the size of each column apart from its direction (DoRA): slower, often better",
    )
    use_rslora: bool = Setting(False, description="scale updates by alpha / sqrt(rank) (rsLoRA), for ranks above 32")
    quantization: Literal["none", "4bit"] = Setting(
        "none",
        description="4bit: hold the base model in 4-bit numbers (QLoRA); needs bitsandbytes and an NVIDIA GPU",
    )


class Lora(Method):
    name = "lora"
    Options = LoraOptions
    needs_base = True
    library = "peft"

    def learning_rate(self, width: int) -> float:
        """Ten times the rate of full tuning at BERT-base's width; falls with width as that does, but slower."""
        return round(5e-4 * 768 / width, 6)

    def loading(self, head: HeadSpec) -> dict[str, Any]:
        """For 4 bits: NF4 with doubly quantised constants, computed in bf16 (Dettmers et al. 2023,
        arxiv.org/abs/2305.14314); the head stays as it is.
        """
        if self.options.quantization == "none":
            return {}
        import importlib.util

        import torch
        from transformers import BitsAndBytesConfig

        library, gpu = importlib.util.find_spec("bitsandbytes") is not None, torch.cuda.is_available()
        if not (library and gpu):
            missing = [what for what, there in (("bitsandbytes", library), ("NVIDIA GPU", gpu)) if not there]
            raise ModelError(
                f"method.quantization is 4bit, and here is no {' and no '.join(missing)}",
                where="method",
                fix=("pip install bitsandbytes, or " if gpu else "") + "method.quantization: none",
            )
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=[*head.trained, "lm_head"],
        )
        return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}

    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        from luthier.engine.heads import head_modules
        from luthier.models.quiet import quiet_transformers

        linear = linear_layers(model, head)
        asked = self.options.target
        targets = list(linear) if asked == "all-linear" else _named(model, list(linear), asked)
        config = LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha,
            lora_dropout=self.options.dropout,
            use_dora=self.options.use_dora,
            use_rslora=self.options.use_rslora,
            target_modules=targets,
            fan_in_fan_out=any(linear[name] for name in targets),
            modules_to_save=[*head_modules(model, head), *_whole(model, head, targets, self.options.modules)],
            task_type=head.peft_type or None,
        )
        with quiet_transformers():  # peft still asks for what transformers has renamed, with a warning
            return get_peft_model(model, config)

    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        save_adapter(model, folder, base)

    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        from luthier.engine.probe import effect

        assert base is not None
        return load_adapter(
            build(base, True, **self.loading(head)),  # the adapter holds the head
            saved_config(folder, {"LORA": LoraConfig}),
            get_peft_model,
            folder,
            trained=lambda name: ".lora_B." in name,
            effect=lambda tuned: effect(tuned, without_updates(tuned)),
        )

    def merge(self, model: nn.Module) -> nn.Module:
        """The stock model with the updates added to its weights, in fp32: bf16 would round them away."""
        if self.options.quantization != "none":
            raise ModelError(
                "its base is held in 4 bits, and updates added to such weights are rounded away",
                where="method.quantization",
                fix="use model/ with peft on the base model, or tune with method.quantization: none",
            )
        return model.float().merge_and_unload(safe_merge=True)  # type: ignore[operator]

    def card_code(self, auto_class: str, head: HeadSpec) -> str:
        return peft_card(auto_class, head.outputs)


@contextmanager
def without_updates(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes without its low-rank updates; a trained head stays in its place."""
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def linear_layers(model: nn.Module, head: HeadSpec) -> dict[str, bool]:
    """Full name of every linear layer of the backbone -> whether its weight lies input by output, as GPT-2's does.

    The head is no part of it, nor a pooler, nor what writes words: the output embedding.
    """
    from torch import nn as torch_nn
    from transformers.pytorch_utils import Conv1D

    from luthier.engine.heads import lies_in
    from luthier.engine.layers import output_embedding

    outside = (*head.modules, "pooler")
    writes = output_embedding(model)
    return {
        name: isinstance(module, Conv1D)
        for name, module in model.named_modules()
        if isinstance(module, (torch_nn.Linear, Conv1D)) and module is not writes and not lies_in(name, outside)
    }


def _named(model: nn.Module, linear: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The layers whose name is, or ends with, one of `asked`; ModelError if one of them matches nothing."""
    found = [name for name in linear if any(_ends(name, one) for one in asked)]
    unmet = [one for one in asked if not any(_ends(name, one) for name in linear)]
    if not found or unmet:
        leaves = sorted({name.rsplit(".", 1)[-1] for name in linear})
        raise ModelError(
            f"method.target {unmet or asked} matches no linear layer of this model",
            where=type(model).__name__,
            fix=f"choose from {', '.join(leaves)}, or write target: all-linear",
        )
    return found


def _ends(name: str, ending: str) -> bool:
    return f".{name}".endswith(f".{ending}")


def _whole(model: nn.Module, head: HeadSpec, targets: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Full names of the modules that are trained whole because the person asked; ModelError if one cannot be."""
    from luthier.engine.heads import lies_in, tied_outside

    names = [
        name
        for name, module in model.named_modules()
        if name and any(True for _ in module.parameters()) and not lies_in(name, head.trained)
    ]
    free = [name for name in names if not any(f"{target}.".startswith(f"{name}.") for target in targets)]
    found: list[str] = []
    for one in asked:
        matching = [name for name in names if _ends(name, one)]
        taken = [name for name in matching if name not in free]
        tied = [name for name in matching if tied_outside(model, [name])]
        if not matching or taken or tied:
            problem = (
                f"holds layers that get an update ({taken[0]})"
                if taken
                else f"is tied to another weight of this model ({tied[0]})"
                if tied
                else "matches no module of this model"
            )
            leaves = sorted({name.rsplit(".", 1)[-1] for name in free if not name[-1].isdigit()})
            raise ModelError(
                f"method.modules: {one} {problem}",
                where=type(model).__name__,
                fix=f"choose from {', '.join(leaves)}",
            )
        found += matching
    return found
