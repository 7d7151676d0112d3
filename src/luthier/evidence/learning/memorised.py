"""Has the model learned the matter, or its training rows by heart? Test rows that resemble a training row beside test
rows that resemble none (Elangovan, He & Verspoor 2021, aclanthology.org/2021.eacl-main.113).

Likeness is the cosine of TF-IDF vectors to the nearest training row. Rows close to training are often easier for
every model, so the classical baseline's own gap stands beside: what lies beyond it is learned by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...records import Finding, Form, Row
from ..baselines.bag_of_words import features
from ..scores.intervals import Array, percentile
from ..scores.measures import signed

FEWEST = 60  # test rows
PART = 1 / 3  # of the test rows: the nearest, and the furthest
GAP = 0.1  # beyond which a gap is a warning
_DRAWS = 2_000
MOST_PAIRS = 100_000_000  # of a test and a training row, some ten seconds; beyond, test rows are drawn by chance
FEWEST_DRAWN = 2_000  # test rows, a third of which tells a gap to within four points
_CELLS = 4_000_000  # of a table that is held at once


@dataclass(frozen=True, slots=True)
class Memorised:
    """Mean quality of the test rows `near` training and `far` from it, the gap's interval, and the baseline's gap.

    `rows` were looked at: all of them, or where that takes too long some that were drawn by chance.
    """

    rows: int
    near: float
    far: float
    gap: tuple[float, float, float]
    baseline_gap: float
    beyond: tuple[float, float, float]  # our gap minus the baseline's
    of: int = 0  # test rows in all

    def as_json(self) -> dict[str, Any]:
        gaps = {"gap": list(self.gap), "baseline_gap": self.baseline_gap, "beyond": list(self.beyond)}
        return {"rows": self.rows, "of": self.of, "near": self.near, "far": self.far, **gaps}

    def finding(self) -> Finding:
        by_heart = self.beyond[1] > 0 and self.gap[0] > GAP
        some = f"{self.rows:,} test rows drawn by chance, those" if self.rows < self.of else "test rows"
        said = (
            f"Of {some} that resemble a training row {100 * self.near:.0f} % are answered well, of those that "
            f"resemble none {100 * self.far:.0f} % (a third of the rows each): {signed('', self.gap[0])} points. For "
            f"the cheap classical method the difference is {signed('', self.baseline_gap)} points."
        )
        if by_heart:
            said = f"It seems to know training rows by heart. {said}"
        elif self.gap[0] <= GAP:
            said = f"Rows unlike any training row are answered about as well as others. {said}"
        remedy = "Expect the lower figure on rows unlike its training rows; add such rows, and train for fewer epochs."
        severity = "warning" if by_heart else "note"
        return Finding("memorised", severity, said, self.as_json(), remedy=remedy if by_heart else "")  # type: ignore[arg-type]


def memorised(
    form: Form, train: Sequence[Row], rows: Sequence[Row], quality: Array, baseline: Array, seed: int = 0
) -> Memorised | None:
    """`quality` and `baseline` [rows] are 0..1. None with few rows, or without words."""
    names = [field.name for field in form.inputs if field.kind in ("text", "tokens")]
    if len(rows) < FEWEST or not names or not train:
        return None
    text = lambda row: "\n".join(_said(row.get(name)) for name in names)
    random = np.random.default_rng(seed)
    looked = _looked_at(len(train), len(rows), random)
    found = features([text(row) for row in train], [text(rows[i]) for i in looked])
    if found is None:
        return None
    near, far = (looked[places] for places in _ends(*found))
    ours, theirs = np.asarray(quality, dtype=float), np.asarray(baseline, dtype=float)
    part = len(near)
    drawn = _drawn([ours[near], theirs[near]], random) - _drawn([ours[far], theirs[far]], random)
    gap = float(ours[near].mean() - ours[far].mean())
    other = float(theirs[near].mean() - theirs[far].mean())
    return Memorised(
        len(looked),
        float(ours[near].mean()),
        float(ours[far].mean()),
        (gap, *percentile(drawn[0], part)),
        other,
        (gap - other, *percentile(drawn[0] - drawn[1], part)),
        len(rows),
    )


def _looked_at(train: int, rows: int, random: np.random.Generator) -> NDArray[np.intp]:
    """The test rows that are compared with every training row: all, or as many as `MOST_PAIRS` allow."""
    fewer = max(FEWEST_DRAWN, MOST_PAIRS // train)
    return np.arange(rows) if fewer >= rows else np.sort(random.choice(rows, fewer, replace=False))


def _ends(known: Any, asked: Any) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of the test rows the third that is nearest to a training row, and the third that is furthest."""
    words = known.T.tocsr()  # once: each product would do it anew
    step = max(1, _CELLS // known.shape[0])
    nearest = [
        np.asarray((asked[start : start + step] @ words).max(axis=1).todense()).ravel()
        for start in range(0, asked.shape[0], step)
    ]
    order = np.argsort(-np.concatenate(nearest), kind="stable")
    part = max(1, round(PART * len(order)))
    return order[:part], order[-part:]


def _drawn(values: Sequence[Array], random: np.random.Generator) -> Array:
    """[values x draws]: the mean of each of `values` [rows] over rows drawn with replacement, the same for all."""
    rows, out = len(values[0]), np.empty((len(values), _DRAWS))
    step = max(1, _CELLS // rows)
    for start in range(0, _DRAWS, step):
        picks = random.integers(0, rows, size=(min(step, _DRAWS - start), rows))
        for place, some in enumerate(values):
            out[place, start : start + step] = some[picks].mean(axis=1)
    return out


def _said(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value or "")
