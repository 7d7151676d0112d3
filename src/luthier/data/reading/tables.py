"""CSV and TSV: the delimiter, the quoting and the header are found by looking; every record keeps its first
line.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...records import Fault
from .encoding import Probe, lines, open_text
from .raw import LINE_LIMIT, ROW_LIMIT, Raw, shown, too_large

DELIMITERS = (",", "\t", ";", "|")
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_SAMPLE = 64 * 1024
_MAX_COLUMNS = 256
_ESCAPED_QUOTE = re.compile(r'\\"(?![,;|\t\r\n])')


@dataclass(slots=True)
class Dialect:
    """How a table is written, and how sure the look at its first lines is."""

    delimiter: str
    quoted: bool = True
    escape: str | None = None
    columns: int = 1
    share: float = 0.0  # of the sample's records that have `columns` cells
    header: list[str] | None = None
    notes: list[Fault] = field(default_factory=list)

    def reader(self, source: Any) -> Any:
        # The csv module's cell limit is one setting for the whole process, and its default (128 KB) is
        # below ours.
        if csv.field_size_limit() < 2 * LINE_LIMIT:
            csv.field_size_limit(2 * LINE_LIMIT)
        return csv.reader(
            source,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            escapechar=self.escape if self.quoted else None,
            doublequote=self.escape is None,
            strict=self.quoted,
        )


def sample_text(path: Path, found: Probe) -> str:
    """The first lines of a file, the last of them whole."""
    with open_text(path, found) as file:
        text = file.read(_SAMPLE)
    if len(text) == _SAMPLE:
        cut = max(text.rfind("\n"), text.rfind("\r"))
        text = text[: cut + 1] if cut > 0 else text
    return text


def sniff(text: str, known: Collection[str], only: str | None = None) -> Dialect:
    """The dialect under which the sample's records agree best on their number of cells.

    `known` are lower-case column names that make a first record a header; `only` fixes the delimiter.
    """
    best: tuple[tuple[float, ...], Dialect] | None = None
    for order, delimiter in enumerate(DELIMITERS if only is None else (only,)):
        dialect = _with_quoting(text, delimiter)
        records = _records(text, dialect)
        if not records:
            continue
        sizes = Counter(len(record) for record in records)
        columns, count = max(sizes.items(), key=lambda pair: (pair[1], pair[0]))
        dialect.columns, dialect.share = columns, count / len(records)
        named = any(cell.strip().lower() in known for cell in records[0]) and len(records[0]) > 1
        score = (float(columns > 1), float(named), round(dialect.share, 1), -float(order))
        if best is None or score > best[0]:
            best = (score, dialect)
    if best is None:
        return Dialect(only or ",")
    dialect = best[1]
    dialect.header = _header(_records(text, dialect), known)
    return dialect


def _with_quoting(text: str, delimiter: str) -> Dialect:
    """Whether quotes wrap cells here, and whether a backslash escapes them."""
    edge = re.escape(delimiter)
    opened = len(re.findall(rf'(?:^|{edge})"', text, re.MULTILINE))
    wrapped = len(re.findall(rf'(?:^|{edge})"(?:[^"]|"")*"(?={edge}|\r|\n|$)', text, re.MULTILINE))
    # In most .tsv files a quote is just a character; in .csv it nearly always wraps.
    quoted = delimiter != "\t" or wrapped * 2 >= opened
    escaped = len(_ESCAPED_QUOTE.findall(text))
    doubled = len(re.findall(rf'(?<!{edge})(?<!^)""(?!{edge})', text, re.MULTILINE))
    return Dialect(delimiter, quoted, "\\" if escaped > doubled else None)


def _records(text: str, dialect: Dialect, limit: int = 200) -> list[list[str]]:
    """The sample's records as far as they parse; blank lines left out."""
    records: list[list[str]] = []
    reader = dialect.reader(io.StringIO(text, newline=""))
    while len(records) < limit:
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error:
            continue
        if record:
            records.append(record)
    return records


