"""Labels, several labels and numbers: what a cell may hold, and what is said where it holds something else."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...errors import did_you_mean
from ...records import Field
from ..reading.cells import parsed
from ..reading.raw import Raw, kind_of, shown, value_of

if TYPE_CHECKING:
    from .fields import RowMaker

# What spreadsheets and pandas write into an empty cell.
_EMPTY = frozenset({"", "nan", "NaN", "<NA>", "#N/A", "null", "NULL"})
SEPARATORS = ("|", ";", ",")  # the rarer a sign is inside a label, the earlier it is looked for
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_ONE_LABEL = "write one label a row"
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+", re.ASCII)


def as_label(value: Any) -> str | None:
    """A cell's label as text; None where it is empty. ValueError where it can be none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if value != value:
            return None
        if value.is_integer() and abs(value) < 1e15:  # pandas turns whole numbers with gaps into floats
            return str(int(value))
    if isinstance(value, str):
        value = value.strip()
        return None if value in _EMPTY else value
    if value is None:
        return None
    raise ValueError


def as_number(label: str) -> float | None:
    """The number that a label is written as; None where it is none."""
    return float(label) if _NUMBER.fullmatch(label) else None


def read_label(maker: RowMaker, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
    """One label: text, a whole number, or true and false."""
    assert raw.values is not None
    value = raw.values.get(column)
    try:
        label = as_label(value)
    except ValueError:
        message = f"{kind_of(value)} ({shown(value, 40)}), expected one label: text or a whole number"
        fix = "to estimate numbers, set task.problem_type: regression" if isinstance(value, float) else _ONE_LABEL
        return maker.reject("wrong-type", message, raw, column, value, fix)
    if label is not None:
        named = _named(maker, label, column, raw)
        if named is None:
            return False
        fields[f.name] = sys.intern(named)
        return True
    if maker.optional(f):
        return True
    message = "the label is missing, expected text or a whole number"
    return maker.reject("missing-label", message, raw, column, value, "fill it in, or remove the row")


def read_labels(maker: RowMaker, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
    """Any number of labels: a list, or one text that is split. An empty list (or text) means none of them."""
    assert raw.values is not None
    value = raw.values.get(column)
    if isinstance(value, float) and value != value:
        value = None
    if value is None or (isinstance(value, str) and value.strip() in _EMPTY - {""}):
        if maker.optional(f):
            return True
        message = "the labels are missing, expected a list (an empty one for none of them)"
        return maker.reject("missing-label", message, raw, column, value, "fill them in, or remove the row")
    listed = parsed(value) if isinstance(value, str) else value
    if isinstance(value, str) and not isinstance(listed, list):
        listed = [piece for piece in _split(maker, f.name, value) if piece.strip()]
    if not isinstance(listed, (list, tuple)):
        listed = [value]
    labels: set[str] = set()
    for i, item in enumerate(listed):
        place = f"{column}[{i}]" if len(listed) > 1 or isinstance(value, (list, tuple)) else column
        try:
            label = as_label(item)
        except ValueError:
            message = f"{kind_of(item)} ({shown(item, 40)}), expected a label: text or a whole number"
            return maker.reject("wrong-type", message, raw, place, item, "write the labels as a list of texts")
        if label is None:
            message = "one of the labels is empty, expected text"
            return maker.reject("missing-label", message, raw, place, item, "fill it in, or take it out of the list")
        named = _named(maker, label, place, raw)
        if named is None:
            return False
        labels.add(sys.intern(named))
    fields[f.name] = sorted(labels)
    return True


def _split(maker: RowMaker, name: str, text: str) -> list[str]:
    """The pieces of one text, at the sign that parts labels in this file."""
    mark = maker.mapped.separators.get(name)
    if mark is None:
        mark = next((sign for sign in SEPARATORS if sign in text), None)
        if mark is None:
            return [text]
        maker.mapped.separators[name] = mark
    return text.split(mark)


def separator(sample: Sequence[Raw], column: str) -> str | None:
    """The sign that parts labels in a column of plain texts: the first of `SEPARATORS` that any of them holds."""
    cells = [value_of(raw.values or {}, column) for raw in sample]
    texts = [cell for cell in cells if isinstance(cell, str) and parsed(cell) is None]
    return next((sign for sign in SEPARATORS if any(sign in text for text in texts)), None)


def _named(maker: RowMaker, label: str, place: str, raw: Raw) -> str | None:
    """The label under its own name, where the recipe says what numbers stand for; None after a fault."""
    names = maker.label_names
    if not names:
        return label if maker.clean(label, place, raw) else None
    if label in names:
        return label
    if label.isascii() and label.isdecimal():
        if int(label) < len(names):
            return names[int(label)]
        problem = f"the label is {label}, and data.label_names has {len(names)} names, expected 0 to {len(names) - 1}"
    else:
        problem = f'the label "{shown(label, 40)}" is not in data.label_names, expected one of them'
    maker.reject("unknown-label", problem, raw, place, label, f"correct it. {did_you_mean(label[:200], names)}")
    return None


def read_number(maker: RowMaker, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
    """A finite number, or text that is one."""
    assert raw.values is not None
    value = raw.values.get(column)
    text = value.strip() if isinstance(value, str) else None
    if value is None or text in _EMPTY:
        if maker.optional(f):
            return True
        message = "the number is missing, expected one"
        return maker.reject("missing-label", message, raw, column, value, "fill it in, or remove the row")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or (text and not _NUMBER.fullmatch(text)):
        if text and text.lstrip("+-").lower() in ("inf", "infinity"):
            return _not_finite(maker, column, raw, value)
        message = f"{kind_of(value)} ({shown(value, 40)}), expected a number"
        dots = text is not None and _DECIMAL_COMMA.fullmatch(text)
        fix = f"write {text.replace(',', '.')}, with a point" if text and dots else "write a number such as 3.5"
        return maker.reject("wrong-type", message, raw, column, value, fix)
    try:
        number = float(text if text is not None else value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return _not_finite(maker, column, raw, value)
    fields[f.name] = number
    return True


def _not_finite(maker: RowMaker, column: str, raw: Raw, value: Any) -> bool:
    message = f"{shown(value, 40)} is not a finite number, expected one"
    return maker.reject("not-a-number", message, raw, column, value, "correct it, or remove the row")
