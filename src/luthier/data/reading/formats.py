"""Which format a file has, by its content first and its suffix second, and the reader for it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ...records import Fault
from ..options import FORMATS
from ..pulse import Pulse
from . import conll
from .encoding import Probe, lines, probe, read_text
from .json_files import read_json, rows_of
from .json_lines import read_json_lines
from .parquet import read_parquet
from .raw import DOCUMENT_LIMIT, ROW_LIMIT, Raw, shown, too_large
from .sources import SUFFIXES
from .tables import Dialect, read_table, sample_text, sniff

# What people drop in by mistake, by its first bytes.
_NOT_DATA = (
    (b"PK\x03\x04", "an Excel workbook or a zip file", "save the sheet as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "save it as CSV"),
    (b"%PDF", "a PDF", "export its text first"),
    (b"\x1f\x8b", "compressed (gzip)", "unpack it: gunzip FILE"),
    (b"ARROW1", "an Arrow file", "save it as Parquet"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "fetch the data: git lfs pull"),
    (b"<!DOCTYPE", "a web page", "download the file itself, not the page about it"),
    (b"<html", "a web page", "download the file itself, not the page about it"),
)
_NESTED = re.compile(r'"paragraphs"\s*:\s*\[')
_FLAT = re.compile(r'"answers"\s*:\s*\{')


@dataclass(slots=True)
class Opened:
    """One file, looked at and ready to be read: what `files` in data.json says about it, and its records."""

    path: Path
    name: str
    probe: Probe
    format: str
    dialect: Dialect | None
    split: str | None
    whole: bool = False

    @property
    def by_lines(self) -> bool:
        """Whether each line is a JSON value of its own."""
        if self.format != "squad-flat":
            return self.format == "jsonl"
        text = sample_text(self.path, self.probe)
        return text.lstrip()[:1] == "{" and _lines_of_objects(text, self.path.suffix.lower())

    def records(self) -> Iterator[Raw]:
        if self.whole:
            return _whole_text(self.path, self.name, self.probe)
        if self.format == "parquet":
            return read_parquet(self.path, self.name)
        if self.by_lines:
            return read_json_lines(self.path, self.name, self.probe)
        if self.format in ("json", "squad", "squad-flat"):
            return read_json(self.path, self.name, self.probe, self.format == "squad", self.split)
        if self.format == "conll":
            return conll.read_conll(self.path, self.name, self.probe)
        if self.format == "text":
            return _text_lines(self.path, self.name, self.probe)
        assert self.dialect is not None
        return read_table(self.path, self.name, self.probe, self.dialect)

    def notes(self) -> list[Fault]:
        """What a person should know about how the file was read."""
        fault = self.probe.fault(self.name) if self.format != "parquet" else None
        found = [fault] if fault else []
        if self.dialect is not None and self.dialect.header is None and not self.whole:
            columns = ", ".join(f"column {i}" for i in range(1, self.dialect.columns + 1))
            message = f"the first line looks like a row, not like column names; columns are called {columns}"
            found.append(Fault("note", "no-header", message, self.name, 1, fix="add a line with column names"))
        return found


def open_file(
    path: Path,
    name: str,
    wanted: str,
    known: Collection[str],
    split: str | None = None,
    whole: bool = False,
    pulse: Pulse | None = None,
) -> Opened:
    """Look at a file. `wanted` is a format or "auto"; `known` are lower-case column names a header may hold; `pulse`
    beats while the file is read through.

    Raises DataError where it is unreadable, empty, or not data at all. With `whole` the file is one row of many: that
    it is empty or no text is then a fault of this row.
    """
    if wanted not in FORMATS:
        raise DataError(f'there is no format "{wanted}"', where=name, fix=f"one of {', '.join(FORMATS)}")
    try:
        found = probe(path, pulse)
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror or error})", where=name, fix="check its permissions"
        ) from None
    if whole:
        return Opened(path, name, found, "text", None, split, True)
    if problem := _no_data(found):
        raise DataError(problem.found, where=name, fix=problem.fix)
    format, dialect = _detect(path, name, found, wanted, known)
    return Opened(path, name, found, format, dialect, split)


@dataclass(frozen=True, slots=True)
class _NoData:
    """Why a file holds no rows: for one that is a row itself, the fault's code, and what was expected."""

    code: str
    found: str
    expected: str
    fix: str


