"""B17, F40-F43: strangers' models, data, recipes and chat templates run no code, fill no memory and end no program.

Each carries a canary: a file that code of theirs would make, and a secret that stands in a file and in the
environment. What is refused is refused in a sentence that names the file; what lies harmlessly beside good files is
left alone.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import careless
import hostile_data
import hostile_models
import hostile_recipes
import hostile_templates
from bars import Bar, Trial
from hostile_ground import Case, Ground, sound_model

SECONDS = 12.0  # of computing, for one case; one that trains takes about two
WALL, WALL_OF_TWINS = 60.0, 4.0  # seconds after which a case is given up
GROWTH = 400_000_000  # bytes by which one case may raise the most memory that this process has held
ROOM = 4_000_000_000  # bytes of address space beyond what is held: a bomb must not take the machine with it
CASES: tuple[Case, ...] = (
    *hostile_models.CASES,
    *hostile_data.CASES,
    *hostile_recipes.CASES,
    *hostile_templates.CASES,
)


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """All of them, or so many drawn by the seed, as many of each kind. A twin meets those that should notice."""
    draw = random.Random(seed)
    chosen = [case for case in CASES if count >= len(CASES) or not case.slow]
    draw.shuffle(chosen)
    if count < len(chosen):
        kinds = list(dict.fromkeys(case.kind for case in CASES))
        by_kind = {kind: [case for case in chosen if case.kind == kind] for kind in kinds}
        chosen = [by_kind[kinds[i % len(kinds)]].pop() for i in range(count) if by_kind[kinds[i % len(kinds)]]]
    if twin:
        chosen = [case for case in CASES if twin in case.noticed_by] or chosen
    _load_all()
    with careless.put_in(twin):
        for case in chosen:
            yield attempt(case, WALL_OF_TWINS if twin else WALL)


def _load_all() -> None:
    """What the first case would load, so that none is charged for it."""
    for name in ("peft", "accelerate", "sklearn.linear_model", "luthier.run.job", "luthier.training.loop"):
        importlib.import_module(name)
    sound_model("bert")


def attempt(case: Case, wall: float = WALL) -> Trial:
    """Make the files, run the verb, look at what came of it."""
    with tempfile.TemporaryDirectory(prefix="hostile-", dir=_place()) as name:
        ground = Ground(Path(name))
        with _surroundings(ground):
            arguments = case.make(ground)
            before, out = _Before(), io.StringIO()
            try:
                code = _call(arguments, out, wall)
            except _TooLong:
                code = -1
            if time.monotonic() - before.start >= wall:  # whatever the command line made of the bell
                return Trial(case.name, f"still busy after {wall:.0f} s")
            return Trial(case.name, _fault(case, ground, code, out.getvalue(), before))


def _fault(case: Case, ground: Ground, code: int, said: str, before: _Before) -> str:
    seconds, grown = before.seconds(), before.grown()
    if ground.canary.exists():
        return "its code ran"
    if leak := ground.leaked(said):
        return f"the secret stands in {leak}"
    if "Traceback" in said:
        return f"a traceback: {said[-400:]}"
    if code not in case.codes:
        return f"it left with {code}, not {case.codes}: {said[-400:]}"
    if code == 2 and not (case.names in said and "error: " in said):
        return f"the message does not name {case.names!r}: {said[-400:]}"
    if "\x1b" in said:
        return "an escape sequence reached the terminal"
    if seconds > SECONDS:
        return f"{seconds:.1f} s of computing, expected at most {SECONDS:.0f}"
    if grown > GROWTH:
        return f"memory grew by {grown / 1e6:.0f} MB"
    return ""


class _TooLong(BaseException):
    pass


class _Before:
    """What this process and those it started had used."""

    def __init__(self) -> None:
        self.held, self.used, self.start = self._held(), self._used(), time.monotonic()

    def seconds(self) -> float:
        return self._used() - self.used

    def grown(self) -> int:
        return max(0, self._held() - self.held)

    @staticmethod
    def _held() -> int:
        """The most this process ever held, or a child did, in bytes."""
        most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return most * (1 if sys.platform == "darwin" else 1024)

    @staticmethod
    def _used() -> float:
        return sum(time for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN) for time in _times(who))


def _times(who: int) -> tuple[float, float]:
    usage = resource.getrusage(who)
    return usage.ru_utime, usage.ru_stime


def _call(arguments: list[str], out: io.StringIO, wall: float) -> int:
    """The command line in this process; what it prints goes to `out`."""
    from luthier.cli import main

    with _deadline(wall), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        return main(arguments)


@contextlib.contextmanager
def _deadline(wall: float) -> Iterator[None]:
    """_TooLong after `wall` seconds. A timer of someone else's (pytest's) is wound up again."""

    def ring(*_: Any) -> None:
        raise _TooLong

    start, old = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    left, again = signal.setitimer(signal.ITIMER_REAL, wall)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, max(0.1, left - (time.monotonic() - start)) if left else 0, again)
        signal.signal(signal.SIGALRM, old)


@contextlib.contextmanager
def _surroundings(ground: Ground) -> Iterator[None]:
    """A home, a working folder and a secret of the case's own; a limit on memory."""
    given = {"LUTHIER_HOME": str(ground.home), "LUTHIER_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    given |= {"CANARY_SECRET": ground.secret, "HF_TOKEN": ground.secret}
    before, place, modules = dict(os.environ), Path.cwd(), set(sys.modules)
    os.environ.update(given)
    os.chdir(ground.work)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(OSError, ValueError):
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        os.chdir(place)
        os.environ.clear()
        os.environ.update(before)
        for name in set(sys.modules) - modules:
            if "own" in name:  # repository code that a twin let in
                del sys.modules[name]


@cache
def _place() -> str:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name


BAR = Bar(
    "hostile",
    "Models, data, recipes and chat templates of strangers: no canary fires, each refusal names its file.",
    len(CASES),
    trials,
    careless.TWINS,
)


def fires(case: Case) -> bool:
    """Whether the canary of this case fires in careless hands: one that cannot proves nothing."""
    assert case.fire is not None
    with tempfile.TemporaryDirectory(prefix="live-", dir=_place()) as folder:
        ground = Ground(Path(folder))
        with _surroundings(ground):
            case.make(ground)
            with contextlib.suppress(Exception):
                case.fire(ground)
            return ground.canary.exists()
