"""Answers and where they start: every shape files hold them in, what is wrong with one, its repair."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...records import Fault
from ..reading.cells import parsed
from ..reading.raw import kind_of, shown

TEXT_KEYS = ("text", "answer_text", "answer", "span")
START_KEYS = ("answer_start", "start", "answer_starts", "start_char", "answer_begin", "begin", "offset")
IMPOSSIBLE_KEYS = ("is_impossible", "impossible")


@dataclass(frozen=True, slots=True)
class Span:
    """One answer as the file has it. `path` is its place in the row; `start_path` that of its offset."""

    text: Any
    start: Any
    path: str
    start_path: str


@dataclass(frozen=True, slots=True)
class SpanColumns:
    """The columns that hold the answers: one with everything, or one for the words and one for the starts."""

    answers: str
    start: str | None = None
    impossible: str | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """What an answer should say instead, and why the file's own was off ("" where only the count is)."""

    text: str
    start: int
    why: str = ""


class Unreadable(Exception):
    """The value holds no answers in any known shape; `field` is where, `value` what stands there."""

    def __init__(self, field: str, value: Any, expected: str) -> None:
        self.field, self.value, self.expected = field, value, expected


def collect(values: Mapping[str, Any], columns: SpanColumns) -> list[Span]:
    """The row's answers in file order; [] for "no answer". Raises Unreadable."""
    name, value = columns.answers, values.get(columns.answers)
    if isinstance(value, str):
        listed = parsed(value)
        if listed is None:
            return _plain(values, columns, value)
        value = listed
    if isinstance(value, dict):
        return _from_dict(value, name)
    if isinstance(value, list):
        if columns.start is not None and all(isinstance(item, str) for item in value):
            return _parallel(value, values.get(columns.start), name, columns.start)
        spans: list[Span] = []
        for i, item in enumerate(value):
            if isinstance(item, str):
                spans.append(Span(item, None, f"{name}[{i}]", f"{name}[{i}]"))
            elif isinstance(item, dict):
                spans += _from_dict(item, f"{name}[{i}]")
            else:
                raise Unreadable(f"{name}[{i}]", item, "an object with text and answer_start")
        return spans
    raise Unreadable(name, value, "a list of answers with text and answer_start")


def _plain(values: Mapping[str, Any], columns: SpanColumns, text: str) -> list[Span]:
    """One answer in its own column, its start in another or nowhere."""
    start_path = columns.start or columns.answers
    start = values.get(columns.start) if columns.start else None
    if isinstance(start, str):
        start = _number(start)
    if not text.strip() and start in (None, -1, ""):
        return []
    return [Span(text, start, columns.answers, start_path)]


def _from_dict(value: Mapping[str, Any], path: str) -> list[Span]:
    if not value:
        return []
    text_key = next((key for key in TEXT_KEYS if key in value), None)
    start_key = next((key for key in START_KEYS if key in value), None)
    if text_key is None:
        raise Unreadable(path, value, "an object with text and answer_start")
    texts = value[text_key]
    if isinstance(texts, list):
        return _parallel(
            texts, value.get(start_key) if start_key else None, f"{path}.{text_key}", f"{path}.{start_key}"
        )
    start_path = f"{path}.{start_key or 'answer_start'}"
    return [Span(texts, value[start_key] if start_key else None, f"{path}.{text_key}", start_path)]


def _parallel(texts: list[Any], starts: Any, path: str, start_path: str) -> list[Span]:
    """A list of words beside a list of starts."""
    if isinstance(starts, str):
        starts = parsed(starts) or starts
    if starts is None:
        starts = [None] * len(texts)
    if not isinstance(starts, list):
        starts = [starts]
    if len(starts) != len(texts):
        raise Unreadable(start_path, starts, f"as many starts as answers ({len(texts)})")
    pairs = enumerate(zip(texts, starts))
    return [Span(text, start, f"{path}[{i}]", f"{start_path}[{i}]") for i, (text, start) in pairs]


def _number(cell: str) -> Any:
    """A CSV cell as the number it shows: pandas writes whole numbers as 12.0 where a column has gaps."""
    cell = cell.strip()
    if re.fullmatch(r"-?\d{1,15}(\.0+)?", cell):
        return int(cell.split(".")[0])
    return cell or None


def truth(value: Any) -> bool | None:
    """A yes or no however it is written; None where the file says nothing."""
    if isinstance(value, str):
        value = value.strip().lower()
        return True if value in ("true", "1", "yes") else False if value in ("false", "0", "no") else None
    return bool(value) if isinstance(value, (bool, int, float)) else None


