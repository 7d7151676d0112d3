"""JSON lines: one object a line. Every bad line is its own fault, with its own line number and column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...records import Fault
from .encoding import Probe, lines
from .raw import ROW_LIMIT, Raw, kind_of, shown, too_large
from .strict_json import BROKEN, StrictDecoder, broken

# The characters JSON allows between values; a stray no-break space or BOM inside a file is a fault.
_SPACE = " \t\r\n"


def read_json_lines(path: Path, name: str, found: Probe) -> Iterator[Raw]:
    """Records of a .jsonl file, one line in memory at a time. Blank lines are skipped."""
    decoder = StrictDecoder()
    for number, line, left_out in lines(path, found):
        text = line.strip(_SPACE)
        if not text:
            continue
        if len(text) + left_out > ROW_LIMIT:
            yield Raw(number, None, [too_large(name, number, len(text) + left_out, ROW_LIMIT, value=text[:100])])
            continue
        try:
            value, end = decoder.raw_decode(text)
            if end != len(text):
                value = decoder.decode(text)  # raises with the place of what follows the value
        except BROKEN as error:
            decoder.forget()
            indent = len(line) - len(line.lstrip(_SPACE))
            place = lambda offset, n=number, i=indent: (n, offset + i + 1)
            yield Raw(number, None, [broken(error, name, place, text)])
            continue
        if type(value) is not dict:
            decoder.forget()
            yield Raw(number, None, [not_an_object(value, name, number)])
            continue
        faults = decoder.complaints(value, name, number)
        yield Raw(number, None if faults else value, faults)


def not_an_object(value: object, file: str, line: int) -> Fault:
    """The fault for a row that is a bare number, text or list."""
    message = f"the row is {kind_of(value)}, expected an object {{...}} with named fields"
    return Fault("error", "wrong-type", message, file, line, "", shown(value), "write it as an object")
