"""Counterfactual pairs: the same row with the groups in it swapped should be answered alike (Garg et al. 2019,
arxiv.org/abs/1809.10610; Kusner et al. 2017, arxiv.org/abs/1703.06856).

`flips` counts pairs whose answer changed; `shift` says by how much, in probability for labels, in standard deviations
for numbers, as the share of words, tags or entities that changed for texts, tags and spans. A flip says that the
model heeds the swapped words, not yet that it does so in one direction: `leanings` say that, for texts that name one
group alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from luthier.records import Answer, Form, Row

from ..scores.intervals import difference_interval, resample, score_interval, sum_by_group
from .terms import Axis, Edit, applied, moved

MOST_TURNS = 3  # variants of one row by an axis of many groups
SHOWN = 10  # pairs that are kept to look at
_SAME = 1e-6
NEAR = 0.25  # standard deviations: a number that moved less has not flipped


@dataclass(frozen=True)
class Pair:
    """A row, by its index, and the same with its groups swapped. `origin` and `goal` where it names one group alone."""

    index: int
    axis: Axis
    turn: int
    row: Row
    edits: Mapping[str, list[Edit]] = field(repr=False)  # by field
    origin: str = ""
    goal: str = ""


@dataclass(frozen=True)
class Leaning:
    """By how much the chance of `label` rises when a text that names group `origin` names `goal` instead."""

    label: str
    origin: str
    goal: str
    pairs: int
    shift: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        """Whether chance alone is ruled out."""
        return self.low > 0 or self.high < 0


@dataclass
class Swapped:
    """What swapping one axis did. `flips` is None where an answer is no choice (a loss)."""

    axis: str
    pairs: int
    rows: int
    flips: float | None
    flips_interval: tuple[float, float]
    shift: float
    shift_interval: tuple[float, float]
    leanings: list[Leaning]
    examples: list[dict[str, Any]]
    flipped_rows: tuple[str, ...] = ()
    # By a pair's id: how sure the answer was before and after, and whether it flipped.
    confidences: Mapping[str, tuple[float, float, bool]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("axis", "pairs", "rows", "flips", "shift", "examples")}
        plain |= {"flips_interval": list(self.flips_interval), "shift_interval": list(self.shift_interval)}
        told = [asdict(one) for one in self.leanings]
        return {
            **plain,
            "leanings": told,
            "flipped_rows": list(self.flipped_rows),
            "confidences": dict(self.confidences),
        }


def make_pairs(rows: Sequence[Row], form: Form, axes: Sequence[Axis]) -> list[Pair]:
    """Every row that names a group, swapped by each axis that it names; of many groups at most MOST_TURNS turns."""
    out = []
    for index, row in enumerate(rows):
        for axis in axes:
            text = " ".join(texts_of(row, form))
            named = sorted({group for _, group in axis.found(text)})
            if not named:
                continue
            size = len(axis.groups)
            turns = range(1, size) if size - 1 <= MOST_TURNS else _spread(row.id, size)
            for turn in turns:
                swapped = swap_row(row, form, axis, turn)
                if swapped is None:
                    continue
                alone = len(named) == 1
                origin = axis.groups[named[0]] if alone else ""
                goal = axis.groups[(named[0] + turn) % size] if alone else ""
                out.append(Pair(index, axis, turn, swapped[0], swapped[1], origin, goal))
    return out


def _spread(id: str, size: int) -> list[int]:
    """MOST_TURNS different turns that follow from a row's id."""
    draw = np.random.default_rng(list(id.encode()))
    return sorted(int(turn) for turn in draw.choice(np.arange(1, size), MOST_TURNS, replace=False))


def texts_of(row: Row, form: Form) -> list[str]:
    """Every text that the model is given of a row."""
    out: list[str] = []
    for one in form.inputs:
        value = row.get(one.name)
        if isinstance(value, str):
            out.append(value)
        elif one.kind == "tokens" and value:
            out.append(" ".join(value))
        elif one.kind == "messages" and value:
            out += [str(turn.get("content") or "") for turn in value]
    return out


