"""JSON files: an array of objects, or an object that holds one. Each row keeps the line it begins on.

Rows are decoded one by one, so that a broken or truncated file still gives the rows before the break, and,
where rows stand on lines of their own, the ones after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...records import Fault, Line
from .encoding import Probe, read_text
from .json_lines import not_an_object
from .raw import ROW_LIMIT, Raw, shown, too_large
from .squad import article_rows
from .strict_json import BROKEN, LocatedDecoder, StrictDecoder, broken

_SPACE = re.compile(r"[ \t\r\n]*")
_USUAL = (
    "data",
    "rows",
    "examples",
    "train",
    "items",
    "instances",
)  # keys that hold the rows, most usual first


class Lines:
    """Offsets into a text as physical lines (1-based) and columns."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = "\n" if "\n" in text or "\r" not in text else "\r"
        self.offset, self.line = 0, 1

    def __call__(self, offset: int) -> int:
        # Counting on from the last place asked for: rows come in order, so the whole file is counted about
        # once.
        if offset < self.offset:
            self.line -= self.text.count(self.end, offset, self.offset)
        else:
            self.line += self.text.count(self.end, self.offset, offset)
        self.offset = offset
        return self.line

    def column(self, offset: int) -> int:
        return offset - self.text.rfind(self.end, 0, offset)


def read_json(path: Path, name: str, found: Probe, nested: bool, split: str | None = None) -> Iterator[Raw]:
    """Records of a JSON file. `nested` is SQuAD's articles of paragraphs of questions.

    Raises DataError where the file holds no rows, or several arrays of rows and nothing says which.
    """
    text = read_text(path, found)
    start = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    if text[start : start + 1] == "[":
        yield from _Array(text, name, nested).rows(start + 1)
        return
    arrays = dict(_arrays_of_objects(text, start))
    if arrays:
        yield from _Array(text, name, nested).rows(arrays[_choose(list(arrays), name, split)] + 1)
        return
    yield from _single(text, name)


def rows_of(value: Any, name: str) -> list[Any]:
    """The rows of a JSON file that is already decoded: what `read_json` would read one by one."""
    if isinstance(value, list):
        return value
    arrays = {k: v for k, v in value.items() if _holds_rows(k, v)} if isinstance(value, dict) else {}
    return arrays[_choose(list(arrays), name, None)] if arrays else [value]


