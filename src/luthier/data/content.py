"""What makes two rows the same: their hash, their key, their words without case and punctuation."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from ..records import Form, Row

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


def key_of(row: Row, names: Iterable[str]) -> Hashable:
    return tuple(frozen(row.get(name)) for name in names)


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