def swap_row(row: Row, form: Form, axis: Axis, turn: int = 1) -> tuple[Row, dict[str, list[Edit]]] | None:
    """The row with every group swapped in all that it holds, and the edits by field; None if that changes nothing.

    Labels stay. Answers in a passage move with it, and are swapped as it is. Tags stay on their words.
    """
    fields, edits = dict(row.fields), {}
    for one in form.fields:
        value = row.get(one.name)
        if one.kind == "text" and isinstance(value, str):
            made = axis.edits(value, turn)
            if made is None:
                return None
            fields[one.name], edits[one.name] = applied(value, made), made
        elif one.kind == "tokens" and value:
            tokens = _swap_tokens(value, axis, turn)
            if tokens is None:
                return None
            fields[one.name] = tokens
        elif one.kind == "messages" and value:
            turns = []
            for said in value:
                made = axis.edits(said["content"], turn) if isinstance(said.get("content"), str) else []
                if made is None:
                    return None
                turns.append({**said, "content": applied(said["content"], made)} if made else said)
            fields[one.name] = turns
    for one in form.fields:
        if one.kind == "spans" and one.within in edits and row.get(one.name):
            fields[one.name] = [_moved_span(span, str(fields[one.within]), edits[one.within]) for span in row[one.name]]
    if all(fields.get(one.name) == row.get(one.name) for one in form.inputs):
        return None
    return Row(f"{row.id}~{axis.name}-{turn}", fields, row.file, row.line), edits


def _moved_span(span: Mapping[str, Any], text: str, edits: Sequence[Edit]) -> dict[str, Any]:
    start = moved(span["start"], edits)
    stop = moved(span["start"] + len(span["text"]), edits, end=True)
    return {"text": text[start:stop], "start": start}


def _swap_tokens(tokens: Sequence[str], axis: Axis, turn: int) -> list[str] | None:
    """The words with groups swapped; None where a swap would make one word several."""
    joined = " ".join(tokens)
    made = axis.edits(joined, turn)
    if made is None or any(" " in edit.new or " " in joined[edit.start : edit.end] for edit in made):
        return None
    return applied(joined, made).split(" ")


def measure_swaps(
    pairs: Sequence[Pair],
    rows: Sequence[Row],
    before: Sequence[Answer],
    after: Sequence[Answer],
    form: Form,
    units: Sequence[int] | None,
    seed: int,
    spread: float = 1.0,
) -> list[Swapped]:
    """What each axis did. `before`: one answer a row; `after`: one a pair; `spread`: numbers' standard deviation."""
    out = []
    for name in dict.fromkeys(pair.axis.name for pair in pairs):
        own = [(pair, before[pair.index], new) for pair, new in zip(pairs, after) if pair.axis.name == name]
        out.append(_measure(name, own, rows, form, units, seed, spread))
    return out


def _measure(
    name: str,
    own: Sequence[tuple[Pair, Answer, Answer]],
    rows: Sequence[Row],
    form: Form,
    units: Sequence[int] | None,
    seed: int,
    spread: float,
) -> Swapped:
    found = [difference(old, new, pair, form, spread) for pair, old, new in own]
    chooses = all(flip is not None for flip, _ in found)
    table = np.array([[1.0, float(bool(flip)), shift] for flip, shift in found])
    places = [pair.index if units is None else units[pair.index] for pair, _, _ in own]
    summed = sum_by_group(table, places)
    count = len(summed)
    drawn = resample({"x": summed}, lambda s: {"flips": s[..., 1] / s[..., 0], "shift": s[..., 2] / s[..., 0]}, seed)[
        "x"
    ]
    flips, shift = float(table[:, 1].mean()), float(table[:, 2].mean())
    order = sorted(range(len(own)), key=lambda i: (not found[i][0], -abs(found[i][1])))
    flipped = dict.fromkeys(rows[own[i][0].index].id for i in order if found[i][0])
    bounded = form[form.target].kind not in ("number",) and chooses
    return Swapped(
        name,
        len(own),
        len({pair.index for pair, _, _ in own}),
        flips if chooses else None,
        score_interval(flips, drawn["flips"], count) if chooses else (math.nan, math.nan),
        shift,
        score_interval(shift, drawn["shift"], count, *((0.0, 1.0) if bounded else (None, None))),
        _leanings(own, units, seed, spread, form),
        [_example(own[i], rows, form, found[i]) for i in order[:SHOWN]],
        tuple(flipped)[:100],
        {p.row.id: (round(o.confidence, 4), round(n.confidence, 4), bool(f)) for (p, o, n), (f, _) in zip(own, found)},
    )


