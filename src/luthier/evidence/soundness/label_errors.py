"""Labels that rows speak against: confident learning (Northcutt, Jiang & Chuang 2021, arxiv.org/abs/1911.00068).

A model that has not seen a row gives each label a probability. A label is doubted where another is more probable than
that one usually is among the rows that have it; the rows are ranked by how far the two lie apart. A list of doubts is
no measure of errors: half of them are rows that are hard. How many labels are wrong shows where the model is surest:
among the tenth of rows on which it is most decided, hardly a label should disagree with it, and where labels are wrong
by accident they are wrong there as often as anywhere. That holds if the model knows something: where as many labels
speak against it as against one that always says the usual label, it is no witness.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ...data.pulse import Say
from ...records import Form, Row
from ..scores.intervals import wilson
from .answer_sentences import Chosen, answering_sentences
from .doubts import SUREST, Doubt, Doubts
from .held_out import HeldOut, held_out
from .same_words import by_heart

FEWEST = 100  # rows under which labels are not doubted


def doubtful(form: Form, rows: Sequence[Row], units: Sequence[Hashable], say: Say | None = None) -> Doubts | None:
    """The targets that a cheap model doubts; None where it cannot say (few rows, a target of another kind).

    Labels are held against a linear model on words, answers against one that chooses a sentence, tags against the
    same words in other rows.
    """
    kind = form[form.target].kind
    if len(rows) < FEWEST:
        return None
    if kind == "tags":
        return by_heart(form, rows, units)
    if kind == "spans":
        chosen = answering_sentences(form, rows, units, say)
        return None if chosen is None else _answers(chosen, rows)
    found = held_out(form, rows, units, say)
    return None if found is None else doubted(found, rows)


def doubted(found: HeldOut, rows: Sequence[Row]) -> Doubts | None:
    """The labels that these probabilities speak against; None where too few rows have a label that is judged."""
    return _one_label(found, rows) if found.exclusive else _each(found, rows)


def _one_label(found: HeldOut, rows: Sequence[Row]) -> Doubts | None:
    shares, given = found.shares, found.given
    known = given.any(axis=1)  # a label that few rows have is not judged
    if known.sum() < FEWEST:
        return None
    usual = _usual(shares[known], given[known])
    own = np.where(given, shares, 0.0).sum(axis=1)
    rivals = np.where(given | (shares < usual), -1.0, shares)
    other = rivals.argmax(axis=1)
    odd = np.flatnonzero(known & (rivals.max(axis=1) > own))
    best = shares.argmax(axis=1)
    surest = _surest(np.where(known, shares.max(axis=1), -1.0), int(known.sum()))
    wrong = int((~given[surest, best[surest]]).sum())
    guess = 1 / max(2, len(found.names))
    sureness = float((shares.max(axis=1)[surest].mean() - guess) / (1 - guess))
    margin = own[odd] - shares[odd, other[odd]]
    doubts = []
    for place in odd[np.argsort(margin, kind="stable")].tolist():
        says, expected = found.names[int(given[place].argmax())], found.names[int(other[place])]
        doubts.append(_doubt(rows[place], says, expected, own[place], shares[place, other[place]]))
    blind = float(1 - given[known].mean(axis=0).max())
    return Doubts(tuple(doubts), len(rows), len(surest), wrong, sureness, blind)


def _answers(chosen: Sequence[Chosen], rows: Sequence[Row]) -> Doubts | None:
    """Doubted where another sentence is more probable than the answer's own usually is."""
    if len(chosen) < FEWEST:
        return None
    usual = float(np.mean([one.own for one in chosen]))
    surest = _surest(np.array([max(one.own, one.other) for one in chosen]), len(chosen))
    wrong = sum(chosen[i].other > chosen[i].own for i in surest)
    odd = sorted((one for one in chosen if one.other > max(one.own, usual)), key=lambda one: one.own - one.other)
    doubts = tuple(_doubt(rows[one.row], one.answer, one.sentence, one.own, one.other) for one in odd)
    return Doubts(doubts, len(chosen), len(surest), wrong)


def _each(found: HeldOut, rows: Sequence[Row]) -> Doubts:
    """Any number of labels a row: each is doubted by itself, whether it is given or left out."""
    doubts: list[tuple[float, Doubt]] = []
    surest, wrong = [0, 0], [0, 0]  # labels that are left out, and labels that are given
    for column, name in enumerate(found.names):
        shares = np.stack([1 - found.shares[:, column], found.shares[:, column]], axis=1)
        given = np.stack([~found.given[:, column], found.given[:, column]], axis=1)
        usual = _usual(shares, given)
        own = np.where(given, shares, 0.0).sum(axis=1)
        for place in np.flatnonzero(np.where(given, 0.0, shares - usual).max(axis=1) > 0).tolist():
            if own[place] < 0.5:
                says = (f"without {name}", name)
                has = bool(found.given[place, column])
                doubt = _doubt(rows[place], says[has], says[not has], own[place], 1 - own[place])
                doubts.append((float(own[place]), doubt))
        for side in (0, 1):  # apart: nearly all of the surest would lack a rare label
            held = _surest(shares[:, side], int(given[:, side].sum()))
            if shares[held, side].mean() > 0.5:  # else the model cannot tell this label at all
                surest[side] += len(held)
                wrong[side] += int((~given[held, side]).sum())
    once: dict[str, Doubt] = {}
    for _, doubt in sorted(doubts, key=lambda one: one[0]):
        once.setdefault(doubt.id, doubt)
    # The worse of the two: among many labels that are rightly left out those that are missing would not show.
    worse = max((0, 1), key=lambda side: wilson(wrong[side] / max(1, surest[side]), surest[side])[0])
    return Doubts(tuple(once.values()), len(rows), surest[worse], wrong[worse])


def _usual(shares: Any, given: Any) -> Any:
    """How probable a label is on average to the model among the rows that have it, by label."""
    count = given.sum(axis=0)
    return np.where(count > 0, (shares * given).sum(axis=0) / np.maximum(count, 1), 2.0)


def _surest(sure: Any, count: int) -> Any:
    """The items of the SUREST share of `count`."""
    return np.argsort(-sure, kind="stable")[: max(1, round(SUREST * count))]


def _doubt(row: Row, given: str, expected: str, own: float, other: float) -> Doubt:
    return Doubt(row.id, row.file, row.line, given, expected, float(own), float(other))
