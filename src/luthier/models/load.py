"""Loading what `resolve` found: safetensors only, no repository code, no network, nothing left random."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, ResourceError, is_out_of_memory
from .folder_files import refuse_growth, refuse_links
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

    refuse_links(source.folder)
    refuse_growth(source.folder)
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
            model, report = auto_class.from_pretrained(str(source.folder), dtype=dtype or torch.float32, **settings)
        except Exception as error:  # a broken folder can break transformers in any way
            if is_out_of_memory(error):
                raise ResourceError(
                    f"there is not enough memory to load it ({source.parameters:,} parameters)",
                    where=str(source.folder),
                    fix="choose a smaller model: luthier models list shows the sizes",
                ) from None
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


def copy_grown(model: nn.Module, source: Source) -> int:
    """Copy from the source's weights what fits but for having grown (a head with more labels): the old rows go first.

    transformers leaves a tensor of another shape untrained as a whole. Gives how many tensors were filled.
    """
    import torch
    from safetensors import safe_open

    from .weights import weight_files

    named = dict(model.named_parameters())
    filled = 0
    for path in weight_files(source.folder):
        with safe_open(path, "pt") as file, torch.no_grad():
            for name in file.keys():  # noqa: SIM118, it is no mapping
                own = named.get(name)
                if own is None or list(own.shape) == (shape := file.get_slice(name).get_shape()):
                    continue
                if list(own.shape[1:]) == shape[1:] and own.shape[0] > shape[0]:
                    own[: shape[0]].copy_(file.get_tensor(name))
                    filled += 1
    return filled


def dropout_settings(source: Source, hidden: float | str, attention: float) -> dict[str, float]:
    """The config entries of this architecture that hold dropout rates, with the recipe's values.

    Names differ between architectures; an entry that the config does not have is not set. ModelError where dropout of
    hidden states is asked of a model that has none.
    """
    from transformers import AutoConfig

    have = AutoConfig.from_pretrained(str(source.folder), trust_remote_code=False, local_files_only=True).to_dict()
    names = (
        (attention, ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")),
        (
            hidden,
            (
                "hidden_dropout_prob",
                "dropout",
                "embedding_dropout",
                "mlp_dropout",
                "resid_pdrop",
                "embd_pdrop",
                "dropout_rate",
            ),
        ),
    )
    if isinstance(hidden, (int, float)) and hidden > 0 and have.keys().isdisjoint(names[1][1]):
        raise ModelError(
            f"its architecture ({have.get('model_type')}) has no dropout of hidden states",
            where="train.dropout",
            fix="leave it out; method.dropout (lora, adapter) and train.weight_decay regularise every model",
        )
    return {
        name: value for value, entries in names if isinstance(value, (int, float)) for name in entries if name in have
    }


def _refuse_random_backbone(
    source: Source, name: str, fresh: set[str], head: Sequence[str], mismatched: set[str]
) -> None:
    lost = sorted(key for key in fresh if not any(f".{part}." in f".{key}." for part in head))
    if not lost:
        return
    shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    how = "have another shape than its config.json says" if mismatched.intersection(lost) else "are not in the weights"
    raise ModelError(
        f"{len(lost)} tensors that {name} needs {how}: {shown}",
        where=str(source.folder),
        fix="its config.json and weights do not fit together, or the task needs another kind of model",
    )


def _first_line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text[:240] or type(error).__name__
