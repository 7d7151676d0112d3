"""JSON read strictly, with places: repeated keys and NaN are noticed, each object knows where it began."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from json import scanner
from json.decoder import JSONObject  # type: ignore[attr-defined]
from typing import Any

from ...records import Fault
from .raw import shown

BROKEN = (ValueError, RecursionError)  # what decoding can raise: bad JSON, an absurd number, too deep nesting


class StrictDecoder(json.JSONDecoder):
    """A JSON decoder that collects what the usual one forgives. Read `complaints` after each row."""

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self.constants: list[str] = []
        super().__init__(object_pairs_hook=self._object_of, parse_constant=self._constant)

    def _object_of(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.repeated.append(key)
                seen.add(key)
        return made

    def _constant(self, name: str) -> float:
        self.constants.append(name)
        return float(name.replace("Infinity", "inf"))

    def complaints(self, value: Any, file: str, line: int) -> list[Fault]:
        """The faults of the row just decoded as `value`; forgets them."""
        if not self.repeated and not self.constants:
            return []
        faults = [repeated_key(key, file, line) for key in dict.fromkeys(self.repeated)]
        if self.constants:
            path, name = next(_odd_numbers(value), ("", self.constants[0]))
            message = f"{name} is not JSON, expected a number or null"
            faults.append(
                Fault("error", "not-a-number", message, file, line, path, name, "write null, or leave it out")
            )
        self.repeated, self.constants = [], []
        return faults

    def forget(self) -> None:
        self.repeated, self.constants = [], []


class LocatedDecoder(StrictDecoder):
    """A strict decoder that remembers where every object stands in the text: slower, for nested files.

    `spans` maps id(object) to its (start, end) in the decoded text and `repeats` to the keys it held twice;
    `done` lists the objects in the order they ended, so that what was complete before a break can be kept
    (and so that no id is used again).
    """

    def __init__(self) -> None:
        super().__init__()
        self.spans: dict[int, tuple[int, int]] = {}
        self.repeats: dict[int, list[str]] = {}
        self.done: list[dict[str, Any]] = []
        # The C scanner cannot be told to report places; the pure Python one takes its parsers from
        # attributes.
        self.parse_object = self._located
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]

    def _located(self, where: tuple[str, int], *rest: Any) -> tuple[Any, int]:
        value, end = JSONObject(where, *rest)
        self.spans[id(value)] = (where[1] - 1, end)
        if self.repeated:
            self.repeats[id(value)], self.repeated = self.repeated, []
        self.done.append(value)
        return value, end

    def forget(self) -> None:
        super().forget()
        self.spans, self.repeats, self.done = {}, {}, []


def repeated_key(key: str, file: str, line: int) -> Fault:
    message = f'the key "{shown(key, 40)}" stands twice in one object, expected once'
    return Fault("error", "duplicate-key", message, file, line, key, shown(key), "keep the right one")


def _odd_numbers(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Where NaN and infinities stand in `value`, as (path, name)."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        yield path, "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _odd_numbers(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _odd_numbers(item, f"{path}[{index}]")


def broken(error: BaseException, file: str, line_of: Callable[[int], tuple[int, int]], text: str) -> Fault:
    """What is wrong with JSON that could not be decoded; `line_of` turns an offset into (line, column)."""
    if isinstance(error, json.JSONDecodeError):
        line, column = line_of(error.pos)
        near = shown(text[max(0, error.pos - 20) : error.pos + 20].strip("\r\n"), 60)
        problem = error.msg[0].lower() + error.msg[1:]
        message = f"not JSON at column {column}: {problem}, expected one complete JSON value"
        return Fault("error", "bad-json", message, file, line, "", near, "correct or remove this row")
    line, _ = line_of(0)
    near = shown(text[:60])
    if isinstance(error, RecursionError):
        message = "nested too deeply, expected at most 32 levels"
        return Fault("error", "too-deep", message, file, line, "", near, "flatten or remove this row")
    message = f"not JSON: {shown(str(error))}, expected one complete JSON value"
    return Fault("error", "bad-json", message, file, line, "", near, "correct or remove this row")