def difference(old: Answer, new: Answer, pair: Pair, form: Form, spread: float = 1.0) -> tuple[bool | None, float]:
    """(whether the answer to the swapped row is another, or None where answers are no choice; how far it moved)."""
    kind = form[form.target].kind
    if form.inputs == (form[form.target],):  # texts that are learned for themselves: a loss a token
        return None, _loss(new) - _loss(old)
    if kind == "label":
        ours, theirs = old.detail.get("probabilities") or {}, new.detail.get("probabilities") or {}
        flip = old.prediction != new.prediction
        if not ours or not theirs:
            return flip, float(flip)
        return flip, abs(theirs.get(old.prediction, 0.0) - ours.get(old.prediction, 0.0))
    if kind == "labels":
        ours, theirs = old.detail.get("probabilities") or {}, new.detail.get("probabilities") or {}
        moves = [abs(theirs.get(label, 0.0) - chance) for label, chance in ours.items()]
        flip = set(old.prediction) != set(new.prediction)
        return flip, max(moves, default=float(flip))
    if kind == "number":
        move = (float(new.prediction) - float(old.prediction)) / (spread or 1.0)
        return abs(move) > NEAR, abs(move)
    if kind == "tags":
        tags = list(zip(old.prediction, new.prediction))
        changed = sum(a != b for a, b in tags)
        there = sum(a != "O" or b != "O" for a, b in tags)
        return changed > 0, changed / there if there else 0.0
    return _texts_differ(str(old.prediction or ""), str(new.prediction or ""), pair, old, form)


def _texts_differ(old: str, new: str, pair: Pair, answer: Answer, form: Form) -> tuple[bool, float]:
    """Texts are alike if one becomes the other by the same swap; else by the words that they share (1 - F1)."""
    expected = [old]
    made = pair.axis.edits(old, pair.turn)
    if made:
        expected.append(applied(old, made))
    within, start = form[form.target].within or "", answer.detail.get("start")
    if old and within in pair.edits and isinstance(start, int):
        edits, text = pair.edits[within], str(pair.row[within])
        expected.append(text[moved(start, edits) : moved(start + len(old), edits, end=True)])
    alike = max(_shared(one, new) for one in expected)
    return alike < 1.0, 1.0 - alike


def _shared(one: str, other: str) -> float:
    """F1 over words, case and punctuation left out; 1 where both are empty."""
    a, b = ([word.strip(".,;:!?\"'()").casefold() for word in text.split()] for text in (one, other))
    if not a or not b:
        return float(a == b)
    both = sum((Counter(a) & Counter(b)).values())
    return 1.0 if a == b else min(2 * both / (len(a) + len(b)), 1.0 - _SAME)


def _loss(answer: Answer) -> float:
    return float(answer.detail.get("nll", 0.0)) / max(float(answer.detail.get("tokens", 0.0)), 1e-12)


def _leanings(
    own: Sequence[tuple[Pair, Answer, Answer]],
    units: Sequence[int] | None,
    seed: int,
    spread: float,
    form: Form,
) -> list[Leaning]:
    """Every label's (or the number's, or the loss's) mean change from one group to another, both ways together."""
    moves: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for pair, old, new in own:
        if not pair.origin:
            continue
        sign = 1.0
        origin, goal = pair.origin, pair.goal
        if pair.axis.groups.index(origin) > pair.axis.groups.index(goal):
            origin, goal, sign = goal, origin, -1.0
        place = pair.index if units is None else units[pair.index]
        for label, move in _moves(old, new, spread, form).items():
            moves.setdefault((label, origin, goal), []).append((place, sign * move))
    out = []
    for (label, origin, goal), some in moves.items():
        table = sum_by_group(np.array([[1.0, move] for _, move in some]), [place for place, _ in some])
        drawn = resample({"x": table}, lambda s: {"shift": s[..., 1] / s[..., 0]}, seed)["x"]["shift"]
        point = float(np.mean([move for _, move in some]))
        different = int((np.abs(table[:, 1]) > _SAME).sum())
        _, low, high = difference_interval(point, drawn, len(table), different)
        out.append(Leaning(label, origin, goal, len(some), point, low, high))
    return sorted(out, key=lambda one: -abs(one.shift))


def _moves(old: Answer, new: Answer, spread: float, form: Form) -> dict[str, float]:
    kind = form[form.target].kind
    if form.inputs == (form[form.target],):
        return {"loss": _loss(new) - _loss(old)}
    if kind == "number":
        return {"number": (float(new.prediction) - float(old.prediction)) / (spread or 1.0)}
    ours, theirs = old.detail.get("probabilities") or {}, new.detail.get("probabilities") or {}
    return {label: theirs[label] - chance for label, chance in ours.items() if label in theirs}


def _example(
    one: tuple[Pair, Answer, Answer], rows: Sequence[Row], form: Form, found: tuple[bool | None, float]
) -> dict[str, Any]:
    pair, old, new = one
    return {
        "row": rows[pair.index].id,
        "before": " / ".join(texts_of(rows[pair.index], form))[:600],
        "after": " / ".join(texts_of(pair.row, form))[:600],
        "answer": old.prediction,
        "swapped_answer": new.prediction,
        "flipped": found[0],
        "shift": round(found[1], 6),
    }
