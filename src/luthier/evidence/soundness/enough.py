"""Are there enough rows? What a cheap model reaches with a quarter, a half and all of them, and what twice as many
would add.

Scores rise with rows by a power law towards a ceiling (Hestness et al. 2017, arxiv.org/abs/1712.00409): each doubling
adds a constant fraction of what the one before it added. So two doublings that were seen tell the next.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...data.pulse import Pulse, Say
from ...records import Answer, Finding, Row
from ..scores.measures import as_text, measure, signed
from ..scores.score import ScoredTask, evaluate
from .doubts import CHEAP
from .held_out import Cheap, blocks, folds

SHARES = (0.25, 0.5, 1.0)
FEWEST = 100  # rows under which no curve is drawn
WORTH = 0.03  # expected gain of doubling beyond which more labels are advised first


@dataclass(frozen=True, slots=True)
class Curve:
    """`points`: (rows, score). `gain`: what twice the rows would add, a fraction where more is better; `last` is what
    the last doubling added, with its 95 % interval. `by` is who learned, `model` what that is.
    """

    key: str
    model: str
    points: tuple[tuple[int, float], ...]
    gain: float
    last: tuple[float, float, float]
    by: str = CHEAP

    def as_json(self) -> dict[str, Any]:
        points = [{"rows": rows, "score": score} for rows, score in self.points]
        return {
            "score": self.key,
            "by": self.by,
            "model": self.model,
            "points": points,
            "gain": self.gain,
            "last": list(self.last),
        }

    def finding(self) -> Finding:
        reached = ", ".join(as_text(self.key, score) for _, score in self.points[:-1])
        sizes = ", ".join(f"{rows:,}" for rows, _ in self.points[:-1])
        rows, score = self.points[-1]
        name = measure(self.key).name
        said = (
            f"With {sizes} and {rows:,} rows {self.by} ({self.model}) reaches {name} {reached} and "
            f"{as_text(self.key, score)}. "
        )
        unit = " points" if measure(self.key).top == 1.0 else ""
        if self.last[1] <= 0:
            said += "The last doubling added nothing that can be told from chance."
        else:
            falls = not measure(self.key).higher_is_better
            rise = f"{signed(self.key, self.gain).lstrip('+')}{unit}"
            change = f"lower it by about {self.gain:.3g}" if falls else f"add about {rise}"
            whose = " for that model; for the tuned one it is unknown" if self.by == CHEAP else ""
            said += f"Twice as many rows would {change}{whose}."
        steep = self.last[1] > 0 and self.gain >= WORTH
        remedy = "Label more rows: twice as many would be a good next step." if steep else ""
        return Finding("learning-curve", "warning" if steep else "note", said, self.as_json(), remedy=remedy)


class Learner(Protocol):
    """Whoever learns the rows for a curve."""

    called: str
    by: str
    folds: int

    def answers(self, fit: Any, asked: Any) -> Sequence[Answer]:
        """Answers to the rows `asked` (flags), by a model fitted on the rows `fit` (their numbers, rising)."""
        ...


def learning_curve(
    task: ScoredTask,
    rows: Sequence[Row],
    units: Sequence[Hashable],
    say: Say | None = None,
    seed: int = 0,
    learner: Learner | None = None,
) -> Curve | None:
    """What a cheap model, or another `learner`, reaches on rows that it was not fitted on, with growing parts of the
    others.

    Every row is asked about once, by models fitted on a quarter, a half and all of the units of other folds; the parts
    nest. None with few rows, for a target that no cheap model learns, or where the score is not defined.
    """
    if len(rows) < FEWEST:
        return None
    learns: Learner | None = learner or Cheap.of(task.form, rows)
    if learns is None:
        return None
    block = blocks(units)
    rank = np.random.default_rng(seed).permutation(int(block.max()) + 1)[block]
    told: list[list[Answer | None]] = [[None] * len(rows) for _ in SHARES]
    sizes = np.zeros(len(SHARES))
    pulse = Pulse(say if learner is None else None, "drawing a learning curve with a cheap model")
    for number, (others, asked) in enumerate(folds(block, 0, learns.folds)):
        pulse(len(rows) * number // learns.folds)
        order = np.flatnonzero(others)[np.argsort(rank[others], kind="stable")]
        for place, share in enumerate(SHARES):
            part = np.sort(order[: round(share * len(order))])
            sizes[place] += len(part) / learns.folds
            for i, answer in zip(np.flatnonzero(asked).tolist(), learns.answers(part, asked)):
                told[place][i] = answer
    quarter, half, full = ([one for one in answers if one is not None] for answers in told)
    if not len(quarter) == len(half) == len(full) == len(rows):
        return None
    whole = evaluate(task, rows, full, {"quarter": quarter, "half": half}, block.tolist(), seed)
    key = task.primary
    scores = [whole.baselines["quarter"].get(key), whole.baselines["half"].get(key), whole.scores.get(key)]
    if any(score is None for score in scores):
        return None
    turn = 1 if measure(key).higher_is_better else -1
    first, second, third = (turn * float(score) for score in scores if score is not None)
    before, last = second - first, third - second
    ratio = min(1.0, last / before) if before > 0 and last > 0 else 0.5
    mean, low, high = whole.differences["half"][key]
    points = tuple((round(size), float(score)) for size, score in zip(sizes, scores) if score is not None)
    interval = (mean, low, high) if turn > 0 else (-mean, -high, -low)
    return Curve(key, learns.called, points, max(0.0, last * ratio), interval, learns.by)