def examine(span: Span, context: str, file: str, line: int) -> tuple[Repair | None, Fault | None]:
    """A span against the text it lies in: (its corrected form, the fault that says so).

    (None, None): it is right. A Repair without a Fault: the file gives no start, and the words stand there.
    """
    if not isinstance(span.text, str):
        expected = "the answer's words as text"
        return None, wrong_span(file, line, span.path, span.text, expected)
    if not span.text.strip():
        message = "the answer is empty, expected its words (or no answer at all)"
        fix = "write an empty list of answers if there is none"
        return None, Fault("error", "empty-text", message, file, line, span.path, shown(span.text), fix)
    start = span.start
    if start is None:
        repair = find(context, span.text, 0)
        if repair is not None and repair.text == span.text:
            return repair, None
        return repair, _absent(span, repair, file, line)
    if isinstance(start, bool) or not isinstance(start, (int, float)):
        return None, wrong_span(file, line, span.start_path, start, "a whole number")
    whole = int(start) if isinstance(start, int) or (start == start and abs(start) < 1e15) else -1
    if isinstance(start, int) and start >= 0 and context.startswith(span.text, start):
        return None, None
    repair = find(context, span.text, whole)
    if repair is None or repair.text != span.text:
        return repair, _absent(span, repair, file, line)
    return repair, _misplaced(span, whole, context, repair, file, line)


def wrong_span(file: str, line: int, field: str, value: Any, expected: str) -> Fault:
    message = f"{kind_of(value)} ({shown(value, 40)}), expected {expected}"
    return Fault("error", "wrong-type", message, file, line, field, shown(value), "correct or remove this answer")


def _fix(file: str) -> str:
    return f"luthier check {file} --fix-offsets"


def _misplaced(span: Span, start: int, context: str, repair: Repair, file: str, line: int) -> Fault:
    """The words are in the context, but not where the file says."""
    expected = f'expected "{shown(span.text, 60)}" (found at {repair.start}{repair.why})'
    if isinstance(span.start, float):
        message = f"{span.start!r} is not a whole number, {expected}"
    elif start < 0:
        message = f"{span.start} is before the context begins, {expected}"
    elif start >= len(context):
        message = f"{span.start} is past the context's end ({len(context)}), {expected}"
    else:
        points = context[start : start + len(span.text)]
        message = f'{span.start} points at "{shown(points, 60)}", {expected}'
    return Fault("error", "offset", message, file, line, span.start_path, shown(span.start), _fix(file))


def _absent(span: Span, repair: Repair | None, file: str, line: int) -> Fault:
    """The words are not in the context, or only in another spelling."""
    found = f'"{shown(span.text, 60)}" is not in the context'
    if repair is None:
        message, fix = (
            f"{found}, expected words copied from it",
            "copy the answer from the context, or remove the row",
        )
    else:
        message = f'{found}, expected "{shown(repair.text, 60)}" (found at {repair.start}{repair.why})'
        fix = _fix(file)
    return Fault("error", "answer-not-in-context", message, file, line, span.path, shown(span.text), fix)


def find(context: str, text: str, start: int) -> Repair | None:
    """Where `text` most likely stands, given that the file says `start`; else its nearest variant; else None.

    A start counted in UTF-16 units (browsers), in bytes, or with each CRLF as one character is recognised.
    """
    places = _occurrences(context, text)
    if places:
        for why, count in _COUNTS:
            for place in places:
                if place != start and count(context, place) == start:
                    return Repair(text, place, why)
        return Repair(text, min(places, key=lambda place: (abs(place - start), place)))
    return _variant(context, text, start)


def _utf16(context: str, place: int) -> int:
    return len(context[:place].encode("utf-16-le", "surrogatepass")) // 2


def _bytes(context: str, place: int) -> int:
    return len(context[:place].encode("utf-8", "surrogatepass"))


def _one_line_end(context: str, place: int) -> int:
    return place - context.count("\r\n", 0, place)


_COUNTS = (
    ("; the file counts UTF-16 units, so each emoji as two", _utf16),
    ("; the file counts bytes", _bytes),
    ("; the file counts each line end as one character", _one_line_end),
)


def _occurrences(context: str, text: str, limit: int = 1000) -> list[int]:
    places: list[int] = []
    at = context.find(text)
    while at >= 0 and len(places) < limit:
        places.append(at)
        at = context.find(text, at + 1)
    return places


def _variant(context: str, text: str, start: int) -> Repair | None:
    """The same words in other white space, case or Unicode form, as the context has them."""
    words = text.split()
    for form in (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)):
        if form != text and (places := _occurrences(context, form)):
            return Repair(form, min(places, key=lambda p: abs(p - start)), "; written in another Unicode form")
    if not words or len(text) > 10_000:
        return None
    pattern = r"\s+".join(re.escape(word) for word in words)
    for flags, why in ((0, "; white space differs"), (re.IGNORECASE, "; upper and lower case differ")):
        # A word inside a longer one ("art" in "party") is no variant of it.
        left = r"(?<!\w)" if words[0][0].isalnum() else ""
        right = r"(?!\w)" if words[-1][-1].isalnum() else ""
        found = [(m.start(), m.group()) for m in re.finditer(left + pattern + right, context, flags)]
        if found:
            place, surface = min(found, key=lambda pair: abs(pair[0] - start))
            return Repair(surface, place, why)
    return None
