"""Classification's sister: a number for a text.

The model learns the number in standard deviations from the mean of the training rows, so that one learning rate fits
any scale; mean and spread are kept, and answers are in the rows' own unit. What decides is R², the share of the
variance that is explained: unlike a correlation it does not forgive a model that is right but for scale and offset, and
always answering the mean has one, 0. Spearman's rank correlation is left out: it is no function of sums over rows, on
which the intervals rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.errors import RecipeError
from luthier.records import Answer, Field, Row, Table

from .base import Task
from .classification import Classification

if TYPE_CHECKING:
    from torch import Tensor

    from luthier.engine.batches import Batch, Examples

NEAR = 0.5  # standard deviations of the training rows within which an answer counts as right
BY_CHANCE = 0.383  # what lies so near to the mean of a normal distribution
BANDS = 5
_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:[.,]\d+)?|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)


class Regression(Classification):
    title = "Regression on text"
    primary = "r2"
    chooses = True
    target = Field(
        "score",
        "number",
        "the number that is asked for",
        aliases=(
            *("label", "target", "value", "rating", "stars", "grade", "number", "y", "similarity"),
            *("similarity_score", "output"),
        ),
    )

    @property
    def labels(self) -> list[str]:
        return []

    @property
    def _outputs(self) -> int:
        return 1

    def learn(self, rows: Sequence[Row]) -> None:
        values = np.array([row["score"] for row in rows], dtype=np.float64)
        mean, spread = float(values.mean()), float(values.std())
        if spread <= 1e-12 * abs(mean):  # all the same, but for rounding
            spread = 1.0
        self.state |= {"mean": mean, "std": spread}
        self.state |= {"low": float(values.min()), "high": float(values.max())}

    def measuring(self, rows: Sequence[Row]) -> Task:
        """Numbers are measured by their own spread."""
        if self.state:
            return self
        other = self.copy()
        other.learn(rows)
        return other

    def inherit(self, state: Mapping[str, Any]) -> None:
        """The earlier run's scale, which its head gives numbers in; its range and these rows' together."""
        self.state |= {name: state[name] for name in ("mean", "std") if name in state}
        ends = (("low", min), ("high", max))
        self.state |= {name: wider(self.state[name], state[name]) for name, wider in ends if name in state}

    def regularise(self, label_smoothing: float, weights: str | Mapping[str, float], rows: Sequence[Row]) -> None:
        if label_smoothing or weights != "none":
            key = "label_smoothing" if label_smoothing else "class_weights"
            raise RecipeError(f"a number has no labels, so train.{key} says nothing", where="train", fix="leave it out")

    def _due(self, rows: Sequence[Row]) -> list[Any]:
        return list(np.array([self._standard(row["score"]) for row in rows], dtype=np.float32))

    def _standard(self, value: Any) -> Any:
        """A number, or an array of them, in standard deviations from the mean of the training rows."""
        return (value - self.state["mean"]) / self.state["std"]

    def weights(self, examples: Examples) -> np.ndarray:
        return np.ones(len(examples))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Squared distances, in variances of the training rows, summed."""
        return (logits[:, 0] - batch["labels"]).square().sum()

    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        return list(logits[:, 0].double().cpu().numpy())

    def unsure(self, examples: Examples, reduced: Sequence[Any]) -> np.ndarray:
        return np.zeros(0, dtype=int)  # no decision hangs on a number's last digits

    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        sure = self.state.get("near", BY_CHANCE)
        return [Answer(self.state["mean"] + self.state["std"] * float(value), sure) for value in reduced]

    def choose(self, rows: Sequence[Row], answers: Sequence[Answer]) -> None:
        """Nothing but how often it is right on these rows, which is every answer's confidence."""
        self.state["near"] = float(self.correct(rows, answers).mean())

    def settle(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Answer]:
        return [Answer(a.prediction, self.state.get("near", BY_CHANCE), a.detail) for a in answers]

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Columns: 1; due, given, their squares and product in standard deviations; error, its square."""
        due, given = self._both(rows, answers)
        y, x = self._standard(due), self._standard(given)
        off = np.abs(given - due)
        return np.stack([np.ones(len(rows)), y, x, y * y, x * x, y * x, off, off * off], 1)

    @staticmethod
    def _both(rows: Sequence[Row], answers: Sequence[Answer]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers due and given."""
        due = np.array([row["score"] for row in rows], dtype=np.float64)
        return due, np.array([answer.prediction for answer in answers], dtype=np.float64)

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """R² and Pearson's correlation are NaN where the rows' numbers are all the same."""
        n, y, x, yy, xx, yx, off, square = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            due, given, both = yy - y * y / n, xx - x * x / n, yx - y * x / n
            due, given = (np.where(part > 1e-9 * n, part, np.nan) for part in (due, given))
            return {
                "r2": 1 - square / self.state["std"] ** 2 / due,
                "pearson": np.clip(both / np.sqrt(due * given), -1, 1),
                "mae": off / n,
                "rmse": np.sqrt(square / n),
            }

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """1 where it is exact, 0 from two standard deviations of the training rows on."""
        due, given = self._both(rows, answers)
        return np.maximum(0.0, 1 - np.abs(given - due) / (2 * self.state["std"]))

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        due, given = self._both(rows, answers)
        return np.abs(given - due) <= NEAR * self.state["std"]

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        """How far off, from the lowest numbers to the highest."""
        due, given = self._both(rows, answers)
        edges = np.unique(np.quantile(due, np.linspace(0, 1, BANDS + 1)))
        band = np.clip(np.searchsorted(edges, due, side="right") - 1, 0, max(0, len(edges) - 2))
        lines = []
        for i in np.unique(band):
            here = band == i
            low, high = (f"{end:g}" for end in (due[here].min(), due[here].max()))
            name = low if low == high else f"{low} to {high}"
            off = np.abs(given[here] - due[here]).mean()
            told = (f"{value:.4g}" for value in (due[here].mean(), given[here].mean(), off))
            lines.append((name, int(here.sum()), *told))
        header = ("expected", "rows", "mean expected", "mean given", "mean error")
        caption = (
            f"An answer counts as right within {NEAR * self.state['std']:.3g}, half a standard deviation of the "
            "training rows. Low ends given too high and high ends too low are a model that plays safe."
        )
        return [Table("From low to high", header, tuple(lines), caption)]

    @property
    def _card_answer(self) -> str:
        return f"{self.state['mean']!r} + {self.state['std']!r} * float(logits[0])"

    def _request(self, what: str) -> str:
        low, high = self.state["low"], self.state["high"]
        return f"Which number fits {what}? Answer with a number from {_digits(low)} to {_digits(high)} alone."

    def tell(self, row: Row) -> str:
        return _digits(row["score"])

    def hear(self, row: Row, text: str) -> Answer:
        """The first number that was written, kept within those of training; their mean where there is none."""
        match = _NUMBER.search(text)
        if match is None:
            return Answer(self.state["mean"], 1.0)
        thousands = re.search(r"\d,\d{3}(?!\d)", match[0])
        value = float(match[0].replace("−", "-").replace(",", "" if thousands else "."))
        return Answer(min(self.state["high"], max(self.state["low"], value)), 1.0)

    def hear_code(self) -> str:
        low, high, mean = (self.state[name] for name in ("low", "high", "mean"))
        return (
            f"NUMBER = re.compile({_NUMBER.pattern!r}, re.IGNORECASE)\n\n\n"
            "def hear(said, **inputs):\n"
            "    match = NUMBER.search(said)\n"
            "    if match is None:\n"
            f"        return {mean!r}\n"
            '    thousands = re.search(r"\\d,\\d{3}(?!\\d)", match[0])\n'
            '    value = float(match[0].replace("−", "-").replace(",", "" if thousands else "."))\n'
            f"    return min({high!r}, max({low!r}, value))\n"
        )

    def allowed(self, row: Row) -> Sequence[str] | str | None:
        return None


def _digits(value: float) -> str:
    """A number as people write it: the fewest digits that are exactly it, without an exponent."""
    return np.format_float_positional(value, trim="-")
