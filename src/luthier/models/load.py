"""Loading what `resolve` found: safetensors only, no repository code, no network, nothing left random."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, ResourceError
from .quiet import quiet_transformers
from .source import Source

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


def load_tokenizer(source: Source, **settings: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer; without a padding token of its own, the end-of-text token pads.

    Decoding leaves spaces before punctuation alone unless `clean_up_tokenization_spaces` is given. Raises
    ModelError where there is none, or where it knows more tokens than the model has embeddings.
    """
    from transformers import AutoTokenizer

    settings = {"clean_up_tokenization_spaces": False, **settings, **_SAFE}
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(source.folder), **settings)
        except Exception as error:  # a broken folder can break transformers in any way
            raise ModelError(
                f"its tokenizer cannot be loaded ({_first_line(error)})",
                where=str(source.folder),
                fix="a model folder needs tokenizer.json and tokenizer_config.json beside config.json",
            ) from None
        if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what transformers makes of no vocabulary
            raise ModelError(
                "it has no tokenizer (no vocabulary was found)",
                where=str(source.folder),
                fix="copy tokenizer.json and tokenizer_config.json from the model it was made from",
            )
        if source.vocab_size is not None and len(tokenizer) > source.vocab_size:
            raise ModelError(
                f"its tokenizer knows {len(tokenizer):,} tokens, its embeddings {source.vocab_size:,}",
                where=str(source.folder),
                fix="resize it once with transformers (model.resize_token_embeddings(len(tokenizer)), then "
                "save_pretrained) and use that folder",
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_pretrained(
    source: Source, auto_class: Any, *, head: Sequence[str] = (), dtype: Any = None, **settings: Any
) -> nn.Module:
    """The model as `auto_class` (an Auto class or a model class), in float32 unless `dtype` says else.

    `head` names the modules that may start untrained: a tensor whose dotted name holds one of them
    ("classifier", "qa_outputs", "pooler", or a longer path such as "cls.predictions"). Any other tensor that
    the folder does not hold, or holds in another shape, raises ModelError, for a backbone left random would
    train without complaint. `settings` (num_labels, id2label, attn_implementation, dropout rates) go to
    transformers.
    """
    import torch

    settings = {
        **settings,
        **_SAFE,
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    with quiet_transformers():
        try:
            model, report = auto_class.from_pretrained(
                str(source.folder), dtype=dtype or torch.float32, **settings
            )
        except (MemoryError, torch.OutOfMemoryError):
            raise ResourceError(
                f"there is not enough memory to load it ({source.parameters:,} parameters)",
                where=str(source.folder),
                fix="choose a smaller model: luthier models list shows the sizes",
            ) from None
        except Exception as error:  # a broken folder can break transformers in any way
            raise ModelError(
                f"transformers cannot load it as {auto_class.__name__} ({_first_line(error)})",
                where=str(source.folder),
                fix="luthier models list shows what is known to work",
            ) from error
    mismatched = {str(entry[0]) for entry in report.get("mismatched_keys") or ()}
    _refuse_random_backbone(
        source, type(model).__name__, set(report.get("missing_keys") or ()) | mismatched, head, mismatched
    )
    return model


def _refuse_random_backbone(
    source: Source, name: str, fresh: set[str], head: Sequence[str], mismatched: set[str]
) -> None:
    lost = sorted(key for key in fresh if not any(f".{part}." in f".{key}." for part in head))
    if not lost:
        return
    shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    how = (
        "have another shape than its config.json says"
        if mismatched.intersection(lost)
        else "are not in the weights"
    )
    raise ModelError(
        f"{len(lost)} tensors that {name} needs {how}: {shown}",
        where=str(source.folder),
        fix="its config.json and weights do not fit together, or the task needs another kind of model",
    )


def _first_line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text[:240] or type(error).__name__
