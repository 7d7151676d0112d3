"""What peft's methods share: an adapter folder written, and read again with nothing missing and nothing ignored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import ModelError
from luthier.files import as_written, read_json

from .base import refuse_unfit, stock_base, stock_predict

if TYPE_CHECKING:
    from torch import nn

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
_NUMBERS = (
    *("r", "lora_alpha", "lora_dropout", "num_virtual_tokens", "num_transformer_submodules", "num_attention_heads"),
    *("num_layers", "token_dim", "encoder_hidden_size"),
)
_SWITCHES = ("use_dora", "use_rslora", "fan_in_fan_out", "prefix_projection")
_NAMES = ("target_modules", "modules_to_save")
_MOST = 1_000_000  # of any number there


def save_adapter(model: nn.Module, folder: Path, base: str) -> None:
    """adapter_config.json, which names the base model, and the adapter's weights with the head's.

    peft writes its sets of names in an order that differs from process to process; here they are sorted.
    """
    model.peft_config["default"].base_model_name_or_path = base  # type: ignore[index,union-attr]
    model.save_pretrained(folder, save_embedding_layers=False)  # type: ignore[operator]
    place = folder / SETTINGS
    told = read_json(place)
    names = {name: sorted(told[name]) for name in _NAMES if isinstance(told.get(name), list)}
    place.write_text(json.dumps({**told, **names}, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's own card; luthier writes the real one


def saved_config(folder: Path, kinds: Mapping[str, Any]) -> Any:
    """The folder's adapter_config.json as peft's settings; `kinds` are classes of them by the name in "peft_type".

    Only what luthier writes is taken: other keys make peft import a module, fetch a tokenizer, or match every
    layer's name against a pattern. RunError where a value is of another kind than luthier's.
    """
    place = folder / SETTINGS
    told = read_json(place)
    with as_written(place):
        kind = kinds[told["peft_type"]]
        own = {field.name for field in fields(kind)} & told.keys()
        given = {name: told[name] for name in (*_NUMBERS, *_SWITCHES, *_NAMES, "task_type") if name in own}
        for name, value in given.items():
            fits = (
                isinstance(value, (int, float)) and 0 <= value <= _MOST
                if name in (*_NUMBERS, *_SWITCHES)
                else value is None or all(isinstance(one, str) for one in value)
            )
            if not fits or (name in _NAMES and isinstance(value, str)):
                raise TypeError(f"{name} is {str(value)[:80]!r}")
        return kind(**given, inference_mode=True)


def load_adapter(
    model: nn.Module,
    config: Any,
    wrap: Callable[[nn.Module, Any], nn.Module],
    folder: Path,
    *,
    trained: Callable[[str], bool],
    effect: Callable[[Any], float],
) -> nn.Module:
    """The base `model` with the folder's adapter in it, in evaluation mode.

    peft only warns about weights that do not fit, and answers with the base model. Here one that is missing, left
    over or of another shape is a ModelError that names it, and so is an adapter without effect: if one of the weights
    that `trained` names is not zero, then `effect` (the change the adapter makes in what the model gives) must not be.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from luthier.models.quiet import quiet_transformers

    weights = folder / WEIGHTS
    with quiet_transformers():  # peft still asks for what transformers has renamed, with a warning
        tuned = wrap(model, config)
        try:
            saved = load_file(weights)
            refuse_unfit(set(saved), set(get_peft_model_state_dict(tuned, save_embedding_layers=False)), weights)
            set_peft_model_state_dict(tuned, saved)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise _unfit(weights, str(error)) from None
        tuned.eval()
        moved = any(bool(tensor.any()) for name, tensor in saved.items() if trained(name))
        if moved and not effect(tuned) > 0:
            raise _unfit(weights, "it changes nothing in what the base model answers, though it was trained")
    return tuned


def peft_card(auto_class: str, outputs: int, predict: str = "") -> str:
    """Lines of a model card that load the adapter by peft on the base model, and `predict` (the stock class's)."""
    return (
        "import torch\n"
        "from peft import PeftModel\n"
        f"from transformers import AutoTokenizer, {auto_class}\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
        f"{stock_base(auto_class, outputs)}"
        "model = PeftModel.from_pretrained(base, FOLDER).eval()\n\n\n"
        f"{predict or stock_predict(auto_class)}"
    )


def _unfit(weights: Path, found: str) -> ModelError:
    return ModelError(
        found.splitlines()[-1].strip(),
        where=str(weights),
        fix="use it with the base model and the settings that it was trained with",
    )
