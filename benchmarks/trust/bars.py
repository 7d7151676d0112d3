"""What a bar is: a promise, trials that could show it broken, and bugs that must make it fail."""

from __future__ import annotations

import atexit
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Trial:
    """One attempt. `name` says what was tried, `fault` what was not as promised ("": nothing)."""

    name: str
    fault: str = ""


@dataclass(frozen=True)
class Bar:
    """`trials(count, seed, twin)` yields `count` trials; what they try follows from `seed` alone.

    `twins` names bugs, each with what it does. A bar that passes with one of them put in proves nothing.
    """

    name: str
    promise: str
    full: int
    trials: Callable[[int, int, str], Iterator[Trial]]
    twins: Mapping[str, str]
    must: float = 1.0  # share of the trials that must be as promised


@dataclass(frozen=True)
class Outcome:
    bar: Bar
    trials: list[Trial]
    seed: int
    seconds: float
    twin: str = ""

    @property
    def faults(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.fault]

    @property
    def passed(self) -> bool:
        """The promise was kept; with a twin: it was seen to be broken."""
        if self.twin:
            return bool(self.faults)
        return bool(self.trials) and len(self.trials) - len(self.faults) >= self.bar.must * len(self.trials)

    def __str__(self) -> str:
        word = "PASS" if self.passed else "FAIL"
        good, count = len(self.trials) - len(self.faults), len(self.trials)
        about = f"seed {self.seed}, {self.seconds:.0f} s"
        if not self.twin:
            return f"{word} {self.bar.name}: {good} of {count} ({about})"
        seen = f"noticed at trial {count}" if self.faults else f"not noticed in {count} trials"
        return f"{word} {self.bar.name}, twin {self.twin}: {seen} ({about})"


def hold(bar: Bar, count: int, seed: int, twin: str = "", say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Run a bar. With a twin it ends at the first trial that notices."""
    start, done = time.monotonic(), []
    for trial in bar.trials(count, seed, twin):
        done.append(trial)
        if trial.fault and not twin:
            say(f"  broken: {trial.name}: {trial.fault}")
        if trial.fault and twin:
            break
    return Outcome(bar, done, seed, time.monotonic() - start, twin)


@cache
def scratch(name: str) -> Path:
    """A bar's own folder, gone with the process."""
    folder = tempfile.TemporaryDirectory(prefix=f"{name}-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
