"""CoNLL files: a token and its tag on each line, with or without columns between them, a blank line after each
sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...records import Fault
from ..rows.tags import is_tag
from .encoding import Probe, lines
from .raw import ROW_LIMIT, Raw, shown, too_large

_BLANKS = re.compile(r"[ \t]+")
_EMPTY = " \t\r\n\v\f\u00a0"  # what a line between sentences may hold; other white space may be a token
_COMMENT = re.compile(r"#(?:\s|begin document|end document|\S*\s*=)")
_OWN_ID = re.compile(r"#\s*(?:sent_id|id)\b\s*[=:]?\s*(\S+)")
_SURE = 0.8  # the share of lines that must end in a tag for a file of an untold kind to be CoNLL
_LOOK = 2000  # lines


@dataclass(frozen=True, slots=True)
class Layout:
    """How a line is cut: by tabs or by any blanks, into how many cells (0: not known); and the tags seen at its end."""

    tabs: bool
    columns: int = 0
    tags: frozenset[str] = frozenset()

    def cells(self, line: str) -> list[str]:
        """The line's cells: the first is the token, the last its tag."""
        line = line.rstrip("\r\n")
        if self.tabs:
            return [cell.strip(" ") or cell for cell in line.rstrip("\t").split("\t")]
        return _BLANKS.split(line.strip(" \t"))

    def is_token(self, cells: list[str]) -> bool:
        """Whether a line that begins with # is a token with its tag, not a comment."""
        return len(cells) == self.columns and (is_tag(cells[-1]) or cells[-1] in self.tags)


def looks_like(text: str) -> bool:
    """Whether nearly every line of a file's first part is a token with a tag at its end."""
    rows = [line for line in text.splitlines()[:_LOOK] if line.strip() and not _skipped(line)]
    layout = _layout(rows)
    ends = [layout.cells(row)[-1] for row in rows if len(layout.cells(row)) == layout.columns]
    tagged = sum(is_tag(end) for end in ends)
    return layout.columns >= 2 and len(rows) >= 3 and tagged >= _SURE * len(rows)


def _skipped(line: str) -> bool:
    return line.startswith("-DOCSTART-") or (_COMMENT.match(line) is not None and not is_tag(line.split()[-1]))


def _layout(rows: list[str]) -> Layout:
    """Tabs if most lines hold one, and the number of cells that most lines have."""
    layout = Layout(tabs=2 * sum("\t" in row.strip() for row in rows) >= len(rows) > 0)
    counts = Counter(len(layout.cells(row)) for row in rows)
    columns = max(counts, key=lambda n: (counts[n], n)) if counts else 0
    ends = [cells[-1] for row in rows if len(cells := layout.cells(row)) == columns and not row.startswith("#")]
    return Layout(layout.tabs, columns, frozenset(ends))


@dataclass(slots=True)
class _Sentence:
    """The lines of one sentence as they are read."""

    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    first: int = 0
    size: int = 0
    id: str | None = None


def read_conll(path: Path, name: str, found: Probe) -> Iterator[Raw]:
    """One record a sentence: `tokens`, `tags`, the number of its `document` where the file marks documents, and its
    `id` where a comment gives one. A Raw's line is that of its first token, `lines` those of all.

    A sentence with a line of too few or too many cells is one rejected record. Lines that begin with # are
    comments only before a sentence, and only if they are not a token with its tag.
    """
    layout = _sample(path, found)
    document = 0
    sentence = _Sentence()
    for number, line, left_out in lines(path, found):
        if not line.strip(_EMPTY):
            yield from _ended(sentence, document, name)
            sentence = _Sentence()
            continue
        cells = layout.cells(line)
        if cells[0] == "-DOCSTART-":
            yield from _ended(sentence, document, name)
            sentence, document = _Sentence(), document + 1
            continue
        whole = len(cells) == layout.columns and len(cells) > 1
        if not sentence.first and _COMMENT.match(line) and not layout.is_token(cells):
            given = _OWN_ID.match(line)
            sentence.id = given.group(1) if given else sentence.id
            continue
        sentence.first = sentence.first or number
        sentence.size += len(line) + left_out
        if not whole:
            sentence.faults.append(_ragged(cells, layout, name, number, line))
        elif sentence.size <= ROW_LIMIT:
            sentence.tokens.append(cells[0])
            sentence.tags.append(cells[-1])
            sentence.lines.append(number)
    yield from _ended(sentence, document, name)


def _sample(path: Path, found: Probe) -> Layout:
    rows = []
    for number, line, _ in lines(path, found):
        if number > _LOOK:
            break
        if line.strip() and not _skipped(line):
            rows.append(line)
    return _layout(rows)


def _ended(sentence: _Sentence, document: int, name: str) -> Iterator[Raw]:
    if not sentence.first:
        return
    if sentence.size > ROW_LIMIT:
        near = " ".join(sentence.tokens[:20])[:100]
        fault = too_large(name, sentence.first, sentence.size, ROW_LIMIT, value=near)
        yield Raw(sentence.first, None, [fault])
    elif sentence.faults:
        yield Raw(sentence.first, None, sentence.faults)
    else:
        values: dict[str, object] = {"tokens": sentence.tokens, "tags": sentence.tags}
        if document:
            values["document"] = document
        if sentence.id:
            values["id"] = sentence.id
        yield Raw(sentence.first, values, lines=sentence.lines)


def _ragged(cells: list[str], layout: Layout, name: str, number: int, line: str) -> Fault:
    expected = max(layout.columns, 2)
    where = "tabs" if layout.tabs else "blanks"
    message = (
        f"the line has {len(cells)} cell{'s' * (len(cells) != 1)} between {where}, expected {expected}: "
        "the token first, its tag last"
    )
    fix = "write the token, its tag and what stands between them; an empty line ends a sentence"
    return Fault("error", "ragged-row", message, name, number, "", shown(line.rstrip("\r\n")), fix)
