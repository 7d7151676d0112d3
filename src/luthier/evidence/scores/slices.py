"""Where the model is good and where not: test rows by label, length, group, file, and whether they were cut.

Each kind of rows is held against all others. Whether the two differ beyond chance is tested by turning the sign of each
unit's share in the difference at random (the score test of a wild cluster bootstrap: Cameron, Gelbach & Miller 2008),
corrected for the number of kinds by Holm's method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.engine.entities.bio import entities

from ...records import Finding, Form, Row, Table
from .intervals import Array, Difference, Interval, difference_interval, resample, score_interval, sum_by_group
from .measures import interval_text, signed
from .paired_tests import holm, turned_p

FEWEST = 10  # rows that a kind must have, and all others too, to be shown
FEWEST_TOLD = 30  # rows, of at least FEWEST units, from which a warning may be made
WORSE = 0.1  # than the rest, beyond which it is a warning
SURE = 0.05
MOST = 12  # kinds by label, or by group: the most frequent
LONGEST = 48  # characters of a label or a group's value
MEANS = {"label": "answered right", "number": "closeness", "spans": "overlap (F1)", "tags": "F1", "labels": "F1"}

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Which rows are of a kind, and which others they are held against."""

    by: str
    name: str
    mask: Mask
    others: Mask


@dataclass(frozen=True, slots=True)
class Slice:
    """One kind of test rows: their mean quality (0..1) with its interval, minus the rest's, and the corrected p-value.

    `name` completes "rows ...". `units` are those its rows come from.
    """

    by: str
    name: str
    rows: int
    units: int
    score: float
    interval: Interval
    rest: float
    difference: Difference
    p: float
    places: tuple[int, ...]

    @property
    def tells(self) -> bool:
        """Whether its rows are enough to say anything."""
        return self.rows >= FEWEST_TOLD and self.units >= FEWEST

    @property
    def weak(self) -> bool:
        """Worse than the rest, beyond chance and by much, on rows enough to say so."""
        return self.tells and self.difference[0] < -WORSE and self.difference[2] < 0 and self.p < SURE

    def as_json(self) -> dict[str, Any]:
        return {
            "by": self.by,
            "name": self.name,
            "rows": self.rows,
            "score": self.score,
            "interval": list(self.interval),
            "rest": self.rest,
            "difference": list(self.difference),
            "p": self.p,
            "weak": self.weak,
        }


@dataclass(frozen=True, slots=True)
class Slices:
    """`means` is what the score of a kind is called."""

    means: str
    kinds: tuple[Slice, ...]
    marked: bool = True  # every row has a label; else rows of one label are held against those that have another

    @property
    def weak(self) -> list[Slice]:
        """The weak ones, the weakest first."""
        return sorted((one for one in self.kinds if one.weak), key=lambda one: one.difference[0])

    def as_json(self) -> dict[str, Any]:
        return {"score": self.means, "slices": [one.as_json() for one in self.kinds]}

    def finding(self) -> Finding | None:
        """A warning that names the weakest kind of rows; None where none is weak."""
        weak = self.weak
        if not weak:
            return None
        worst = weak[0]
        others = "all others" if self.marked or worst.by != "label" else "rows with others"
        said = (
            f"It is clearly weaker on rows {worst.name}: {self.means} {_percent(worst.score)} on {worst.rows:,} such "
            f"rows, {_percent(worst.rest)} on {others}."
        )
        if len(weak) > 1:
            said += f" Weaker, too, on rows {'; '.join(one.name for one in weak[1:4])}."
        remedy = "Add training rows of this kind, and until then let a person look at its answers to them."
        numbers = {"weak": [one.as_json() for one in weak]}
        return Finding("weak-slice", "warning", said, numbers, remedy=remedy)

    def table(self) -> Table:
        rows = tuple(
            (
                f"rows {one.name}",
                one.rows,
                _percent(one.score),
                interval_text("", *one.interval),
                f"{signed('', one.difference[0])} ({signed('', one.difference[1])} to {signed('', one.difference[2])})",
                "much worse" if one.weak else "" if one.p >= SURE else "worse" if one.difference[0] < 0 else "better",
            )
            for one in self.kinds
        )
        header = ("kind of rows", "rows", self.means, "95 % interval", "minus other rows", "beyond chance")
        said = (
            f"A word in the last column means that the difference is not by chance, corrected for {len(self.kinds)} "
            f"kinds. “Much worse” takes over {100 * WORSE:.0f} points and {FEWEST_TOLD} rows."
        )
        if not self.marked:
            said += " Rows with one label or entity are held against rows with others, not against those with none."
        return Table("Where it is good and where not", header, rows, said)

    def sentence(self) -> str:
        """What the table comes to, in words."""
        found = self.finding()
        if found is not None:
            return found.sentence
        if not any(one.tells for one in self.kinds):
            takes = f"{FEWEST_TOLD} rows from {FEWEST} sources"
            return f"Of {len(self.kinds)} kinds of test rows none has the {takes} that it takes to tell."
        return f"Of {len(self.kinds)} kinds of test rows none is much worse than the rest beyond chance."


