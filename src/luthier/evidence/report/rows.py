"""Which rows to look at - the most confident mistakes, the worst, the best, some by chance - and how to show one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luthier.engine.entities.bio import entities

from ...records import Answer, Field, Form, Row

SHOWN = 5  # rows of each kind
WEAKEST = 2  # of the kind on which it is weakest
LONGEST = 420  # code points of an input shown; more is cut around what is marked
NEVER_GOOD = 0.5  # a row of at most this quality counts as a mistake
Mark = Literal["", "expected", "answered", "both"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text and what it is: plain, part of an expected answer, of the given one, or of both."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A row as the report shows it: its place, its inputs in pieces, what was expected and answered."""

    id: str
    place: str
    inputs: tuple[tuple[str, tuple[Piece, ...]], ...]
    expected: str
    answered: str
    confidence: float
    quality: float
    doubt: str = ""  # why what was expected may itself be wrong


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows worth a look. `wrong` mistakes, the most confident first; `best` right ones, the surest first; `weakest`
    the worst of the kind of rows on which it is weakest, `random` what is usual.
    """

    wrong: tuple[Shown, ...]
    worst: tuple[Shown, ...]
    best: tuple[Shown, ...]
    weakest: tuple[Shown, ...] = ()
    random: tuple[Shown, ...] = ()


def choose(
    rows: Sequence[Row],
    answers: Sequence[Answer],
    quality: NDArray[np.float64],
    form: Form,
    count: int = SHOWN,
    weak: Sequence[int] = (),
    doubted: Mapping[str, str] = MappingProxyType({}),
) -> Chosen:
    """The `count` most confident mistakes, other worst rows (lowest quality first), best rows, and random ones.

    `quality` is 0..1 a row; `weak` are the places of the rows on which the model is weakest; `doubted` tells by a row's
    id why its own target is doubtful. No row is shown twice but
    by chance: random rows are drawn from all, by their ids, so that every run shows the same. Of equally sure mistakes
    the worst come first, other ties keep the order of the rows.
    """
    confidence = np.array([answer.confidence for answer in answers])
    quality = np.asarray(quality, dtype=np.float64)
    by_sure = np.lexsort((quality, -confidence))
    wrong = [int(place) for place in by_sure if quality[place] <= NEVER_GOOD][:count]
    rest = [int(place) for place in np.lexsort((confidence, quality)) if quality[place] < 1.0]
    worst = [place for place in rest if place not in wrong][:count]
    good = [int(place) for place in np.lexsort((-confidence, -quality)) if quality[place] > NEVER_GOOD]
    best = [place for place in good if place not in worst][:count]
    among = {place for place in weak if quality[place] < 1.0} - {*wrong, *worst}
    weakest = [place for place in rest if place in among][:WEAKEST]
    drawn = sorted(range(len(rows)), key=lambda place: sha256(rows[place].id.encode("utf-8", "surrogatepass")).digest())
    return Chosen(
        *(
            tuple(
                replace(
                    show(rows[place], answers[place], float(quality[place]), form),
                    doubt=doubted.get(rows[place].id, ""),
                )
                for place in places
            )
            for places in (wrong, worst, best, weakest, drawn[:count])
        )
    )


def show(row: Row, answer: Answer, quality: float, form: Form) -> Shown:
    """One row in pieces, long texts cut around the expected and the given answer."""
    target = form[form.target]
    inputs = []
    for field in form.inputs:
        value = row.get(field.name)
        text = _said(value, field.kind)
        marks: list[tuple[int, int, Mark]] = []
        if target.kind == "spans" and target.within == field.name:
            marks = _marks(text, row.get(form.target) or [], answer)
        if target.kind == "tags" and target.within == field.name:
            marks += _entity_marks(value or [], row.get(form.target) or [], "expected")
            marks += _entity_marks(value or [], answer.prediction, "answered")
        inputs.append((field.name, pieces(text, marks)))
    return Shown(
        id=row.id,
        place=f"{row.file}:{row.line}" if row.line else row.file,
        inputs=tuple(inputs),
        expected=_in_words(row.get(form.target), row, target),
        answered=_in_words(answer.prediction, row, target),
        confidence=answer.confidence,
        quality=quality,
    )


def _said(value: Any, kind: str) -> str:
    """What the model is given, as a person reads it: a dialog as its turns."""
    if kind == "tokens" and value:
        return " ".join(value)
    if kind == "messages" and isinstance(value, list):
        return "\n".join(f"{turn.get('role', '')}: {turn.get('content') or ''}" for turn in value)
    return str(value or "")


def pieces(text: str, marks: Sequence[tuple[int, int, Mark]], longest: int = LONGEST) -> tuple[Piece, ...]:
    """`text` cut where marks (start, end, mark; in code points) begin and end, shortened to about `longest`.

    Text far from every mark is left out and replaced by " … "; without marks the beginning and the end are
    kept.
    """
    marks = [mark for mark in marks if 0 <= mark[0] < mark[1] <= len(text)]
    kept = [(0, len(text))] if len(text) <= longest else _windows(text, marks, longest)
    edges = sorted({edge for start, end in [*kept, *(mark[:2] for mark in marks)] for edge in (start, end)})
    found, last = [], 0
    for start, end in pairwise(edges):
        if not any(begin <= start and end <= stop for begin, stop in kept):
            continue
        if start > last:
            found.append(Piece(" … "))
        found.append(Piece(text[start:end], _mark_of(start, end, marks)))
        last = end
    return (*found, Piece(" … ")) if last < len(text) else tuple(found)


def _windows(text: str, marks: Sequence[tuple[int, int, Mark]], longest: int) -> list[tuple[int, int]]:
    """Stretches of `text` to keep: around each mark, or the two ends; cut at white space, overlaps joined."""
    if not marks:
        wanted = [(0, longest * 2 // 3), (len(text) - longest // 3, len(text))]
    else:
        around = max(40, (longest - sum(end - start for start, end, _ in marks)) // (2 * len(marks)))
        wanted = [
            (start - around, min(end, start + longest) + around) for start, end, _ in sorted(marks, key=lambda m: m[:2])
        ]
    joined: list[tuple[int, int]] = []
    for start, end in wanted:
        start = 0 if start <= 0 else _at_space(text, start, +1)
        end = len(text) if end >= len(text) else _at_space(text, end, -1)
        if joined and start <= joined[-1][1] + 20:
            start, end = joined[-1][0], max(joined.pop()[1], end)
        joined.append((start, end))
    return joined


def _at_space(text: str, place: int, step: int) -> int:
    """The nearest white space within 20 code points in the direction of `step`, or `place` itself."""
    for moved in range(place, place + 20 * step, step):
        if 0 <= moved < len(text) and text[moved].isspace():
            return moved
    return place


def _marks(text: str, spans: Sequence[Mapping[str, Any]], answer: Answer) -> list[tuple[int, int, Mark]]:
    marks: list[tuple[int, int, Mark]] = [
        (int(span["start"]), int(span["start"]) + len(span["text"]), "expected") for span in spans[:1]
    ]
    if answer.prediction:
        start = answer.detail.get("start")
        if not isinstance(start, int) or text[start : start + len(answer.prediction)] != answer.prediction:
            start = text.find(answer.prediction)
        if start >= 0:
            marks.append((start, start + len(answer.prediction), "answered"))
    return marks


def _mark_of(start: int, end: int, marks: Sequence[tuple[int, int, Mark]]) -> Mark:
    kinds = {kind for begin, stop, kind in marks if begin <= start and end <= stop}
    if len(kinds) > 1:
        return "both"
    return kinds.pop() if kinds else ""


def _entity_marks(words: Sequence[str], tags: Sequence[str], mark: Mark) -> list[tuple[int, int, Mark]]:
    """Where the entities that `tags` spell out stand among the words joined by spaces."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    return [(int(starts[a]), int(starts[b]) - 1, mark) for a, b, _ in entities(tags)]


def _in_words(value: Any, row: Row, target: Field) -> str:
    """A target in words: the label or labels, the number, the entities, or the distinct texts of the spans.

    "" stands for "no answer".
    """
    if isinstance(value, str) or value is None:
        return _cut_end(value or "")
    if target.kind == "number":
        return f"{value:g}"
    if target.kind == "labels":
        return _cut_end(", ".join(value) or "none")
    if target.kind == "tags":
        words = row.get(target.within or "") or []
        return _cut_end("; ".join(f"{kind}: {' '.join(words[a:b])}" for a, b, kind in entities(value)) or "none")
    texts = list(dict.fromkeys(str(span["text"]) for span in value))
    return _cut_end(" | ".join(texts[:3]))


def _cut_end(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 2] + " …"
