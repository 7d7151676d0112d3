"""GGUF to a plain model folder, once: dequantised by transformers, saved as bfloat16 safetensors.

A model that transformers read from GGUF refuses `save_pretrained`; a fresh one with the same configuration
(but no quantisation) and the same tensors does not. bfloat16 halves the folder against float32, and rounds
away far less than the 4 or 8 bits of the GGUF already did.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .quiet import quiet_transformers

# What the fresh model's config must not say: how the file was packed, and what its author called it.
_NOT_KEPT = ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype", "torch_dtype")


def convert_gguf(gguf: Path, folder: Path) -> Path:
    """Write the GGUF file's model, tokenizer and chat template into `folder`, which must not exist.

    Raises ModelError for a file that is not GGUF or an architecture that transformers cannot read from it.
    """
    _check_magic(gguf)
    import torch

    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):  # a bar that no setting turns off
        model, tokenizer = _read(gguf)
        kept = {key: value for key, value in model.config.to_dict().items() if key not in _NOT_KEPT}
        config = type(model.config).from_dict(kept)
        config.architectures = [type(model).__name__]
        fresh = type(model)(config).to(torch.bfloat16)
        fresh.load_state_dict(model.state_dict(), strict=True)
        fresh.generation_config = model.generation_config
        del model
        fresh.save_pretrained(str(folder))
        _agree(tokenizer, config)
        tokenizer.save_pretrained(str(folder))
        shutil.copymode(folder / "config.json", folder / "model.safetensors")  # safetensors writes for its owner alone
    return folder


def _read(gguf: Path) -> tuple[Any, Any]:
    """The dequantised model in bfloat16, and its tokenizer."""
    import torch
    import transformers as hf

    settings: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False, "local_files_only": True}
    # Newer transformers can keep the weights packed, which must not happen here; older ones always unpack.
    packed = {"quantization_config": hf.GgufConfig(dequantize=True)} if hasattr(hf, "GgufConfig") else {}
    try:
        tokenizer = hf.AutoTokenizer.from_pretrained(str(gguf.parent), **settings)
        model = hf.AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.bfloat16, **packed, **settings)
    except MemoryError:
        raise
    except Exception as error:  # a broken file can break the readers in any way
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(
            f"transformers cannot read this GGUF file ({said})",
            where=str(gguf),
            fix="use the safetensors model it was made from",
        ) from error
    return model, tokenizer


def _agree(tokenizer: Any, config: Any) -> None:
    """Give the tokenizer the file's special tokens and limit: transformers 5.17 loses SmolLM2's eos."""
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        number = getattr(config, f"{name}_id", None)
        if isinstance(number, int) and number < len(tokenizer):
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(number))
    limit = getattr(config, "max_position_embeddings", None)
    if limit and tokenizer.model_max_length > limit:
        tokenizer.model_max_length = limit
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.init_kwargs.pop("local_files_only", None)


def _check_magic(gguf: Path) -> None:
    try:
        with gguf.open("rb") as file:
            start = file.read(24)
    except OSError as error:
        raise ModelError(f"it cannot be read ({error.strerror or error})", where=str(gguf)) from None
    if start[:4] != b"GGUF" or len(start) < 24:
        raise ModelError("this is not a GGUF file", where=str(gguf), fix="fetch it again")