def _no_data(found: Probe) -> _NoData | None:
    if not found.size or not found.head.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\x00"):
        return _NoData("empty-text", "the file is empty", "at least one character", "name a file with rows")
    for mark, what, fix in _NOT_DATA:
        if found.head.lstrip()[: len(mark)].lower() == mark.lower():
            return _NoData("bad-encoding", f"this is {what}", "plain text", fix)
    if found.binary and not found.head.startswith(b"PAR1"):
        what = "this is no text: it is full of control signs"
        return _NoData("bad-encoding", what, "plain text", "name a data file")
    return None


def _detect(path: Path, name: str, found: Probe, wanted: str, known: Collection[str]) -> tuple[str, Dialect | None]:
    if found.head.startswith(b"PAR1"):
        return "parquet", None
    if wanted == "parquet":
        raise DataError("it is not a Parquet file", where=name, fix="leave data.format out: auto looks at the content")
    text = sample_text(path, found)
    if wanted in ("csv", "tsv"):
        return wanted, sniff(text, known, "\t" if wanted == "tsv" else None)
    if wanted != "auto":
        return wanted, None
    suffix = SUFFIXES.get(path.suffix.lower())
    if text.lstrip()[:1] in ("{", "["):
        return _json_kind(text, suffix), None
    if suffix in ("json", "jsonl", "conll"):
        return suffix, None  # whatever it holds, its faults are best told line by line
    if conll.looks_like(text):
        return "conll", None
    dialect = sniff(text, known)
    if suffix in ("csv", "tsv") or _is_table(dialect, known):
        return ("tsv" if dialect.delimiter == "\t" else "csv"), dialect
    return "text", None


def _is_table(dialect: Dialect, known: Collection[str]) -> bool:
    """Whether a file without a telling suffix is a table: prose has commas too, so they prove nothing."""
    if dialect.columns < 2 or dialect.share < 0.9:
        return False
    named = dialect.header is not None and any(cell.lower() in known for cell in dialect.header)
    return named or dialect.delimiter in ("\t", "|")


def _json_kind(text: str, suffix: str | None) -> str:
    """jsonl, json, squad or squad-flat, from the first part of the file."""
    if text.lstrip()[:1] == "{" and _lines_of_objects(text, suffix):
        return "squad-flat" if _FLAT.search(text) else "jsonl"
    if _NESTED.search(text):
        return "squad"
    return "squad-flat" if _FLAT.search(text) else "json"


def _lines_of_objects(text: str, suffix: str | None) -> bool:
    """Whether most lines that begin an object are one; where that says nothing, the suffix decides."""
    rows = [line.strip() for line in text.splitlines() if line.strip()][:50]
    by_suffix = suffix in ("jsonl", ".jsonl", ".ndjson") and not _NESTED.search(text)
    whole = sum(_is_object(line) for line in rows)
    if len(rows) == 1:
        return by_suffix or (whole == 1 and not _wraps_rows(rows[0]))
    opened = sum(line.startswith("{") for line in rows)
    return by_suffix or (whole > 0 and whole * 2 >= opened)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _wraps_rows(line: str) -> bool:
    """Whether a file's only line is an object that wraps a list of rows, or several."""
    value = json.loads(line)
    try:
        return rows_of(value, "") != [value]
    except DataError:
        return True  # which of the lists holds the rows is asked when they are read


def _text_lines(path: Path, name: str, found: Probe) -> Iterator[Raw]:
    """One row a line; blank lines skipped."""
    for number, line, left_out in lines(path, found):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        if len(text) + left_out > ROW_LIMIT:
            yield Raw(number, None, [too_large(name, number, len(text) + left_out, ROW_LIMIT, value=text[:100])])
        else:
            yield Raw(number, {"text": text})


def _whole_text(path: Path, name: str, found: Probe) -> Iterator[Raw]:
    """The file is one row."""
    start = shown(found.head[:200].decode(found.encoding, "replace"))
    if problem := _no_data(found):
        message = f"{problem.found}, expected {problem.expected}"
        fix = "fill it in, or take it out of the folder" if problem.code == "empty-text" else problem.fix
        yield Raw(1, None, [Fault("error", problem.code, message, name, 1, "", start, fix)])
    elif found.size > DOCUMENT_LIMIT:
        yield Raw(1, None, [too_large(name, 1, found.size, DOCUMENT_LIMIT, value=start)])
    else:
        yield Raw(1, {"text": read_text(path, found).strip()})