def slices(
    form: Form,
    rows: Sequence[Row],
    quality: Array,
    units: Sequence[Hashable] | None = None,
    group_by: str | None = None,
    cut: Sequence[bool] = (),
    copies: Sequence[Hashable] | None = None,
    seed: int = 0,
    means: str = "",
) -> Slices | None:
    """`quality` [rows] is 0..1, called `means`; `cut` says which rows the model could not read at once.

    `units` are those that stand or fall together; for the kinds by `group_by`, each of which is one such unit, only
    `copies` do. None where there is one kind only.
    """
    scored = np.asarray(quality, dtype=np.float64)
    kinds = [one for one in _kinds(form, rows, group_by, cut) if min(one.mask.sum(), one.others.sum()) >= FEWEST]
    if not kinds:
        return None
    own = [one for one in kinds if one.by == "group"]
    rest = [one for one in kinds if one.by != "group"]
    found = [*_measured(rest, scored, units, seed), *_measured(own, scored, copies, seed)]
    chance = holm({str(place): one.p for place, one in enumerate(found)})
    corrected = tuple(replace(one, p=p) for one, p in zip(found, chance.values()))
    marked = form[form.target].kind not in ("labels", "tags")
    return Slices(means or MEANS.get(form[form.target].kind, "likeness to the expected text"), corrected, marked)


def _measured(kinds: Sequence[_Kind], quality: Array, units: Sequence[Hashable] | None, seed: int) -> list[Slice]:
    """Each kind beside the others, its p-value not yet corrected."""
    if not kinds:
        return []
    table = np.stack(
        [column for one in kinds for side in (one.mask, one.others) for column in (side * quality, side)], axis=1
    ).astype(np.float64)
    sums = sum_by_group(table, units)

    def scores(drawn: Array) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            means = drawn[..., 0::2] / drawn[..., 1::2]
        inside, others = means[..., 0::2], means[..., 1::2]
        out = {f"score {i}": inside[..., i] for i in range(len(kinds))}
        return out | {f"difference {i}": inside[..., i] - others[..., i] for i in range(len(kinds))}

    draws = resample({"": sums}, scores, seed)[""]
    inside, others = (np.stack([getattr(one, side) for one in kinds], axis=1) for side in ("mask", "others"))
    both = inside | others
    centred = quality[:, None] - (both * quality[:, None]).sum(0) / both.sum(0)
    shares = centred * (inside / inside.sum(0) - others / others.sum(0))
    chance = turned_p(sum_by_group(shares, units), seed)
    found = []
    for i, one in enumerate(kinds):
        ours, theirs = float(quality[one.mask].mean()), float(quality[one.others].mean())
        many = int((sums[:, 4 * i + 1] > 0).sum())
        found.append(
            Slice(
                by=one.by,
                name=one.name,
                rows=int(one.mask.sum()),
                units=many,
                score=ours,
                interval=score_interval(ours, draws[f"score {i}"], many),
                rest=theirs,
                difference=difference_interval(ours - theirs, draws[f"difference {i}"], many, many),
                p=float(chance[i]),
                places=tuple(int(place) for place in np.flatnonzero(one.mask)),
            )
        )
    return found


