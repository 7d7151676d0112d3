"""`luthier check FILE --fix-tags`: a copy of the file in which tags that cannot be are put right, all else
untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...records import Fault, Field, Form
from ..reading.encoding import lines
from ..reading.formats import Opened, open_file
from ..reading.json_files import rows_of
from ..reading.raw import Raw, value_of
from ..reading.strict_json import BROKEN, LocatedDecoder
from ..rows.columns import known_names, map_columns
from ..rows.tagged import MENDABLE, TOKENS
from ..rows.tags import Scheme, detect, repaired
from .offsets import Edit, decoded, edited, errors_left, texts_of, write_copy

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def fix_tags(path: Path, form: Form) -> tuple[Path, int, list[Fault]]:
    """Write NAME.fixed.SUFFIX beside the file: (the new file, how many tags were corrected, errors left).

    Only the tags themselves are written anew, in the file's own scheme; every other character stays. An existing
    file is never overwritten. Raises DataError for other formats, for files without tags and for forms without
    tags.
    """
    name = str(path)
    tags = next((f for f in form.fields if f.kind == "tags"), None)
    if tags is None:
        raise DataError("this task has no tags", where=name, fix="leave --fix-tags out")
    opened = open_file(path, name, "auto", known_names(form, {}))
    if opened.format not in MENDABLE:
        raise DataError(
            f"only CoNLL and JSON files can be repaired, this is {opened.format}",
            where=name,
            fix="correct it by hand",
        )
    records = list(opened.records())
    column = _column(form, tags, records, name)
    scheme = detect(found for raw in records if (found := _tags(raw.values, column)) is not None)
    if opened.format == "conll":
        pieces, fixed = _conll(opened, records, column, scheme)
    else:
        pieces, fixed = _json(opened, column, scheme)
    target = write_copy(opened, pieces)
    return target, fixed, errors_left(target, form)


def _column(form: Form, tags: Field, records: list[Raw], name: str) -> str:
    mapped = map_columns(form, records, {}, True, name)
    if mapped.layout != TOKENS:
        raise DataError("it marks spans of characters, not words", where=name, fix="leave --fix-tags out")
    return mapped.columns[tags.name]


def _tags(values: Mapping[str, Any] | None, column: str) -> list[str] | None:
    """A record's tags, where they are a list of texts."""
    found = value_of(values, column) if values is not None else None
    return found if isinstance(found, list) and all(isinstance(tag, str) for tag in found) else None


def _conll(opened: Opened, records: list[Raw], column: str, scheme: Scheme) -> tuple[list[str], int]:
    """The file's lines, each with its last cell as it should be."""
    better: dict[int, tuple[str, str]] = {}
    for raw in records:
        tags = _tags(raw.values, column)
        if tags is not None:
            pairs = zip(raw.lines, zip(tags, repaired(tags, scheme)))
            better.update({line: (old, new) for line, (old, new) in pairs if old != new})
    out = []
    for number, line, _ in lines(opened.path, opened.probe):
        if number in better:
            old, new = better[number]
            at = line.rindex(old)
            line = line[:at] + new + line[at + len(old) :]
        out.append(line)
    return out, len(better)


def _json(opened: Opened, column: str, scheme: Scheme) -> tuple[list[str], int]:
    pieces, fixed = [], 0
    for text in texts_of(opened):
        found = decoded(text)
        edits = list(_edits(text, *found, column, scheme)) if found is not None else []
        pieces.append(edited(text, edits))
        fixed += len(edits)
    return pieces, fixed


def _edits(text: str, value: Any, decoder: LocatedDecoder, column: str, scheme: Scheme) -> Iterator[Edit]:
    """One edit for each tag that changes, in all rows of a JSON text."""
    for row in rows_of(value, "the file"):
        tags = _tags(row, column) if isinstance(row, dict) else None
        if tags is None:
            continue
        wanted = repaired(tags, scheme)
        if wanted == tags:
            continue
        holder, key = _holder(row, column)
        inside = [decoder.spans[id(part)] for part in _objects(list(holder.values()))]
        places = _strings(text, decoder.spans[id(holder)], inside, key, tags)
        for (begin, stop), old, new in zip(places, tags, wanted):
            if old != new:
                yield Edit(begin, stop, json.dumps(new, ensure_ascii=text[begin:stop].isascii()))


def _holder(row: dict[str, Any], column: str) -> tuple[dict[str, Any], str]:
    """The object that holds the column, and the key it has there."""
    holder, key = row, column
    while key not in holder:
        outer, _, key = key.partition(".")
        holder = holder[outer]
    return holder, key


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """The outermost objects in a list of values."""
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item
        else:
            yield from _objects(item)


def _strings(
    text: str, span: tuple[int, int], inside: list[tuple[int, int]], key: str, tags: list[str]
) -> list[tuple[int, int]]:
    """Where each text of the list under an object's own `key` stands, quotes included; `inside` are its objects."""
    pattern = re.compile(rf"{re.escape(json.dumps(key, ensure_ascii=False))}\s*:\s*(?=\[)")
    for match in pattern.finditer(text, *span):
        if any(start <= match.start() < end for start, end in inside):
            continue
        try:
            found, stop = json.JSONDecoder().raw_decode(text, match.end())
        except BROKEN:
            continue
        if found == tags:
            return [m.span() for m in _STRING.finditer(text, match.end(), stop)]
    return []