def _holds_rows(key: str, value: Any) -> bool:
    """Whether this is a list of rows; a file that is a single question holds a list of answers."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and "answer" not in key.lower()
        and not _is_part(value[0])
    )


def _is_part(value: Any) -> bool:
    """Whether an object is a turn, a span or an annotation: a file that is one row holds lists of such."""
    if not isinstance(value, dict):
        return False
    turn = ("role" in value and "content" in value) or ("from" in value and "value" in value)
    annotation = isinstance(value.get("result"), list)
    return turn or annotation or bool({"start", "start_offset"} & set(value) and {"end", "end_offset"} & set(value))


def _choose(keys: list[str], name: str, split: str | None) -> str:
    """The key that holds the rows."""
    if split and split in keys:
        return split
    if len(keys) == 1:
        return keys[0]
    for key in _USUAL:
        if key in keys:
            return key
    raise DataError(
        f"it holds several lists of rows: {', '.join(keys)}",
        where=name,
        fix="keep one list a file, or name the rows' key data",
    )


def _arrays_of_objects(text: str, start: int) -> Iterator[tuple[str, int]]:
    """(key, offset of its `[`) for every array of objects directly inside the object at `start`."""
    decoder = json.JSONDecoder()
    at = start + 1
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        try:
            key, at = decoder.raw_decode(text, at)
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
            if not isinstance(key, str) or text[at : at + 1] != ":":
                return
            value_at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
            first = _SPACE.match(text, value_at + 1).end()  # type: ignore[union-attr]
            listed = text[value_at : value_at + 1] == "[" and text[first : first + 1] == "{"
            if listed and "answer" not in key.lower() and not _is_part(_first(decoder, text, first)):
                yield key, value_at  # (a file that is one question holds a list of answers, too)
            _, at = decoder.raw_decode(text, value_at)
        except BROKEN:
            return  # the break lies in this value: what came before it is what there is
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] != ",":
            return
        at += 1


def _first(decoder: json.JSONDecoder, text: str, at: int) -> Any:
    try:
        return decoder.raw_decode(text, at)[0]
    except BROKEN:
        return None


def _single(text: str, name: str) -> Iterator[Raw]:
    """A file that is one object: one row."""
    decoder, line = StrictDecoder(), Lines(text)
    try:
        value = decoder.decode(text)
    except BROKEN as error:
        yield Raw(1, None, [broken(error, name, lambda offset: (line(offset), line.column(offset)), text)])
        return
    if not isinstance(value, dict):
        yield Raw(1, None, [not_an_object(value, name, 1)])
        return
    faults = decoder.complaints(value, name, 1)
    yield Raw(1, None if faults else value, faults)


class _Places:
    """The places of the objects that a LocatedDecoder has just read."""

    def __init__(self, line: Lines, decoder: LocatedDecoder) -> None:
        self._line, self._decoder = line, decoder

    def line(self, part: Any) -> int:
        return self._line(self._decoder.spans.get(id(part), (self._line.offset, 0))[0])

    def repeated(self, part: Any) -> list[str]:
        return self._decoder.repeats.get(id(part), [])


def _told_apart(raws: Iterator[Raw]) -> Iterator[Raw]:
    """The same records: a line names its row only where a neighbour begins on it, too."""
    held: list[Raw] = []  # a row whose neighbour is not known yet, and what is said of the file behind it
    shared = False
    for raw in raws:
        if not isinstance(raw.line, Line):
            held.append(raw)
            continue
        here = bool(held) and held[0].line == raw.line
        yield from _placed(held, shared or here)
        held, shared = [raw], here
    yield from _placed(held, shared)


def _placed(held: list[Raw], shared: bool) -> list[Raw]:
    """A row, and what stands behind it, with the row's line as it is to be printed; so are its faults' lines."""
    if held and not shared:
        held[0].line = int(held[0].line)
    elif held and held[0].faults:
        line = held[0].line
        held[0].faults = [replace(fault, line=line) if fault.line == line else fault for fault in held[0].faults]
    return held


class _Array:
    """The elements of one JSON array, decoded one at a time."""

    def __init__(self, text: str, name: str, nested: bool) -> None:
        self.text, self.name, self.nested = text, name, nested
        self.line = Lines(text)
        self.decoder: StrictDecoder = LocatedDecoder() if nested else StrictDecoder()
        self.num_read = self.num_lost = 0
        self.indent: str | None = None
        self.spread = False  # whether any row took several lines

    def rows(self, at: int) -> Iterator[Raw]:
        return _told_apart(self._rows(at))

    def _rows(self, at: int) -> Iterator[Raw]:
        while (start := self._next(at)) is not None:
            if isinstance(start, Raw):
                yield start
                return
            self._note_indent(start)
            try:
                value, at = self.decoder.raw_decode(self.text, start)
            except BROKEN as error:
                yield from self._recover()
                yield self._broken(error, start)
                resumed = self._resync(start + 1)
                if resumed is None:
                    return
                at = resumed
                continue
            after = _SPACE.match(self.text, at).end()  # type: ignore[union-attr]
            behind = self.text[after : after + 1]
            if behind in (",", "]", "{", ""):
                yield from self._element(value, start, at)
                at = after
            if behind == "{":
                yield self._no_comma(after)
            elif behind not in (",", "]", ""):
                yield self._junk(after)
                resumed = self._resync(after)
                if resumed is None:
                    return
                at = resumed
            self.decoder.forget()

    def _next(self, at: int) -> int | Raw | None:
        """Where the next element begins; None at the array's end; a fault where the file just stops."""
        at = _SPACE.match(self.text, at).end()  # type: ignore[union-attr]
        if self.text[at : at + 1] == ",":
            at = _SPACE.match(self.text, at + 1).end()  # type: ignore[union-attr]
        if at >= len(self.text):
            return self._truncated(at)
        return None if self.text[at] == "]" else at

    def _element(self, value: Any, start: int, end: int) -> Iterator[Raw]:
        line = self.line(start)
        self.spread = self.spread or self.text.find(self.line.end, start, end) >= 0
        if isinstance(self.decoder, LocatedDecoder) and isinstance(value, dict):
            # A NaN inside a question is found where the field is checked.
            for raw in article_rows(value, self.name, _Places(self.line, self.decoder)):
                yield self._numbered(raw)
            return
        complaints = self.decoder.complaints(value, self.name, line)
        if not isinstance(value, dict):
            yield self._numbered(Raw(line, None, [not_an_object(value, self.name, line)]))
        elif end - start > ROW_LIMIT:
            near = self.text[start : start + 100]
            yield self._numbered(Raw(line, None, [too_large(self.name, line, end - start, ROW_LIMIT, value=near)]))
        else:
            yield self._numbered(Raw(line, None if complaints else value, complaints))

    def _numbered(self, raw: Raw) -> Raw:
        self.num_read += 1
        own = raw.values.get("id") if raw.values else None
        raw.line = Line(raw.line, self.num_read + self.num_lost, "" if own is None else shown(own, 40))
        return raw

    def _lost(self, fault: Fault) -> Raw:
        """A row that could not be decoded."""
        self.num_lost += 1
        return Raw(Line(fault.line, self.num_read + self.num_lost), None, [fault])

    def _recover(self) -> Iterator[Raw]:
        """The complete paragraphs of a nested article that breaks off later."""
        if not isinstance(self.decoder, LocatedDecoder):
            return
        whole = [part for part in self.decoder.done if "qas" in part and "context" in part]
        for raw in article_rows({"paragraphs": whole}, self.name, _Places(self.line, self.decoder)):
            yield self._numbered(raw)

    def _broken(self, error: BaseException, start: int) -> Raw:
        self.decoder.forget()
        if isinstance(error, json.JSONDecodeError) and not self.text[error.pos :].strip():
            return self._truncated(error.pos)
        if isinstance(error, json.JSONDecodeError) and error.msg.startswith("Unterminated string"):
            return self._truncated(error.pos)
        if not isinstance(error, json.JSONDecodeError):
            fault = broken(error, self.name, lambda _: (self.line(start), 1), self.text[start : start + 60])
            return self._lost(fault)
        return self._lost(broken(error, self.name, lambda at: (self.line(at), self.line.column(at)), self.text))

    def _truncated(self, at: int) -> Raw:
        line = self.line(min(at, len(self.text.rstrip())))
        message = f"the file ends inside its list, expected a closing ]; the {self.num_read} rows before were read"
        near = shown(self.text.rstrip()[-60:])
        return Raw(
            line,
            None,
            [Fault("error", "truncated", message, self.name, line, "", near, "fetch or export it again")],
        )

    def _no_comma(self, at: int) -> Raw:
        """Both rows are whole, so both are kept."""
        line, near = self.line(at), shown(self.text[at : at + 40])
        message = f"not quite JSON at column {self.line.column(at)}: no comma between two rows, expected one"
        return Raw(line, None, [Fault("warning", "bad-json", message, self.name, line, "", near, "add the comma")])

    def _junk(self, at: int) -> Raw:
        line, near = self.line(at), shown(self.text[at : at + 40])
        message = f"not JSON at column {self.line.column(at)}: text follows the row, expected a comma or ]"
        return Raw(line, None, [Fault("error", "bad-json", message, self.name, line, "", near, "remove it")])

    def _note_indent(self, start: int) -> None:
        """Remember how far rows are indented when each begins its own line, to find the next one after a
        break.
        """
        if self.indent is None:
            line_start = self.text.rfind(self.line.end, 0, start) + 1
            before = self.text[line_start:start]
            self.indent = before if line_start and not before.strip() else ""
            if not line_start or before.strip():
                self.indent = "no"

    def _resync(self, at: int) -> int | None:
        """The start of the next row on a line of its own, or None where rows cannot be told apart."""
        if self.indent in (None, "no") or self.nested:
            return None
        # Inside a row of several lines, lines are indented deeper than the row, or (flush left) look like
        # anything.
        begins = r"\{" if self.spread and not self.indent else r"[^\s\]}]"
        found = re.compile(f"{self.line.end}{self.indent}(?={begins})").search(self.text, at)
        return None if found is None else found.end()