def _kinds(form: Form, rows: Sequence[Row], group_by: str | None, cut: Sequence[bool]) -> Iterator[_Kind]:
    """Every kind of rows; those of one label are held against rows that have another, if rows may have none."""
    marked = np.array([True] * len(rows))
    if form[form.target].kind in ("labels", "tags"):
        marked = np.array([bool(_marks(form, row)) for row in rows])
    for by, name, mask in _parts(form, rows, group_by, cut):
        yield _Kind(by, name, mask, ~mask & marked if by == "label" else ~mask)


def _parts(
    form: Form, rows: Sequence[Row], group_by: str | None, cut: Sequence[bool]
) -> Iterator[tuple[str, str, Mask]]:
    """(by what, name, which rows) of every kind."""
    yield from _by_target(form, rows)
    yield from _by_length(form, rows)
    if len(cut) == len(rows):
        yield "cut", "too long to be read at once", np.array(cut, dtype=bool)
    if group_by is not None:
        values = [None if row.get(group_by) is None else str(row[group_by]) for row in rows]
        yield from _by_value("group", f"with {group_by}", values)
    files = [PurePath(row.file).name for row in rows]
    if len(set(files)) > 1:
        yield from _by_value("file", "from", files)


def _by_target(form: Form, rows: Sequence[Row]) -> Iterator[tuple[str, str, Mask]]:
    kind = form[form.target].kind
    told = [row.get(form.target) for row in rows]
    if kind == "label":
        yield from _by_value("label", "labelled", [str(value) for value in told])
    elif kind == "spans":
        answerable = np.array([bool(value) for value in told])
        yield "answer", "that have an answer", answerable
        yield "answer", "without an answer", ~answerable
    elif kind in ("labels", "tags"):
        marks = [_marks(form, row) for row in rows]
        what = "label" if kind == "labels" else "entity"
        for mark, _ in Counter(mark for some in marks for mark in some).most_common(MOST):
            yield "label", f"with the {what} {_quoted(mark)}", np.array([mark in some for some in marks])
        yield "none", f"with no {what}", np.array([not some for some in marks])
    elif kind == "number":
        values = np.array([float(value) for value in told])
        low, high = np.quantile(values, (1 / 3, 2 / 3))
        if values.min() < low < high:
            yield "number", f"with a number under {low:g}", values < low
            yield "number", f"with a number of {low:g} to {high:g}", (values >= low) & (values <= high)
            yield "number", f"with a number over {high:g}", values > high


def _marks(form: Form, row: Row) -> set[str]:
    """The labels of a row, or the types of its entities."""
    value = row.get(form.target) or []
    return set(value) if form[form.target].kind == "labels" else {name for _, _, name in entities(value)}


def _by_length(form: Form, rows: Sequence[Row]) -> Iterator[tuple[str, str, Mask]]:
    """Thirds by words of what the model is given; rows of one length lie in one third."""
    counts = np.array([sum(_words(row.get(field.name)) for field in form.inputs) for row in rows])
    low, high = (int(value) for value in np.quantile(counts, (1 / 3, 2 / 3), method="lower"))
    if low < high < counts.max():
        yield "length", f"of up to {low:,} words", counts <= low
        yield "length", f"of {low + 1:,} to {high:,} words", (counts > low) & (counts <= high)
        yield "length", f"of over {high:,} words", counts > high


def _words(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(_words(one.get("content")) if isinstance(one, dict) else 1 for one in value)
    return 0


def _by_value(by: str, words: str, values: Sequence[str | None]) -> Iterator[tuple[str, str, Mask]]:
    for value, _ in Counter(value for value in values if value is not None).most_common(MOST):
        yield by, f"{words} {_quoted(value)}", np.array([one == value for one in values])


def _quoted(value: str) -> str:
    shown = " ".join(value.split())
    return f"“{shown if len(shown) <= LONGEST else shown[: LONGEST - 2] + ' …'}”"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
