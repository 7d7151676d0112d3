"""Character spans with a label, in every shape that annotation tools write them, and what is wrong with one.

| tool | one span |
| --- | --- |
| doccano | `[0, 5, "PER"]`, or `{"start_offset": 0, "end_offset": 5, "label": "PER"}` |
| spaCy, Prodigy | `[0, 5, "PER"]`, or `{"start": 0, "end": 5, "label": "PER"}` |
| Label Studio | `{"start": 0, "end": 5, "text": "Marie", "labels": ["PER"]}`, or under `result[i].value` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...records import Fault
from ..reading.cells import parsed
from ..reading.raw import shown
from .spans import Unreadable

_START = ("start", "start_offset", "begin", "start_char", "startOffset")
_END = ("end", "end_offset", "stop", "end_char", "endOffset")
_LABEL = ("label", "labels", "tag", "type", "entity", "entity_group", "category", "class")
_TEXT = ("text", "word", "surface", "value")
_EXPECTED = "a span: [start, end, label] or an object with start, end and label"


@dataclass(frozen=True, slots=True)
class Entity:
    """One span: code points from `start` up to `end`; `text` is what the file says stands there, if it does."""

    start: int
    end: int
    label: str
    path: str
    text: str | None = None


def entities_of(values: Mapping[str, Any], column: str) -> list[Entity]:
    """The row's spans in file order. Raises Unreadable where one has no known shape."""
    value = values.get(column)
    if isinstance(value, str):
        value = parsed(value) or ([] if not value.strip() else value)
    if not isinstance(value, (list, tuple)):
        raise Unreadable(column, value, "a list of spans")
    return [_entity(item, path) for item, path in _items(value, column)]


def _items(value: Sequence[Any], path: str) -> Iterator[tuple[Any, str]]:
    """The spans themselves: Label Studio puts them under `result` of one annotation, each under `value`."""
    for i, item in enumerate(value):
        place = f"{path}[{i}]"
        if isinstance(item, Mapping) and isinstance(item.get("result"), list):
            if not item.get("was_cancelled"):
                yield from _items(item["result"], f"{place}.result")
        elif isinstance(item, Mapping) and isinstance(item.get("value"), Mapping):
            yield item["value"], f"{place}.value"
        else:
            yield item, place


def _entity(item: Any, path: str) -> Entity:
    if isinstance(item, (list, tuple)) and len(item) == 3:
        (start, end, label), text = item, None
        paths = [f"{path}[{i}]" for i in range(3)]
    elif isinstance(item, Mapping):
        keys = [next((key for key in known if key in item), None) for known in (_START, _END, _LABEL)]
        if None in keys:
            raise Unreadable(path, item, _EXPECTED)
        start, end, label = (item[key] for key in keys if key is not None)
        text = next((item[key] for key in _TEXT if isinstance(item.get(key), str)), None)
        paths = [f"{path}.{key}" for key in keys]
    else:
        raise Unreadable(path, item, _EXPECTED)
    if isinstance(label, (list, tuple)) and len(label) == 1:
        label = label[0]
    for name, number in zip(paths, (start, end)):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or number != number // 1:
            raise Unreadable(name, number, "a whole number")
    if not isinstance(label, str) or not label.strip():
        raise Unreadable(paths[2], label, "one label as text")
    return Entity(int(start), int(end), label.strip(), path, text)


def examine(found: Sequence[Entity], text: str, file: str, line: int) -> Iterator[Fault]:
    """A fault for every span that is empty, outside the text, over another, or on other words than it says."""
    before: Entity | None = None
    for entity in sorted(found, key=lambda e: (e.start, e.end)):
        fault = _own(entity, text)
        if fault is None and before is not None and entity.start < before.end:
            mine, other = (f'"{shown(text[e.start : e.end], 30)}" ({e.label})' for e in (entity, before))
            message = f"{mine} lies over {other} ({before.path}), expected spans apart from each other"
            fault = "overlap", message, "keep one of the two"
        if fault is None:
            before = entity
            continue
        code, message, fix = fault
        value = f"[{entity.start}, {entity.end}, {entity.label}]"
        yield Fault("error", code, message, file, line, entity.path, shown(value), fix)


def _own(entity: Entity, text: str) -> tuple[str, str, str] | None:
    """(code, message, remedy) of a span that is wrong by itself."""
    start, end = entity.start, entity.end
    if start < 0 or end > len(text):
        message = f"the span {start} to {end} lies outside the text, expected 0 to {len(text)} at most"
        return "offset", message, "count characters (code points) from 0; the end is the one after the last"
    if start >= end:
        return (
            "empty-text",
            f"the span {start} to {end} is empty, expected an end behind its start",
            "correct it",
        )
    said = text[start:end]
    if not said.strip():
        return "empty-text", "the span holds white space alone, expected words", "correct or remove it"
    if entity.text is None or entity.text.strip() == said.strip():
        return None
    at = text.find(entity.text)
    why = f" (found at {at})" if at >= 0 else ""
    if text[start : end + 1] == entity.text:
        why = "; the file counts an end as the last character, not the one after it"
    message = f'the span {start} to {end} is "{shown(said, 40)}", expected "{shown(entity.text, 40)}"{why}'
    return "offset", message, "count characters (code points) from 0; the end is the one after the last"


def tags_of(places: Sequence[tuple[int, int]], found: Sequence[Entity]) -> list[str]:
    """BIO tags of the words at `places`, for spans that lie apart and end where words end."""
    out = ["O"] * len(places)
    at = 0
    for entity in sorted(found, key=lambda e: e.start):
        while at < len(places) and places[at][0] < entity.start:
            at += 1
        letter = "B"
        while at < len(places) and places[at][1] <= entity.end:
            out[at] = f"{letter}-{entity.label}"
            letter, at = "I", at + 1
    return out
