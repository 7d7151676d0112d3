"""`luthier check FILE --fix-offsets`: a copy of the file in which wrong answer starts are right, all else
untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import write_new
from ...records import Fault, Form
from ..load import load
from ..reading.encoding import lines, read_text
from ..reading.formats import Opened, open_file
from ..reading.json_files import rows_of
from ..reading.raw import Raw
from ..reading.strict_json import BROKEN, LocatedDecoder
from ..rows.columns import known_names, map_columns
from ..rows.spans import START_KEYS, TEXT_KEYS, Repair, Span, SpanColumns, Unreadable, collect, examine

_FORMATS = ("squad", "squad-flat", "json", "jsonl")


def fix_offsets(path: Path, form: Form) -> tuple[Path, int, list[Fault]]:
    """Write NAME.fixed.json[l] beside the file: (the new file, how many answers were corrected, errors left).

    Only the objects that hold a corrected answer are written anew; every other character stays. An existing
    file is never overwritten. Raises DataError for formats other than JSON and for forms without spans.
    """
    name = str(path)
    if not any(f.kind == "spans" for f in form.fields):
        raise DataError("this task has no answers with a start", where=name, fix="leave --fix-offsets out")
    opened = open_file(path, name, "auto", known_names(form, {}))
    if opened.format not in _FORMATS:
        raise DataError(
            f"only JSON files can be repaired, this is {opened.format}", where=name, fix="correct it by hand"
        )
    pieces: list[str] = []
    fixed = 0
    for text in texts_of(opened):
        new, count = _repaired(text, form, opened.format == "squad")
        pieces.append(new)
        fixed += count
    target = write_copy(opened, pieces)
    return target, fixed, errors_left(target, form)


def texts_of(opened: Opened) -> Iterator[str]:
    """A JSON file's text: line by line where each is a value of its own, else whole."""
    if opened.by_lines:
        return (line for _, line, _ in lines(opened.path, opened.probe))
    return iter([read_text(opened.path, opened.probe)])


def write_copy(opened: Opened, pieces: Sequence[str]) -> Path:
    """The file anew under a free name beside it, in its own encoding, whole or not at all."""
    found = opened.probe

    def write(part: Path) -> None:
        with part.open("w", encoding=found.encoding, errors=found.errors, newline="") as file:
            file.writelines(pieces)

    needed = opened.path.stat().st_size
    while not write_new(target := _free_name(opened.path), write, needed):
        pass  # another process has made the file since the name was chosen
    return target


def errors_left(target: Path, form: Form) -> list[Fault]:
    return [fault for fault in load(str(target.resolve()), form).faults if fault.severity == "error"]


def _free_name(path: Path) -> Path:
    stem, suffix = path.name.removesuffix(path.suffix), path.suffix or ".json"
    for number in range(1, 1000):
        extra = "" if number == 1 else f".{number}"
        target = path.with_name(f"{stem}.fixed{extra}{suffix}")
        if not target.exists():
            return target
    raise DataError("there are too many repaired copies already", where=str(path), fix="remove old ones")


@dataclass(frozen=True, slots=True)
class Edit:
    """What stands anew from `start` up to `end` of a text."""

    start: int
    end: int
    new: str


def edited(text: str, edits: Iterable[Edit]) -> str:
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


def decoded(text: str) -> tuple[Any, LocatedDecoder] | None:
    """The text's JSON with the places of its objects; None where it is broken."""
    decoder = LocatedDecoder()
    indent = len(text) - len(text.lstrip(" \t\r\n\ufeff"))
    try:
        value, _ = decoder.raw_decode(text, indent)
    except BROKEN:
        return None
    return value, decoder


def _repaired(text: str, form: Form, nested: bool) -> tuple[str, int]:
    """The text with its wrong starts corrected, and how many; unreadable JSON comes back as it is."""
    found = decoded(text)
    if found is None:
        return text, 0
    value, decoder = found
    edits: list[Edit] = []
    fixed = 0
    for record, objects in _records(value, nested):
        changed = _corrections(record, form)
        fixed += len(changed)
        edits += _edits(text, objects, changed, decoder)
    return edited(text, edits), fixed


def _records(value: Any, nested: bool) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(the record as `load` sees it, the object in the file that holds its answers)."""
    for row in rows_of(value, "the file"):
        if not isinstance(row, dict):
            continue
        if not nested:
            yield row, row
            continue
        for paragraph in row.get("paragraphs") or []:
            for question in paragraph.get("qas") or []:
                if isinstance(question, dict):
                    yield {**question, "context": paragraph.get("context")}, question


def _corrections(record: dict[str, Any], form: Form) -> list[tuple[Span, Repair]]:
    """The record's answers that stand elsewhere than they say."""
    target = next(f for f in form.fields if f.kind == "spans")
    try:
        mapped = map_columns(form, [Raw(1, record)], {}, False, "")
    except DataError:
        return []
    context = record.get(mapped.columns.get(target.within or "", ""))
    columns = mapped.spans.get(target.name) or SpanColumns(target.name)
    if not isinstance(context, str):
        return []
    try:
        spans = collect(record, columns)
    except Unreadable:
        return []
    found = []
    for span in spans:
        repair, fault = examine(span, context, "", 0)
        if repair is not None and fault is not None:
            found.append((span, repair))
    return found


_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def _edits(
    text: str, record: dict[str, Any], changed: list[tuple[Span, Repair]], decoder: LocatedDecoder
) -> list[Edit]:
    """One edit for each smallest object of the record that holds a corrected answer."""
    touched: dict[int, dict[str, Any]] = {}
    for span, repair in changed:
        for path, new in ((span.start_path, repair.start), (span.path, repair.text)):
            holder = _write(record, path, new)
            touched[id(holder)] = holder
    edits = []
    for holder in touched.values():
        start, end = decoder.spans[id(holder)]
        edits.append(Edit(start, end, _rewritten(text[start:end], holder)))
    # An object inside another that is written anew is already in it.
    return [e for e in edits if not any(o is not e and o.start <= e.start and e.end <= o.end for o in edits)]


def _write(record: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """Set the value at `path` (answers[0].answer_start); the innermost object on the way there."""
    steps: list[Any] = [m.group(1) if m.group(1) is not None else int(m.group(2)) for m in _STEP.finditer(path)]
    holder, node = record, record
    for step in steps[:-1]:
        node = node[step]
        if isinstance(node, dict):
            holder = node
    node[steps[-1]] = new
    return holder


def _rewritten(old: str, value: dict[str, Any]) -> str:
    """`value` as JSON in the style of `old`: its spacing, and ASCII escapes where it uses them."""
    simple = _numbers_only(old, value)
    if simple is not None:
        return simple
    ascii_only = old.isascii()
    if "\n" in old:
        return json.dumps(value, ensure_ascii=ascii_only)
    colon = ": " if re.search(r'":\s', old) else ":"
    comma = ", " if re.search(r'[\]"\d}el],\s', old) else ","
    return json.dumps(value, ensure_ascii=ascii_only, separators=(comma, colon))


def _numbers_only(old: str, value: dict[str, Any]) -> str | None:
    """`old` with nothing but its start replaced, where that alone gives `value`."""
    key = next((key for key in START_KEYS if isinstance(value.get(key), int)), None)
    if key is None or not any(name in value for name in TEXT_KEYS):
        return None
    new, count = re.subn(rf'("{key}"\s*:\s*)[-+.\deE]+', lambda m: f"{m.group(1)}{value[key]}", old)
    try:
        return new if count == 1 and json.loads(new) == value else None
    except BROKEN:
        return None
