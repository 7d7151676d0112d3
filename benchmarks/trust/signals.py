"""B3: a run that is asked to stop, in any phase, by either signal and in any way, stops soon and goes on exactly.

The signal is sent from inside, at the moment the phase begins: to the process, to its whole group as a terminal does
(with whatever it has started), or twice within a tenth of a second as schedulers do.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kill
from bars import Bar, Trial
from nursery import the_nursery
from places import at_call

from luthier.files import read_log
from luthier.runs import RunFolder
from luthier.training.checkpoint import complete

STEP = 23
# Phase -> module, attribute, at which call the signal comes.
PHASES = {
    "load": ("luthier.models.load", "load_pretrained", 1),
    "tokenize": ("luthier.run.job", "Job.encode", 1),
    "untuned": ("luthier.run.job", "answer_examples", 2),
    "warm-up": ("luthier.training.loop", "_Stepper._backward", 1),
    "step": ("luthier.training.loop", "_Stepper._backward", STEP),
    "evaluate": ("luthier.run.job", "answer_examples", 3),
    "save": ("luthier.training.checkpoint", "publish", 3),
    "export": ("luthier.run.job", "Job.save", 1),
    "report": ("luthier.run.prove", "write_report", 1),
}
LAST = "report"  # the last thing that is done: a run may as well finish
WAYS = ("once", "twice", "group")
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
LONGEST = 10.0  # seconds from the signal to the end


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    grid = list(itertools.product(PHASES, SIGNALS, WAYS))
    random.Random(seed).shuffle(grid)
    if twin:  # what it breaks comes first
        phase, way = TELLING[twin]
        grid.sort(key=lambda cell: (cell[0] != phase, cell[2] != way))
    stage = kill.the_stage()
    for number, (phase, name, way) in enumerate(itertools.islice(itertools.cycle(grid), count)):
        kind = kill.KINDS[number % len(kill.KINDS)]
        yield _trial(stage, kind, phase, name, way, twin)


def _trial(stage: kill.Stage, kind: tuple[str, str], phase: str, name: str, way: str, twin: str) -> Trial:
    whole = stage.reference(kind)
    run = stage.next_run()
    home, log, rows, moment = (run.with_suffix(f".{end}") for end in ("home", "log", "rows", "moment"))
    told = f"{'-'.join(kind)} {name} {way} in {phase}"
    twins = f"{twin}+strike:{phase}:{name}:{way}:{moment}"
    begin = ["train", str(stage.recipe(kind)), "--out", str(run)]
    child = the_nursery().start(begin, home=home, log=log, module=__name__, twin=twins, rows=rows)
    try:
        code = child.wait()
    except TimeoutError as error:
        return Trial(told, str(error))
    if not moment.exists():
        return Trial(told, f"the phase was never entered; it left with {code}: {log.read_text()[-300:]}")
    step, begun = (float(value) for value in moment.read_text().split())
    if time.time() - begun > LONGEST + 1:
        return Trial(told, f"it went on for {time.time() - begun:.1f} s")
    expected = 128 + SIGNALS[name]
    text = log.read_text()
    if phase == LAST and code == 0:  # nothing was left to stop
        finished = RunFolder(run).status()["state"] == "finished"
        return Trial(told, kill.differs(run, rows, whole) if finished else "it left with 0 and is not finished")
    if code != expected:
        return Trial(told, f"it left with {code}, not {expected}: {text[-400:]}")
    last = text.strip().splitlines()[-1]
    if "luthier resume" not in last or "Traceback" in text or "rror" in text:
        return Trial(told, f"its last words: {text[-400:]}")
    if RunFolder(run).status()["state"] != "stopped":
        return Trial(told, f"status.json says {RunFolder(run).status()['state']}")
    found = complete(run / "checkpoints")
    kept = int(found[-1].name.split("-")[1]) if found else 0
    if step - kept > 1:
        return Trial(told, f"asked to stop in step {step:.0f}, the newest checkpoint is of step {kept}")
    child = the_nursery().start(["resume"], home=home, log=log, rows=rows)
    try:
        code = child.wait()
    except TimeoutError as error:
        return Trial(told, str(error))
    if code:
        return Trial(told, f"resume left with {code}: {log.read_text()[-400:]}")
    resumed = [e for e in read_log(run / "events.jsonl") if e["event"] == "resumed"]
    if kept and (not resumed or resumed[-1]["from_step"] != kept):
        return Trial(told, f"resumed events: {resumed}, a checkpoint of step {kept} was there")
    return Trial(told, kill.differs(run, rows, whole))


TWINS = {
    "looks-only-in-the-loop": "a signal is looked at between training steps alone",
    "no-save": "a run that is asked to stop leaves without a checkpoint",
    "second-at-once": "a second signal ends the run at once, however soon it comes",
}
TELLING = {
    "looks-only-in-the-loop": ("export", "once"),
    "no-save": ("step", "once"),
    "second-at-once": ("step", "twice"),
}


def put_in(twin: str) -> None:
    """In this process: the bug, and the signal at the beginning of the phase."""
    bug, _, strike = twin.partition("+")
    _, phase, name, way, moment = strike.split(":", 4)
    _strike(phase, SIGNALS[name], way, Path(moment))
    if bug == "looks-only-in-the-loop":
        from luthier.run.job import Job

        emit = Job.emit

        def unheeding(self: Job, event: Any) -> None:
            asked, self.watch.asked = self.watch.asked, None
            try:
                emit(self, event)
            finally:
                self.watch.asked = asked

        Job.emit = unheeding  # type: ignore[method-assign]
    elif bug == "no-save":
        from luthier.training import loop

        fit = loop.fit

        def careless(training: Any) -> Iterator[Any]:
            from luthier.errors import Interrupted

            asked, training.stop = training.stop, lambda: False
            for event in fit(training):
                yield event
                if asked():
                    raise Interrupted("stopped", signal=15)

        loop.fit = careless
    elif bug == "second-at-once":
        from luthier.run import signals

        signals.SAME = 0.0


def _strike(phase: str, number: int, way: str, moment: Path) -> None:
    """Send the signal at the phase's beginning, with the number of the step that is being computed and the time."""
    from luthier.training import loop

    at = [0.0]
    step = loop._Stepper.step

    def noted(self: Any, position: Any) -> Any:
        at[0] = position.step + 1
        return step(self, position)

    loop._Stepper.step = noted  # type: ignore[method-assign]
    module, path, when = PHASES[phase]

    def send() -> None:
        moment.write_text(f"{at[0]} {time.time()}")
        for _ in range(2 if way == "twice" else 1):
            os.killpg(os.getpgid(0), number) if way == "group" else os.kill(os.getpid(), number)
            time.sleep(0.05)

    struck = at_call(module, path, when, send)
    if phase == "load":  # it is looked up where it is used
        import luthier.models

        luthier.models.load_pretrained = struck


BAR = Bar(
    "signals",
    "SIGTERM or SIGINT, once, twice or to the group, in any phase: at most one step is lost, and it says how to go on.",
    len(PHASES) * len(SIGNALS) * len(WAYS),
    trials,
    TWINS,
)
