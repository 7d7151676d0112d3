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

from ...records import Finding, Form, Row
from ..baselines.bag_of_words import features
from ..scores.intervals import Array, percentile
from ..scores.measures import signed

FEWEST = 60  # test rows
PART = 1 / 3  # of the test rows: the nearest, and the furthest
GAP = 0.1  # beyond which a gap is a warning
_DRAWS = 2_000
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Memorised:
    """Mean quality of the test rows `near` training and `far` from it, the gap's interval, and the baseline's gap."""

    rows: int
    near: float
    far: float
    gap: tuple[float, float, float]
    baseline_gap: float
    beyond: tuple[float, float, float]  # our gap minus the baseline's

    def as_json(self) -> dict[str, Any]:
        gaps = {"gap": list(self.gap), "baseline_gap": self.baseline_gap, "beyond": list(self.beyond)}
        return {"rows": self.rows, "near": self.near, "far": self.far, **gaps}

    def finding(self) -> Finding:
        by_heart = self.beyond[1] > 0 and self.gap[0] > GAP
        said = (
            f"Of test rows that resemble a training row {100 * self.near:.0f} % are answered well, of those that "
            f"resemble none {100 * self.far:.0f} % (a third of the rows each); for the cheap classical method the two "
            f"lie {signed('', self.baseline_gap)} points apart."
        )
        if by_heart:
            said = f"It seems to know training rows by heart. {said}"
        elif self.gap[0] <= GAP:
            said = f"Rows unlike any training row are answered about as well. {said}"
        remedy = "Expect the lower figure on new matter; add rows unlike the ones it has, and train for fewer epochs."
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
    found = features([text(row) for row in train], [text(row) for row in rows])
    if found is None:
        return None
    known, asked = found
    nearest = np.concatenate(
        [
            np.asarray((asked[start : start + _AT_ONCE] @ known.T).max(axis=1).todense()).ravel()
            for start in range(0, len(rows), _AT_ONCE)
        ]
    )
    order = np.argsort(-nearest, kind="stable")
    part = max(1, round(PART * len(rows)))
    near, far = order[:part], order[-part:]
    ours, theirs = np.asarray(quality, dtype=float), np.asarray(baseline, dtype=float)
    random = np.random.default_rng(seed)
    picks = random.integers(0, part, size=(2, _DRAWS, part))
    drawn = [values[near][picks[0]].mean(axis=1) - values[far][picks[1]].mean(axis=1) for values in (ours, theirs)]
    gap = float(ours[near].mean() - ours[far].mean())
    other = float(theirs[near].mean() - theirs[far].mean())
    return Memorised(
        len(rows),
        float(ours[near].mean()),
        float(ours[far].mean()),
        (gap, *percentile(drawn[0], part)),
        other,
        (gap - other, *percentile(drawn[0] - drawn[1], part)),
    )


def _said(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value or "")
