"""What a file reader hands on: one record with its line, or the reason why there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...records import Fault

KB = 1024
CELL_LIMIT = 256 * KB  # bytes of UTF-8 in one field
ROW_LIMIT = 1024 * KB  # characters in one row
DOCUMENT_LIMIT = 8 * ROW_LIMIT  # bytes of a text that is learned for itself: whole books
LINE_LIMIT = 10 * KB * KB  # characters of one physical line that are ever held in memory

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(slots=True)
class Raw:
    """One record as it stands in a file. `values` is None where it could not be read; `faults` then say
    why (with warnings alone it stands for no row, but for a word about the file).

    `line` is physical and 1-based (a `Line`, which names the row, where several share it: a JSON file without line
    breaks), or the row's number in formats without lines. `lines` are those of its parts where each has one of its
    own (the tokens of a CoNLL file).
    """

    line: int
    values: dict[str, Any] | None
    faults: Sequence[Fault] = ()
    lines: Sequence[int] = ()


def value_of(values: Mapping[str, Any], column: str) -> Any:
    """A record's value in a column, or in a column inside another ("translation.en"); None where there is none."""
    if column in values:
        return values[column]
    outer, _, inner = column.partition(".")
    inside = values.get(outer)
    return value_of(inside, inner) if inner and isinstance(inside, Mapping) else None


def shown(value: Any, limit: int = 80) -> str:
    """`value` as short printable text for a message: control characters and lone surrogates escaped."""
    if not isinstance(value, str):
        try:
            value = json.dumps(value, ensure_ascii=False, default=str)
        except (ValueError, TypeError, RecursionError):
            value = f"<{type(value).__name__}>"
    if len(value) > limit:
        value = value[: limit - 1] + "…"
    return _UNPRINTABLE.sub(lambda m: m.group().encode("unicode_escape", "surrogatepass").decode("ascii"), value)


def kind_of(value: Any) -> str:
    """What a person would call this JSON value: "a number", "a list", "nothing (null)"."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a value of type {type(value).__name__}"


def too_large(file: str, line: int, size: int, limit: int, field: str = "", value: str = "") -> Fault:
    """The fault for a row or a cell beyond the limits."""
    what = f'the field "{field}"' if field else "the row"
    return Fault(
        "error",
        "too-large",
        f"row too large: {what} holds {size / KB:,.0f} KB, expected at most {limit // KB:,} KB",
        file,
        line,
        field,
        shown(value),
        "split it into several shorter rows",
    )
