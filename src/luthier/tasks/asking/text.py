"""Requests as texts, dialogs and source texts; and texts without their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.records import Form, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.chat.dialogs import Dialog

Request = str | list[dict[str, Any]]
"""What the model is asked: a text, or turns of a dialog."""

Example = tuple[Request, str]
"""A request and the answer to it."""


def plain(value: Any) -> str:
    """A field's value, or a request, as text: words side by side, turns one below the other."""
    if isinstance(value, list):
        if value and isinstance(value[0], Mapping):
            return "\n".join(str(turn.get("content") or "") for turn in value)
        return " ".join(map(str, value))
    return str(value)


def places(form: Form) -> Row:
    """A row whose every input is its own place: {text}."""
    made: dict[str, Any] = {}
    for field in form.inputs:
        place = f"{{{field.name}}}"
        turn = {"role": "user", "content": place}
        made[field.name] = [place] if field.kind == "tokens" else [turn] if field.kind == "messages" else place
    return Row("", made)


def dialog_of(request: Request, shown: Sequence[Example], tools: Sequence[dict[str, Any]] | None = None) -> Dialog:
    """Examples as earlier turns, then the request; a dialog's system text stays in front of all."""
    from luthier.engine.chat.dialogs import Dialog

    own = [{"role": "user", "content": request}] if isinstance(request, str) else list(request)
    system = [turn for turn in own[:1] if turn.get("role") == "system"]
    turns: list[dict[str, Any]] = []
    for asked, answer in shown:
        some = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        turns += [turn for turn in some if turn.get("role") != "system"]
        turns.append({"role": "assistant", "content": answer})
    return Dialog([*system, *turns, *own[len(system) :]], tools)


def answered(dialog: Dialog, answer: str) -> Dialog:
    return replace(dialog, messages=[*dialog.messages, {"role": "assistant", "content": answer}])


def source_text(request: Request, shown: Sequence[Example]) -> str:
    """What an encoder-decoder reads: examples with their answers, then the request."""
    parts = [f"{plain(asked)}\n{answer}" for asked, answer in shown]
    return "\n\n".join([*parts, plain(request)])


def target_ids(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """An encoder-decoder's answer with what ends it."""
    ids = [int(token) for token in tokenizer(text_target=answer, verbose=False)["input_ids"]]
    end = tokenizer.eos_token_id
    return ids if end is None or end in ids[-2:] else [*ids, end]


def shorter_text(text: str, count: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text without its last `count` tokens."""
    if not tokenizer.is_fast:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return text[: len(text) * max(0, len(ids) - count) // max(1, len(ids))]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    return text[: offsets[len(offsets) - count][0]].rstrip() if count < len(offsets) else ""


def words_kept(words: Sequence[str], count: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many of the words stand whole in their text without its last `count` tokens."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    return int(np.searchsorted(ends, len(shorter_text(" ".join(words), count, tokenizer)), side="right"))
