"""B31: the time left that is shown after 5 % of the steps, and after 5 % of a resumed run's, is right within a fifth.

Runs are simulated on a clock of their own, through the events that a terminal gets: steps of like length together, as
the loop takes them, whose time grows with their tokens; noise and now and then a step that takes twice as long; a slow
first step; scorings and savings between; resumptions by a process that knows nothing of the one before.
"""

from __future__ import annotations

import io
import math
import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from bars import Bar, Trial

from luthier.engine.batches import epoch_plan
from luthier.terminal import pace as pace_module
from luthier.terminal import progress as progress_module
from luthier.terminal.pace import Pace, left_text
from luthier.terminal.progress import Progress
from luthier.training.events import Event, Phase, Resumed, Saved, Scored, Started, Step

SHARE, WITHIN, FEWEST = 0.05, 0.2, 3
_LEFT = re.compile(r"(?:(\d+) h )?(?:(\d+) min )?(?:(\d+) s )?left")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Simulated:
    """What a run is like: `lengths` of its examples, seconds of parts of a step, of a scoring and of a saving."""

    lengths: np.ndarray
    batch_size: int
    epochs: int
    a_step: float
    a_token: float
    noise: float
    warm: float
    scoring: float
    saving: float
    eval_steps: int
    resumed: int
    seed: int

    @property
    def a_epoch(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    @property
    def steps(self) -> int:
        return self.a_epoch * self.epochs


def drawn(draw: random.Random) -> Simulated:
    rows, batch = draw.randint(400, 4000), draw.choice([8, 16, 32])
    spread = draw.choice([0.0, 0.5, 0.9])
    lengths = np.array([max(3, round(draw.lognormvariate(4.0, spread))) for _ in range(rows)])
    epochs = draw.randint(2, 6)
    a_epoch = math.ceil(rows / batch)
    mean = float(lengths.mean()) * batch
    seconds, by_tokens = draw.choice([0.05, 0.5, 3.0]), draw.choice([0.2, 0.7, 1.0])
    scored = draw.choice(["none", "epoch", "often"])
    every = {"none": 0, "epoch": a_epoch, "often": max(5, a_epoch // draw.randint(2, 5))}[scored]
    return Simulated(
        lengths,
        batch,
        epochs,
        seconds * (1 - by_tokens),
        seconds * by_tokens / mean,
        draw.choice([0.02, 0.1, 0.2]),
        draw.choice([1, 5, 20]),
        seconds * every * draw.choice([0.05, 0.2, 0.4]) if every else 0.0,
        seconds * draw.choice([0.5, 3.0]),
        every,
        draw.choice([0, 0, draw.randint(1, a_epoch * epochs // 2)]),
        draw.randrange(1000),
    )


def events(run: Simulated, clock: Clock, draw: random.Random) -> Iterator[Event]:
    """The events of the run's last process, the clock moved on by what each takes."""
    if run.eval_steps:
        for done in (0, 1):
            yield Phase(progress_module.VALIDATION, done, 1)
            clock.now += run.scoring * draw.uniform(0.9, 1.1) * (1 - done)
        yield Phase("untuned model, test rows")
    left = run.steps - run.resumed
    if run.resumed:
        yield Resumed(run.resumed, run.resumed)
    tokens = round(float(run.lengths.sum()) * left / run.a_epoch)
    yield Started(run.resumed, run.steps, len(run.lengths), 1, 1, tokens, run.eval_steps)
    plan, epoch = [], -1
    for number in range(run.resumed, run.steps):
        if number // run.a_epoch != epoch:
            epoch = number // run.a_epoch
            plan = epoch_plan(run.lengths, run.batch_size, run.seed, epoch)
        indices = plan[number % run.a_epoch]
        own = int(run.lengths[indices].sum())
        seconds = (run.a_step + run.a_token * own) * draw.lognormvariate(0, run.noise)
        seconds *= run.warm if number == run.resumed else 2.0 if draw.random() < 0.03 else 1.0
        clock.now += seconds * 1.01
        yield Step(number + 1, (number + 1) / run.a_epoch, 0.5, 1e-4, 1.0, len(indices), own, seconds)
        end = number + 1 == run.steps
        if run.eval_steps and (end or (number + 1) % run.eval_steps == 0):
            clock.now += run.scoring * draw.uniform(0.9, 1.1)
            yield Scored(number + 1, 1.0, 0.5, 0.5, 0.5, False)
        if end or (number + 1) % run.a_epoch == 0:
            clock.now += run.saving
            yield Saved(number + 1, "step")


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    draw = random.Random(seed)
    with ExitStack() as stack:
        for change in _put_in(twin):
            stack.enter_context(change)
        for _ in range(count):
            run = drawn(draw)
            told = f"{run.steps} steps, {run.resumed} of another process, a scoring each {run.eval_steps}"
            yield Trial(told, _fault(run, draw))


def _fault(run: Simulated, draw: random.Random) -> str:
    clock = Clock()
    shown: list[tuple[int, float, str, float]] = []  # own steps, time, words, what the pace says
    own = 0
    stream = io.StringIO()
    listen = Progress(stream, live=False, clock=clock, quick=0.0)
    update = listen._view.update

    def look(what: str, done: int, total: int, words: str) -> None:
        if what == "training":
            assert listen._pace is not None
            left = listen._pace.seconds_left
            shown.append((own, clock.now, words, math.nan if left is None else left))
        update(what, done, total, words)

    listen._view.update = look  # type: ignore[method-assign]
    for event in events(run, clock, draw):
        own += isinstance(event, Step)
        listen(event)
    listen._view.close()
    end = clock.now
    for number, _, words, left in shown:
        if number < FEWEST and "left" in words:
            return f"after {number} steps it says {words}"
        if left < 0 or "-" in words.rpartition("step")[2]:
            return f"it says {words}"
    at = max(FEWEST, math.ceil(SHARE * (run.steps - run.resumed)))
    _, when, words, left = shown[at - 1]
    actual = end - when
    if abs(left - actual) > WITHIN * actual:
        return f"after {at} steps {left:.0f} s are left, it took {actual:.0f} s"
    if actual < pace_module.LONGEST and left_text(left) not in words:
        return f"the line says {words}, the pace {left:.0f} s"
    return ""


TWINS = {
    "first-step-counts": "the first step, which warms up, counts as any other",
    "scoring-forgotten": "scorings take no time",
    "another-process": "steps of the process before count as this one's",
    "at-once": "a time left is told after the first step",
    "tokens-forgotten": "steps to come are taken to be as long as those seen, scorings and all",
    "negative": "the time left goes below zero",
}


def _put_in(twin: str) -> list[Any]:
    left: Any = Pace.seconds_left
    if twin == "first-step-counts":
        add = Pace.add

        def all_count(self: Pace, step: Step) -> None:
            add(self, step)
            if self.own == 1:
                self._count_in(step.tokens, step.seconds)

        return [patch.object(Pace, "add", all_count)]
    if twin == "scoring-forgotten":
        return [patch.object(Pace, "_scorings_left", lambda self: 0)]
    if twin == "another-process":

        def whole(self: Pace) -> float | None:
            value = left.fget(self)
            return None if value is None else value * self.own / self.step

        return [patch.object(Pace, "seconds_left", property(whole))]
    if twin == "at-once":
        return [patch.object(pace_module, "FEWEST_STEPS", 2)]
    if twin == "tokens-forgotten":

        def plain(self: Pace) -> float | None:
            return None if self.own < FEWEST else (self.steps - self.step) * self._seen[2] / self._seen[0]

        return [patch.object(Pace, "seconds_left", property(plain))]
    if twin == "negative":

        def lower(self: Pace) -> float | None:
            value = left.fget(self)
            return None if value is None else value - 0.2 * self._seconds

        return [patch.object(Pace, "seconds_left", property(lower))]
    return []


BAR = Bar(
    "eta",
    "After 5 % of the steps, and after a resume, the time left is within a fifth of the actual on 18 of 20 runs; never "
    "negative, and none before three steps.",
    200,
    trials,
    TWINS,
    must=0.9,
)
