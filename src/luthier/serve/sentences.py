"""A row to answer whose input is words: a list of them, or a plain text that is cut into them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.errors import DataError
from luthier.records import Row
from luthier.words import words


def sentence_row(row: Mapping[str, Any] | Sequence[str], name: str, number: int) -> Row:
    """The row's words as its field `name`; of a text also `text` and `offsets`, where each word stands in it.

    Words or a text are a row by themselves, or stand under `name`, a text also under `text`. DataError names what is
    neither.
    """
    where = f"row {number}"
    if isinstance(row, str | list | tuple):
        row = {name: row}
    if not isinstance(row, Mapping):
        raise DataError(f"it is {row!r}, expected words or a text", where=where)
    value = row.get(name, row.get("text"))
    text = value if isinstance(value, str) else None
    fix = f'give {name} as a list of words, or a text: {{"text": "..."}}'
    if text is not None and not text.strip():
        raise DataError(f"{name} is {text!r}", where=where, fix=fix)
    if text is None and (
        not isinstance(value, list | tuple) or not all(isinstance(word, str) and word for word in value)
    ):
        found = f"{name} is {value!r}" if value is not None else f'there is no "{name}" and no "text"'
        raise DataError(found, where=where, fix=fix)
    if any("\ud800" <= letter <= "\udfff" for word in value for letter in word):
        raise DataError(
            f"{name} holds half a character (a lone surrogate)",
            where=where,
            fix="correct the text: an emoji was cut in two",
        )
    id = str(row.get("id", number))
    if text is None:
        fields: dict[str, Any] = {name: list(value)}
        if isinstance(row.get("text"), str):
            fields["text"] = row["text"]  # the words are looked for in it, unless it is said where they are
            if row.get("offsets") is not None:
                fields["offsets"] = row["offsets"]
        return Row(id, fields)
    offsets = words(text)
    return Row(id, {name: [text[a:b] for a, b in offsets], "text": text, "offsets": offsets})
