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
    """Fed with every Step and every scoring of this process.

    What is left is the sum of three parts: steps, whose time grows with their tokens as that of the steps seen does;
    what comes between any two steps; and the scorings that are due, each as long as those seen. `tokens` are those of
    all steps to come, `eval_steps` how many steps lie between scorings (0: none), `scoring` the seconds that one takes,
    as far as that is known before the first.
    """

    def __init__(
        self,
        step: int,
        steps: int,
        clock: Clock = time.monotonic,
        *,
        tokens: int = 0,
        eval_steps: int = 0,
        scoring: float = 0.0,
    ) -> None:
        self.step, self.steps = step, steps
        self.own = 0  # steps seen here, whatever an earlier process did
        self._clock = clock
        self._last = clock()
        self._tokens_left, self._eval_steps, self._scoring = tokens, eval_steps, scoring
        self._examples = 0
        self._seconds = 0.0
        self._loss = 0.0
        self._weight = 0.0
        # Sums over each step but the first, which warms up: of 1, tokens, seconds, tokens squared, their product.
        self._seen = [0.0] * 5
        self._between = 0.0  # seconds between those steps, scorings left out
        self._pauses: list[float] = []  # seconds of each scoring, with the saving that follows it
        self._scored = False

    def add(self, step: Step) -> None:
        now = self._clock()
        gap, self._last = now - self._last, now
        self.step = step.step
        self.own += 1
        self._tokens_left -= step.tokens
        rest = max(0.0, gap - step.seconds)
        if self._scored:
            self._pauses.append(rest)
        elif self.own > 1:
            self._between += rest
        if self.own > 1:
            self._count_in(step.tokens, min(step.seconds, gap))
        self._scored = False
        self._examples += step.examples
        self._seconds += step.seconds
        self._loss = _KEPT * self._loss + (1 - _KEPT) * step.loss
        self._weight = _KEPT * self._weight + (1 - _KEPT)

    def _count_in(self, tokens: int, seconds: float) -> None:
        numbers = (1.0, tokens, seconds, tokens**2, tokens * seconds)
        self._seen = [total + number for total, number in zip(self._seen, numbers)]

    def scored(self) -> None:
        """A scoring has ended; what follows it until the next step belongs to it."""
        self._scored = True

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
        """Until training ends, if nothing stops it early; None before three steps of our own. Never negative."""
        if self.own < FEWEST_STEPS:
            return None
        left = max(0, self.steps - self.step)
        whole = left * (self._a_step(left) + self._between / self._seen[0]) + self._scorings_left() * self._a_scoring()
        return max(0.0, whole - (self._clock() - self._last))

    def _a_step(self, left: int) -> float:
        """Mean seconds of a step to come: that of those seen, carried to the tokens to come by linear regression.

        Its slope lies between 0 (all steps take alike) and the mean's own (time is tokens), whatever few steps say.
        """
        tokens, seconds, squares, products = (total / self._seen[0] for total in self._seen[1:])
        if self._tokens_left <= 0 or not left or not tokens:
            return seconds
        spread, together = squares - tokens**2, products - tokens * seconds
        slope = min(max(together / spread if spread > 1e-9 * squares else 0.0, 0.0), seconds / tokens)
        return max(0.0, seconds + slope * (self._tokens_left / left - tokens))

    def _scorings_left(self) -> int:
        every = self._eval_steps
        if not every or self.step >= self.steps:
            return 0
        return -(-self.steps // every) - self.step // every

    def _a_scoring(self) -> float:
        return sum(self._pauses) / len(self._pauses) if self._pauses else self._scoring


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
