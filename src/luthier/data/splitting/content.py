"""What makes two rows the same: their hash, their key, their words without case and punctuation."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable
from hashlib import blake2b
from typing import Any

from ...records import FieldKind, Form, Row
from ..rows.tags import mentions

_WORD = re.compile(r"\w+")


def hasher(names: Iterable[str]) -> Callable[[dict[str, Any]], str]:
    """A function equal to `records.content_hash` over `names`, built once because it runs for every row."""
    listed = list(names)
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode

    def digest(fields: dict[str, Any]) -> str:
        text = encode([[name, fields.get(name)] for name in listed])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    return digest


def frozen(value: Any) -> Hashable:
    """A value as something that can be a dictionary's key; strings stay themselves, so nothing is copied."""
    if isinstance(value, dict):
        return tuple((key, frozen(value[key])) for key in sorted(value))
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    return value


def input_names(form: Form) -> tuple[str, ...]:
    return tuple(f.name for f in form.inputs)


def names_of(form: Form) -> tuple[str, ...]:
    return tuple(f.name for f in form.fields)


def given_names(row: Row, form: Form) -> tuple[str, ...]:
    """The fields that tell this row from others: what the model is given; where that is nothing, the target, too.

    A dialogue may be plain text to learn: nothing is asked, and the text is all there is.
    """
    names = input_names(form)
    return names if any(row.get(name) for name in names) else (*names, form.target)


def key_of(row: Row, names: Iterable[str]) -> Hashable:
    return tuple(frozen(row.get(name)) for name in names)


def text_of(value: Any) -> str | None:
    """What a field says as one text: its words, or its turns one a line; None for anything else.

    System prompts are left out: they are the same in rows that have nothing else in common.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, list) and all(isinstance(item, dict) and "role" in item for item in value):
        return "\n".join(str(turn["content"]) for turn in value if turn["role"] != "system")
    return None


def same_input(row: Row, form: Form) -> bytes:
    """A digest equal for rows whose inputs differ at most in case, white space and punctuation."""
    digest = blake2b(digest_size=16)
    for name in given_names(row, form):
        value = row.get(name)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            parts = [f"{turn.get('role')} {plain(str(turn.get('content')))}" for turn in value]
        else:
            text = text_of(value)
            parts = [] if value is None else [plain(text if text is not None else str(value))]
        for part in parts:
            digest.update(part.encode("utf-8", "surrogatepass") + b"\x01")
        digest.update(b"\x00")
    return digest.digest()


def marks_of(value: Any, kind: FieldKind) -> list[str]:
    """The classes that a target holds: its label, its labels, or the types of its entities; each once."""
    if kind == "label":
        return [] if value is None else [value]
    if kind == "labels":
        return list(value or ())
    if kind == "tags":
        return sorted({type for _, _, type in mentions(value or ())})
    return []


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation, in one Unicode form."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.lower())


def plain(text: str) -> str:
    """A text as it is compared for exact copies: case, white space and punctuation do not count.

    A text without any word (only emoji, say) is itself.
    """
    return " ".join(words(text)) or text.strip()
