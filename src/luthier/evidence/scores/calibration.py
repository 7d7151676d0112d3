"""Does a confidence of 0.8 mean right eight times in ten? Reliability bins and expected calibration error.

Bins hold equal numbers of answers (Nguyen & O'Connor 2015), which a model sure of everything cannot hide from
as it can in bins of equal width. ECE is the mean gap between confidence and accuracy over the bins, weighted
by their answers (Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017). It is above zero even for a perfectly
calibrated model, by chance; `chance` is the value such a model would pass once in twenty times (consistency
resampling: Bröcker & Smith 2007), and only an ECE beyond it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...records import Answer, Finding
from .intervals import Array, Z

BINS = 10
DRAWS = 200
FEWEST_ROWS = 50  # under this nothing is said of calibration
HELPS = 0.7  # a temperature is advised that leaves so much of the error, at the most
GAP = 0.05  # an ECE under this is no trouble, proven or not


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of like confidence: how many, their mean confidence, the share that was right."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """`ece` and `chance` are fractions; `confidence` and `accuracy` are means over all `rows` answers."""

    rows: int
    bins: tuple[Bin, ...]
    ece: float
    chance: float
    confidence: float
    accuracy: float

    @property
    def off(self) -> bool:
        """Whether confidence and accuracy lie apart by much and beyond chance over all rows together, which few rows
        in many bins do not show.
        """
        spread = sum(one.count * one.confidence * (1 - one.confidence) for one in self.bins) ** 0.5
        gap = abs(self.confidence - self.accuracy)
        return gap > GAP and gap * self.rows > Z * spread

    def as_json(self) -> dict[str, Any]:
        bins = [{"count": one.count, "confidence": one.confidence, "accuracy": one.accuracy} for one in self.bins]
        return {"rows": self.rows, "ece": self.ece, "chance": self.chance, "bins": bins}


def calibrate(answers: Sequence[Answer], correct: NDArray[np.bool_], bins: int = BINS, seed: int = 0) -> Calibration:
    """Reliability of `answers` whose rightness is `correct` [rows]. Equal confidences always share a bin."""
    confidence = np.clip([answer.confidence for answer in answers], 0.0, 1.0).astype(np.float64)
    right = np.asarray(correct, dtype=np.float64)
    if not len(confidence):
        return Calibration(0, (), 0.0, 0.0, 0.0, 0.0)
    order = np.argsort(confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    starts = _starts(confidence, bins)
    sizes = np.diff([*starts, len(confidence)]).astype(np.float64)
    sure, share = (np.add.reduceat(values, starts) / sizes for values in (confidence, right))
    random = np.random.default_rng(seed)
    perfect = [_ece(random.random(len(confidence)) < confidence, confidence, starts, sizes) for _ in range(DRAWS)]
    return Calibration(
        rows=len(confidence),
        bins=tuple(Bin(int(n), float(c), float(a)) for n, c, a in zip(sizes, sure, share)),
        ece=_ece(right, confidence, starts, sizes),
        chance=float(np.quantile(perfect, 0.95)),
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
    )


def calibration_finding(calibration: Calibration, by: float = 1.0, cooled: Calibration | None = None) -> Finding | None:
    """A finding in words, or None where there are too few rows to say.

    `cooled` is the calibration at the temperature `by` that validation rows gave.
    """
    if calibration.rows < FEWEST_ROWS:
        return None
    sure, right, ece = (
        f"{100 * value:.0f} %" for value in (calibration.confidence, calibration.accuracy, calibration.ece)
    )
    numbers = {key: value for key, value in calibration.as_json().items() if key != "bins"}
    if calibration.ece <= max(GAP, calibration.chance) and not calibration.off:
        known = "" if calibration.chance <= 2 * GAP else f" as far as {calibration.rows:,} rows can tell"
        sentence = (
            f"Its confidence can be trusted{known}: it is {sure} sure on average, and right in {right} (calibration "
            f"error {ece})."
        )
        return Finding("calibrated", "note", sentence, numbers)
    which = "overconfident" if calibration.confidence > calibration.accuracy else "underconfident"
    sentence = f"It is {which}: on average {sure} sure, right in {right} of the rows (calibration error {ece})."
    remedy = (
        "Do not read its confidence as a probability. Where answers of low confidence go to a person, choose the "
        "limit on validation rows."
    )
    if cooled is not None and cooled.ece < HELPS * calibration.ece:
        numbers |= {"temperature": by, "ece_at_temperature": cooled.ece}
        remedy += (
            f" Or divide its log-odds by {by:.2f} (the temperature that fits the validation rows): the error is then "
            f"{100 * cooled.ece:.0f} %."
        )
    return Finding(which, "warning", sentence, numbers, remedy=remedy)


def temperature(answers: Sequence[Answer], correct: NDArray[np.bool_]) -> float:
    """What the log-odds of a confidence are divided by, so that it fits how often answers are right (Guo et al. 2017).

    Fitted by likelihood, on validation rows. Over 1: the model is surer than it should be; 1 with too few rows.
    """
    if len(answers) < FEWEST_ROWS:
        return 1.0
    odds = _log_odds(answers)
    right = np.asarray(correct, dtype=np.float64)
    tried = np.exp(np.linspace(np.log(0.2), np.log(20.0), 400))
    # log(1 + e^-z) for right answers, log(1 + e^z) for wrong ones.
    lost = [float(np.logaddexp(0.0, np.where(right > 0, -1.0, 1.0) * odds / t).sum()) for t in tried]
    return float(tried[int(np.argmin(lost))])


def cooled(answers: Sequence[Answer], by: float) -> list[Answer]:
    """The answers with their confidence at the temperature `by`."""
    sure = 1 / (1 + np.exp(-_log_odds(answers) / by))
    return [replace(answer, confidence=float(one)) for answer, one in zip(answers, sure)]


def _log_odds(answers: Sequence[Answer]) -> Array:
    sure = np.clip([answer.confidence for answer in answers], 1e-6, 1 - 1e-6).astype(np.float64)
    return np.log(sure / (1 - sure))


def _starts(confidence: Array, bins: int) -> NDArray[np.intp]:
    """Where each bin begins in sorted confidences: equal shares, moved so that equal values stay together."""
    wanted = np.arange(bins) * len(confidence) // bins
    return np.unique(np.searchsorted(confidence, confidence[wanted], side="left"))


def _ece(right: NDArray[Any], confidence: Array, starts: NDArray[np.intp], sizes: Array) -> float:
    gaps = np.abs(np.add.reduceat(right.astype(np.float64) - confidence, starts))
    return float(gaps.sum() / sizes.sum())
