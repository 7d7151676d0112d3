"""B3, B27, F28: of two processes that carry out a run together one is killed, fails or is asked to stop.

It happens from inside, as a phase begins, to either of them. Both must be gone soon, with the reason told once and the
rank named; and the run, resumed in two processes, ends as one that nothing happened to. In one process it is refused.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import kill
from bars import Bar, Trial
from nursery import Child, as_ranks, the_nursery
from places import at_call

from luthier.runs import RunFolder

# Phase -> module, attribute, at which call it happens.
PHASES = {
    "read": ("luthier.run.job", "prepare", 1),
    "tokenize": ("luthier.run.job", "Job.encode", 1),
    "step": ("luthier.training.loop", "_Stepper._backward", 23),
    "evaluate": ("luthier.run.job", "answer_examples", 3),
    "report": ("luthier.run.prove", "write_report", 1),  # the main one's alone
}
CODES = {"killed": 4, "fails": 70, "stopped": 143, "refuses": 2}  # what whoever is left leaves with
LONGEST = 30.0  # seconds until both are gone


def _grid() -> list[tuple[str, str, int]]:
    grid = list(itertools.product(CODES, PHASES, (0, 1)))
    grid = [cell for cell in grid if cell[1] != "report" or (cell[2] == 0 and cell[0] != "stopped")]
    return [cell for cell in grid if cell[0] != "refuses" or cell[1] == "read"]


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    grid = _grid()
    random.Random(seed).shuffle(grid)
    if twin:
        grid.sort(key=lambda cell: cell != TELLING[twin])
    for number, (what, phase, rank) in enumerate(itertools.islice(itertools.cycle(grid), count)):
        yield Trial(f"rank {rank} {what} in {phase}", tried(what, phase, rank, kill.KINDS[number % 2], twin))


def tried(what: str, phase: str, rank: int, kind: tuple[str, str] = kill.KINDS[0], twin: str = "") -> str:
    """What was not as promised, "" if nothing."""
    stage = kill.the_stage()
    run = stage.next_run()
    begin = ["train", str(stage.recipe(kind)), "--out", str(run)]
    moment = run.with_suffix(".moment")
    strikes = [f"{twin}+{what}:{phase}:{moment}" if r == rank else f"{twin}+" for r in (0, 1)]
    codes, logs = _both(run, begin, strikes, LONGEST if not twin else 8)
    if not moment.exists():
        return f"the phase was never entered; they left with {codes}: {logs}"
    if (seconds := time.time() - float(moment.read_text())) > LONGEST:
        return f"they went on for {seconds:.0f} s"
    expected = [-signal.SIGKILL if what == "killed" and r == rank else CODES[what] for r in (0, 1)]
    if codes != expected:
        return f"they left with {codes}, not {expected}: {logs}"
    teller = 1 if what == "killed" and rank == 0 else 0
    named = {"killed": f"rank {rank} of 2: process", "stopped": "go on with: luthier resume", "refuses": "no such row"}
    word = named.get(what, "rank 1: ValueError: a bug" if rank else "ValueError: a bug")
    last = logs[teller][-600:]
    if word not in last or "Traceback" in logs[teller] or logs[1 - teller].count("rror"):
        return f"told: {last} | {logs[1 - teller][-300:]}"
    if what == "refuses":
        return ""
    if any((run / "checkpoints").glob("step-*")):
        code, logs = _both(run.with_suffix(".alone"), ["resume", str(run)], [""], LONGEST)
        if code != [2] or "processes: 2 then, 1 now" not in logs[0]:
            return f"resumed in one process it left with {code}: {logs[0][-300:]}"
    lasting = twin if twin == "one-random-state" else ""  # that would be no fault in a run that is never cut
    codes, logs = _both(run.with_suffix(".again"), ["resume", str(run)], [f"{lasting}+"] * 2, 120)
    if codes != [0, 0] or not RunFolder(run).finished():
        return f"resumed they left with {codes}: {logs}"
    whole = _reference(kind, lasting)
    if kill._left(run) != kill._left(whole):
        return "not as in the run that nothing happened to"
    return "" if kill._losses(run)[0] == kill._losses(whole)[0] else "other losses"


@cache
def _reference(kind: tuple[str, str], twin: str) -> Path:
    """The run of two processes that nothing happened to."""
    stage = kill.the_stage()
    run = stage.next_run()
    codes, logs = _both(run, ["train", str(stage.recipe(kind)), "--out", str(run)], [f"{twin}+"] * 2, 120)
    if any(codes):
        raise RuntimeError(f"the uninterrupted run left with {codes}: {logs}")
    return run


def _both(name: Path, arguments: list[str], twins: list[str], seconds: float) -> tuple[list[int], list[str]]:
    """(exit codes, what was said) of as many processes as there are `twins`; -1 for one that had to be ended."""
    logs = [name.with_suffix(f"{name.suffix}.log-{rank}") for rank in range(len(twins))]
    environments: list[dict[str, str]] = as_ranks(2) if len(twins) > 1 else [{}]
    children: list[Child] = [
        the_nursery().start(arguments, home=name.parent / "home", log=log, module=__name__, twin=twin, env=own)
        for log, twin, own in zip(logs, twins, environments)
    ]
    codes = []
    for child in children:
        try:
            codes.append(child.wait(seconds))
        except TimeoutError:
            codes.append(-1)
    return codes, [log.read_text() for log in logs]


TWINS = {
    "leaves-without-a-word": "a rank that fails does not say why",
    "stops-alone": "each rank looks at its own signals only",
    "dead-not-looked-for": "whether the other process lives is not looked at",
    "one-random-state": "dropout is drawn from the random state, of which a checkpoint holds the main rank's alone",
}
TELLING = {
    "leaves-without-a-word": ("fails", "step", 1),
    "stops-alone": ("stopped", "step", 1),
    "dead-not-looked-for": ("killed", "step", 1),
    "one-random-state": ("stopped", "step", 0),
}


def put_in(twin: str) -> None:
    """In this process: the bug, and what happens to it."""
    from luthier.engine import ranks
    from luthier.run.job import Job
    from luthier.training import loop

    bug, _, strike = twin.partition("+")
    if strike:
        what, phase, moment = strike.split(":", 2)
        _strike(what, phase, Path(moment))
    if bug == "leaves-without-a-word":
        ranks._Session.leave = lambda self, error: None  # type: ignore[method-assign]
    elif bug == "stops-alone":
        Job.asked_to_stop = lambda self: self.watch.asked is not None  # type: ignore[method-assign]
    elif bug == "dead-not-looked-for":
        ranks._Session.gone = lambda self, rank: False  # type: ignore[method-assign]
    elif bug == "one-random-state":
        loop._Stepper._draw_apart = lambda self, step: None  # type: ignore[method-assign]


def _strike(what: str, phase: str, moment: Path) -> None:
    def act() -> None:
        moment.write_text(str(time.time()))
        if what == "fails":
            raise ValueError("a bug")
        if what == "refuses":
            from luthier.errors import DataError

            raise DataError("no such row", where="here", fix="another")
        os.kill(os.getpid(), signal.SIGKILL if what == "killed" else signal.SIGTERM)

    at_call(*PHASES[phase], act)


BAR = Bar(
    "ranks",
    "Of two processes one is killed, fails, refuses or is stopped: both are gone within 30 s, the rank is named, and "
    "resumed by two the run ends as one that nothing happened to.",
    len(_grid()),
    trials,
    TWINS,
)