def _header(records: list[list[str]], known: Collection[str]) -> list[str] | None:
    """The first record as column names, or None where it looks like a row."""
    if not records:
        return None
    first, rest = [cell.strip() for cell in records[0]], records[1:]
    if any(cell.lower() in known for cell in first):
        return _unique(first)
    filled = [cell for cell in first if cell]
    if len(set(filled)) != len(filled) or not filled:
        return None
    for i, cell in enumerate(first):
        below = [record[i].strip() for record in rest if i < len(record)]
        if len(cell) > 60 or (cell and below.count(cell)) or (_number(cell) and all(map(_number, below))):
            return None
    return _unique(first) if rest else None


def _number(cell: str) -> bool:
    return bool(re.fullmatch(r"[-+]?\d+(\.\d+)?", cell))


def _unique(header: list[str]) -> list[str]:
    """Column names made distinct: an empty one by its place, a repeated one by a number."""
    names: list[str] = []
    for i, cell in enumerate(header, 1):
        name = cell or f"column {i}"
        while name in names:
            name += f".{i}"
        names.append(name)
    return names


class _TooLong(Exception):
    """A record went past the row limit: an endless line, or a quote that never closes."""


class _Feed:
    """Physical lines for the csv module, with those of the current record kept, so that they can be read
    again.
    """

    def __init__(self, path: Path, found: Probe) -> None:
        self.source = lines(path, found)
        self.again: list[tuple[int, str, int]] = []
        self.taken: list[tuple[int, str, int]] = []
        self.size = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        item = self.again.pop() if self.again else next(self.source)
        self.taken.append(item)
        self.size += len(item[1]) + item[2]
        if self.size > ROW_LIMIT:
            raise _TooLong
        return item[1]

    def begin(self) -> None:
        self.taken, self.size = [], 0

    def put_back(self) -> None:
        """Hand all lines of this record but the first out again: they may be rows of their own."""
        self.again.extend(reversed(self.taken[1:]))


def read_table(path: Path, name: str, found: Probe, dialect: Dialect) -> Iterator[Raw]:
    """Records of a CSV or TSV file as column -> text, one in memory at a time."""
    feed = _Feed(path, found)
    reader = dialect.reader(feed)
    names, skip_header = dialect.header, dialect.header is not None
    if names is None:
        names = [f"column {i}" for i in range(1, dialect.columns + 1)]
    while True:
        feed.begin()
        try:
            record = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLong) as error:
            yield Raw(feed.taken[0][0], None, [_unreadable(error, feed, name)])
            feed.put_back()
            reader = dialect.reader(feed)  # the old one may be left inside an open quote
            continue
        if not record or (len(record) == 1 and len(names) > 1 and not record[0].strip()):
            continue
        if skip_header:
            skip_header = False
            continue
        line = feed.taken[0][0]
        if len(record) == len(names):
            yield Raw(line, dict(zip(names, record)))
        else:
            yield _ragged(record, names, name, line)


def _unreadable(error: Exception, feed: _Feed, name: str) -> Fault:
    line, text, left_out = feed.taken[0]
    near = shown(text.rstrip("\r\n"))
    if len(text) + left_out > ROW_LIMIT:
        return too_large(name, line, len(text) + left_out, ROW_LIMIT, value=text[:100])
    if isinstance(error, _TooLong) or "unexpected end" in str(error):
        message = "a quote opens here and is never closed, expected a closing quote before the next row"
    else:
        message = "text follows a closing quote, expected a delimiter or the end of the line"
    fix = 'close it, or write "" for a quote in a cell'
    return Fault("error", "unclosed-quote", message, name, line, "", near, fix)


def _ragged(record: list[str], names: list[str], name: str, line: int) -> Raw:
    """A record with too few or too many cells; empty cells too many are forgiven."""
    if len(record) > len(names) and not any(record[len(names) :]):
        return Raw(line, dict(zip(names, record)))
    if len(record) > _MAX_COLUMNS:
        record = record[:_MAX_COLUMNS]
    message = f"cells in the row: {len(record)}, expected {len(names)} ({shown(', '.join(names), 60)})"
    fix = "quote cells that hold the delimiter" if len(record) > len(names) else "add the missing cells"
    return Raw(line, None, [Fault("error", "ragged-row", message, name, line, "", shown(" | ".join(record)), fix)])
