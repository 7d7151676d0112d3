"""How fast training goes and how long it will take, measured from this process's own steps alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from luthier.training.events import Step

FEWEST_STEPS = 3  # before that a time left would be a guess
SURE_SHARE, SURE_SECONDS = 0.02, 5.0  # of other work: one of the two must have passed
LONGEST = 24 * 3600  # seconds: what is further off is not foreseen
_KEPT = 0.9  # share of the smoothed loss that each step keeps

Clock = Callable[[], float]


class Pace:
    """Fed with every Step of this process; the time between steps counts, so scoring and saving do too."""

    def __init__(self, step: int, steps: int, clock: Clock = time.monotonic) -> None:
        self.step, self.steps = step, steps
        self.own = 0  # steps seen here, whatever an earlier process did
        self._clock = clock
        self._first = self._last = clock()
        self._examples = 0
        self._seconds = 0.0
        self._loss = 0.0
        self._weight = 0.0

    def add(self, step: Step) -> None:
        self.step = step.step
        self.own += 1
        self._last = self._clock()
        if self.own == 1:
            self._first = self._last  # the first step warms up: it is left out of the time left
        self._examples += step.examples
        self._seconds += step.seconds
        self._loss = _KEPT * self._loss + (1 - _KEPT) * step.loss
        self._weight = _KEPT * self._weight + (1 - _KEPT)

    @property
    def loss(self) -> float | None:
        """The loss smoothed over about ten steps, None before the first."""
        return self._loss / self._weight if self._weight else None

    @property
    def rows_per_second(self) -> float | None:
        """Examples a second of stepping (scoring and saving left out)."""
        return self._examples / self._seconds if self._seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last step; None before three steps of our own. Never negative."""
        if self.own < FEWEST_STEPS:
            return None
        a_step = (self._last - self._first) / (self.own - 1)
        return max(0.0, (self.steps - self.step) * a_step - (self._clock() - self._last))


class PhasePace:
    """The same for work that is counted in units of another kind."""

    def __init__(self, done: int, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._first_done, self._first = done, clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._first

    def seconds_left(self, done: int, total: int) -> float | None:
        """None where the total is unknown or too little was done to tell."""
        moved = done - self._first_done
        sure = moved >= SURE_SHARE * total or self.seconds >= SURE_SECONDS
        if not total or moved <= 0 or self.seconds < 1 or not sure:
            return None
        return max(0.0, (total - done) * self.seconds / moved)


def left_text(seconds: float | None) -> str:
    """ "1 min 20 s left", rounded as honesty allows; "" where it is not known."""
    if seconds is None or seconds > LONGEST:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s left"
    if whole < 600:
        return f"{whole // 60} min {whole % 60 // 10 * 10} s left"
    if whole < 3600:
        return f"{whole // 60} min left"
    return f"{whole // 3600} h {whole % 3600 // 60} min left"
