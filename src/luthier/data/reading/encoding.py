"""Bytes into text: which encoding a file has, its hash, and its physical lines, without holding it whole."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ...records import Fault
from ..pulse import Pulse
from .raw import LINE_LIMIT

_CHUNK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]")


@dataclass(frozen=True, slots=True)
class Probe:
    """What one pass over the bytes tells: their hash and number, the first ones, how to decode them."""

    sha256: str
    size: int
    encoding: str
    head: bytes
    stray_line: int = 0  # the first line with a byte that is not UTF-8, 0 for none

    @property
    def errors(self) -> str:
        """How to decode what does not fit: kept as an escape that the field check reports, never dropped."""
        return "surrogateescape" if self.encoding in ("utf-8", "utf-8-sig", "cp1252") else "replace"

    @property
    def binary(self) -> bool:
        """Whether one byte in twenty of the first ones is a control sign that no text holds (NUL aside)."""
        signs = sum(self.head[:4096].count(bytes([sign])) for sign in (*range(1, 8), *range(14, 27)))
        return not self.encoding.startswith(("utf-16", "utf-32")) and signs * 20 > len(self.head[:4096])

    def fault(self, file: str) -> Fault | None:
        """The warning that the file is not UTF-8 and was read as Windows text."""
        if self.encoding != "cp1252":
            return None
        return Fault(
            "warning",
            "encoding",
            "the file is not UTF-8; read as Windows-1252, so look at its accents and quotes",
            file,
            self.stray_line,
            fix="save it as UTF-8",
        )


def probe(path: Path, pulse: Pulse | None = None) -> Probe:
    """Read the file once: hash it, and see whether it is UTF-8 (with or without BOM), UTF-16/32 or
    Windows-1252. `pulse` beats meanwhile, for no row is read yet.
    """
    digest, size, head = hashlib.sha256(), 0, b""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    stray_line, newlines = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if not size:
                head = chunk[: 64 * 1024]
            digest.update(chunk)
            size += len(chunk)
            if pulse is not None:
                pulse(0)
            if not stray_line:
                try:
                    utf8.decode(chunk)
                    newlines += chunk.count(b"\n")
                except UnicodeDecodeError as error:
                    stray_line = newlines + chunk[: error.start].count(b"\n") + 1
    if not stray_line:
        try:
            utf8.decode(b"", final=True)
        except UnicodeDecodeError:
            stray_line = newlines + 1
    encoding = _from_head(head) or ("utf-8" if not stray_line or _mostly_utf8(path) else "cp1252")
    return Probe(digest.hexdigest(), size, encoding, head, stray_line)


def _from_head(head: bytes) -> str | None:
    """The encoding that a byte order mark or a pattern of NUL bytes gives away."""
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    sample = head[:4096]
    pairs = len(sample) // 2
    if pairs >= 4:
        low = sample[1 : 2 * pairs : 2].count(0) / pairs  # Latin text: every second byte is NUL
        high = sample[0 : 2 * pairs : 2].count(0) / pairs
        if low > 0.3 and high < 0.05:
            return "utf-16-le"
        if high > 0.3 and low < 0.05:
            return "utf-16-be"
    return None


def _mostly_utf8(path: Path) -> bool:
    """Whether a file with bytes that are not UTF-8 is UTF-8 with a few broken places rather than Windows
    text.
    """
    good = stray = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            rest, found = _MULTIBYTE.subn(b"", chunk)
            good += found
            stray += len(_HIGH.findall(rest))
    return good > 0 and good >= stray


def open_text(path: Path, found: Probe) -> TextIO:
    """The file as text with its line ends untouched: an offset counted in it must not shift."""
    return path.open("r", encoding=found.encoding, errors=found.errors, newline="")


def read_text(path: Path, found: Probe) -> str:
    with open_text(path, found) as file:
        return file.read()


def lines(path: Path, found: Probe) -> Iterator[tuple[int, str, int]]:
    """Physical lines as (1-based number, text with its line end, characters left out of an endless line).

    Only line feed and carriage return end a line; U+2028 and form feeds, on which `str.splitlines` breaks,
    are text.
    """
    with open_text(path, found) as file:
        number = 0
        while line := file.readline(LINE_LIMIT):
            number += 1
            left_out = 0
            if len(line) >= LINE_LIMIT and line[-1] not in "\r\n":
                while rest := file.readline(LINE_LIMIT):
                    left_out += len(rest)
                    if rest[-1] in "\r\n":
                        break
            yield number, line, left_out
