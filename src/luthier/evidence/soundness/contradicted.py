"""Rows whose targets the recipe's own model, trained without them, speaks against.

Of labels it gives probabilities, which are taken as those of the cheap model are (label_errors.py). Of answers, tags
and numbers it gives one: a row is doubted where the model says something else with at least the confidence that it
usually has where it is right, or where a number lies far outside the others' errors. Which rows to look at first is all
that is taken from it: how many targets are wrong a cheap model tells, since a tuned one is often sure and wrong (Guo et
al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...data import marks_of
from ...data.rows.tags import mentions
from ...records import Answer, Row
from ..scores.score import ScoredTask
from .doubts import Doubt, Doubts
from .held_out import HeldOut
from .label_errors import FEWEST, doubted

KINDS = ("label", "labels", "number", "spans", "tags")  # of targets that can be held against answers
FAR = 4.0  # spreads of the errors beyond which a number is doubted


def contradicted(
    task: ScoredTask, rows: Sequence[Row], answers: Sequence[Answer], by: str, cheap: Doubts | None
) -> Doubts | None:
    """The targets that `answers` speak against, given by models that saw neither the row nor another of its unit.

    `by` is what these are called; how many targets are wrong is what a `cheap` model says. `cheap` itself with few
    rows, for a target of another kind than KINDS, and where answers hold no probabilities of labels.
    """
    kind = task.form[task.form.target].kind
    if len(rows) < FEWEST or kind not in KINDS:
        return cheap
    if kind == "number":
        doubts: Sequence[Doubt] | None = _numbers(task, rows, answers)
    elif kind in ("spans", "tags"):
        doubts = _answers(task, rows, answers)
    else:
        doubts = _labels(task, rows, answers)
    if doubts is None:
        return cheap
    return replace(cheap or Doubts((), 0, 0, 0), rows=tuple(doubts), looked_at=len(rows), ranked_by=by)


def _labels(task: ScoredTask, rows: Sequence[Row], answers: Sequence[Answer]) -> Sequence[Doubt] | None:
    """By the labels that every answer weighs; a row whose label is another is not judged."""
    target, exclusive = task.form.target, task.form[task.form.target].kind == "label"
    weighed = [answer.detail.get("probabilities") or {} for answer in answers]
    names = tuple(sorted(set.intersection(*(set(map(str, one)) for one in weighed))))
    if len(names) < 1 + exclusive:
        return None
    shares = np.array([[float(one[name]) for name in names] for one in weighed])
    said = [set(map(str, marks_of(row[target], task.form[target].kind))) for row in rows]
    given = np.array([[name in one for name in names] for one in said])
    found = doubted(HeldOut(names, shares, given, exclusive), rows)
    return None if found is None else found.rows


def _numbers(task: ScoredTask, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Doubt]:
    """Numbers far from what is expected, in spreads of all errors (median absolute deviation)."""
    target = task.form.target
    given = np.array([float(row[target]) for row in rows])
    expected = np.array([float(answer.prediction) for answer in answers])
    errors = expected - given
    off = np.abs(errors - np.median(errors))
    spread = 1.4826 * float(np.median(off)) or float(errors.std()) or 1.0
    out = []
    for i in np.argsort(-off, kind="stable").tolist():
        far, row = float(off[i]) / spread, rows[i]
        if far > FAR:
            own = math.erfc(far / math.sqrt(2))
            out.append(Doubt(row.id, row.file, row.line, f"{given[i]:g}", f"{expected[i]:.4g}", own, 1 - own))
    return out


def _answers(task: ScoredTask, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Doubt]:
    """Answers without a word in common, and tags that are not the same, the most confident first."""
    kind = task.form[task.form.target].kind
    right = np.asarray(task.correct(rows, answers), dtype=bool)
    wrong = ~right if kind == "tags" else np.asarray(task.quality(rows, answers)) <= 0
    sure = np.array([answer.confidence for answer in answers], dtype=float)
    usual = float(sure[right].mean()) - 1e-9 if right.any() else 1.0
    order = [i for i in np.argsort(-sure, kind="stable").tolist() if wrong[i] and sure[i] >= usual]
    return [_doubt(task, rows[i], answers[i]) for i in order]


def _doubt(task: ScoredTask, row: Row, answer: Answer) -> Doubt:
    given, expected = (_told(task, row, target) for target in (row[task.form.target], answer.prediction))
    sure = float(answer.confidence)
    return Doubt(row.id, row.file, row.line, given, expected, 1 - sure, sure)


def _told(task: ScoredTask, row: Row, target: Any) -> str:
    """An answer's text, or the entities of a row."""
    field = task.form[task.form.target]
    if field.kind == "spans":
        texts = [target] if isinstance(target, str) else [one["text"] for one in target]
        return next((text for text in texts if text), "no answer")
    words = row[field.within or ""]
    found = [f"{' '.join(words[start:end])}: {name}" for start, end, name in mentions(target)]
    return ", ".join(found) or "no entity"
