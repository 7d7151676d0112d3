"""What a cheap model says of rows that it was not fitted on: the labels' probabilities of every row.

Words and word pairs are counted once for all rows, which looks at no label; only linear models are fitted, on all
units but a fifth, and asked about that fifth. Several cuts into fifths are averaged where that is cheap, which makes
less of chance where rows are few; of 5,000 IMDb reviews one cut finds as many wrong labels (benchmarks/soundness.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.pulse import Pulse, Say
from ...records import Answer, Form, Row
from ..baselines.bag_of_words import features
from ..scores.intervals import Array
from .doubts import CHEAP

FOLDS = 5
CUTS = 3
CHEAP_CELLS = 50_000  # rows x labels up to which all cuts are made
STRENGTH = 4.0  # the logistic regression's C
DAMPING = 1.0  # the ridge's alpha
MOST_LABELS = 100
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """`shares` [rows x names] are probabilities, `given` [rows x names] what the rows say. `exclusive`: a row has one
    name, else any number of them.
    """

    names: tuple[str, ...]
    shares: Array
    given: Flags
    exclusive: bool


class Cheap:
    """Rows as counted and weighed words, on which linear models are fitted, to labels or to numbers."""

    by, folds = CHEAP, FOLDS

    def __init__(self, form: Form, rows: Sequence[Row], matrix: Any) -> None:
        self.kind, self.matrix, self.names = form[form.target].kind, matrix, tuple[str, ...]()
        self.called = "TF-IDF + " + ("ridge regression" if self.kind == "number" else "logistic regression")
        targets = [row[form.target] for row in rows]
        if self.kind == "number":
            self.given = np.array(targets, dtype=float)
            return
        sets = [[str(target)] if self.kind == "label" else list(target) for target in targets]
        self.names = tuple(sorted({label for labels in sets for label in labels}))
        place = {name: column for column, name in enumerate(self.names)}
        self.given = np.zeros((len(rows), len(self.names)), dtype=bool)
        for row, labels in enumerate(sets):
            self.given[row, [place[label] for label in labels]] = True

    @classmethod
    def of(cls, form: Form, rows: Sequence[Row]) -> Cheap | None:
        """None for targets of another kind, for no or too many labels, and for rows without a word."""
        names = [field.name for field in form.inputs if field.kind == "text"]
        if form[form.target].kind not in ("label", "labels", "number") or not rows or not names:
            return None
        texts = ["\n".join(str(row.get(name) or "") for name in names) for row in rows]
        found = features(texts, texts[:1])
        if found is None:
            return None
        cheap = cls(form, rows, found[0].tocsr())
        return cheap if cheap.kind == "number" or 1 <= len(cheap.names) <= MOST_LABELS else None

    @property
    def exclusive(self) -> bool:
        return self.kind == "label"

    def shares(self, fit: Any, asked: Any) -> Array:
        """[asked x names] probabilities; of exclusive names they add up to 1. `fit` and `asked` choose rows."""
        known, given = self.matrix[fit], self.given[fit]
        found = self.matrix[asked]
        count = given.shape[1]
        shares = np.zeros((found.shape[0], count))
        two = self.exclusive and count == 2
        for column in range(1 if two else count):
            due = given[:, column]
            shares[:, column] = float(due.all()) if due.all() or not due.any() else _share(known, due, found)
        if two:
            shares[:, 1] = 1 - shares[:, 0]
        if not self.exclusive:
            return shares
        whole = shares.sum(axis=1, keepdims=True)
        return np.divide(shares, whole, out=np.full_like(shares, 1 / max(1, count)), where=whole > 0)

    def answers(self, fit: Any, asked: Any) -> list[Answer]:
        """Answers to the rows `asked`, by a model fitted on the rows `fit`."""
        if self.kind == "number":
            from sklearn.linear_model import Ridge

            told = Ridge(DAMPING).fit(self.matrix[fit], self.given[fit]).predict(self.matrix[asked])
            return [Answer(float(value), 1.0) for value in told]
        out = []
        for shares in self.shares(fit, asked):
            probabilities = dict(zip(self.names, map(float, shares)))
            best = int(shares.argmax())
            given = self.names[best] if self.exclusive else [n for n, share in probabilities.items() if share >= 0.5]
            sure = float(shares[best]) if self.exclusive else float(np.maximum(shares, 1 - shares).prod())
            out.append(Answer(given, sure, {"probabilities": probabilities}))
        return out


def held_out(form: Form, rows: Sequence[Row], units: Sequence[Hashable], say: Say | None = None) -> HeldOut | None:
    """Labels' probabilities by models that saw neither the row nor another of its unit.

    Labels that fewer than FOLDS units have are left out. None where that says nothing: targets of another kind, fewer
    than two labels, more than MOST_LABELS, no word.
    """
    cheap = Cheap.of(form, rows)
    if cheap is None or cheap.kind == "number":
        return None
    block = blocks(units)
    usual = [len(np.unique(block[column])) >= FOLDS for column in cheap.given.T]
    cheap.given = cheap.given[:, usual]
    cheap.names = tuple(name for name, kept in zip(cheap.names, usual) if kept)
    given, exclusive = cheap.given, cheap.exclusive
    if len(cheap.names) < 1 + exclusive:
        return None
    cuts = CUTS if given.size <= CHEAP_CELLS else 1
    shares = np.zeros(given.shape)
    pulse = Pulse(say, "asking a cheap model about rows that it has not seen")
    for cut in range(cuts):
        for number, (fit, asked) in enumerate(folds(block, cut)):
            pulse(len(rows) * (cut * FOLDS + number) // (cuts * FOLDS))
            if exclusive:
                fit = fit & given.any(axis=1)
            shares[asked] += cheap.shares(fit, asked) / cuts
    return HeldOut(cheap.names, shares, given, exclusive)


def hash_of(unit: Hashable) -> str:
    """Something that sorts, whatever the unit is."""
    return f"{type(unit).__name__} {unit}"


def blocks(units: Sequence[Hashable]) -> NDArray[np.intp]:
    """The units as numbers from 0 on, [rows]."""
    found: NDArray[np.intp] = np.unique([hash_of(unit) for unit in units], return_inverse=True)[1]
    return found


def folds(block: NDArray[Any], cut: int, count: int = FOLDS) -> Iterator[tuple[Flags, Flags]]:
    """(fitted on, asked about) for each of so many parts of the units, drawn anew for every cut."""
    place = np.random.default_rng(cut).permutation(int(block.max()) + 1)[block] % count
    for fold in range(count):
        asked = place == fold
        if asked.any() and not asked.all():
            yield ~asked, asked


def _share(known: Any, due: Flags, asked: Any) -> Array:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=STRENGTH, solver="liblinear", max_iter=200, random_state=0).fit(known, due)
    found: Array = model.predict_proba(asked)[:, 1]
    return found
