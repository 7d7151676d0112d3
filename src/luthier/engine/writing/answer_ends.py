"""Where an answer begins and ends: the ids that stand before an encoder-decoder's, and those that end any."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from torch import nn

from .prompts import base_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def find_stop_ids(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end an answer: the end of a turn in the tokenizer's chat template first, then every end of text."""
    base = base_of(model)
    found: list[Any] = [] if base.config.is_encoder_decoder else _turn_ends(tokenizer)
    found.append(tokenizer.eos_token_id)
    for config in (getattr(base, "generation_config", None), base.config):
        ids = getattr(config, "eos_token_id", None)
        found += ids if isinstance(ids, (list, tuple)) else [ids]
    return [int(token) for token in dict.fromkeys(found) if token is not None]


_KNOWN: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, list[int]]] = weakref.WeakKeyDictionary()


def _turn_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What ends a turn in the tokenizer's chat template, if it has one; found once, for a template has to be run."""
    template = tokenizer.chat_template
    if not isinstance(template, (str, dict)) or not tokenizer.is_fast:
        return []
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != str(template):
        from ..chat.dialogs import Chat

        known = _KNOWN[tokenizer] = str(template), Chat(tokenizer).stop_ids
    return known[1]


def answer_begin(base: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What stands before every answer of an encoder-decoder: its start, then perhaps a beginning of text, a language.

    The start is the model's, or for those without one (mBART) the last of a target's ids, which names the language.
    """
    ids = [int(token) for token in tokenizer(text_target="")["input_ids"]]
    lead = ids[: ids.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in ids else ids
    starts = [getattr(c, "decoder_start_token_id", None) for c in (base.config, base.generation_config)]
    start = next((int(token) for token in starts if token is not None), None)
    if start is None:
        start = ids[-1] if ids else tokenizer.bos_token_id or tokenizer.pad_token_id or 0
    return [start, *lead]
