"""B32: whatever takes long gives a sign of life at least every two seconds, at a terminal and in a pipe or log.

The slow parts of every verb are made to take ten seconds of a clock that only they move, a quarter of a second at a
time; each time the thread that beats gets its turn. A sign is anything written to the stream; at a terminal a bar that
stands, too, for it turns by itself (rich redraws it ten times a second from a thread of its own).
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mistakes
from bars import Bar, Trial
from places import owner_of

from luthier import cli
from luthier.terminal import progress as progress_module
from luthier.terminal.progress import Progress

SLOW, TICK, LONGEST = 10.0, 0.25, 2.0  # seconds
RUN = "runs/0001-classification-full"
# Verb -> its arguments, and what of it is made slow: module:function.
OPERATIONS: dict[str, tuple[list[str], list[str]]] = {
    "train": (
        ["train", "classify.yaml"],
        [
            "luthier.run.job:find_base",
            "luthier.models:load_tokenizer",
            "luthier.models.source:_remembered_sha256",
            "luthier.run.prepare:load",
            "luthier.run.prepare:check",
            "luthier.data.splitting.split:join_rows",
            "luthier.engine.device:find_machine",
            "luthier.run.job:Job.encode",
            "luthier.tasks.classification:Classification.build",
            "luthier.run.job:answer_examples",
            "luthier.training.loop:_Stepper.step",
            "luthier.training.checkpoint:save",
            "luthier.run.job:Job.save",
            "luthier.run.rivals:classical",
            "luthier.run.prove:evaluate",
            "luthier.run.found:calibrate",
            "luthier.run.prove:_write_predictions",
            "luthier.run.prove:write_report",
        ],
    ),
    "evaluate": (
        ["evaluate", RUN, "--data", "reviews.csv"],
        [
            "luthier.run.use:load_rows",
            "luthier.serve.predict:verified",
            "luthier.serve.predict:answer_examples",
            "luthier.run.use:baselines",
            "luthier.run.use:leaks",
            "luthier.run.use:score",
        ],
    ),
    "predict": (
        ["predict", RUN, "--input", "reviews.csv", "--output", "out.jsonl"],
        ["luthier.data.reading.sources:resolve", "luthier.serve.predict:verified", "luthier.serve.predict:answer_rows"],
    ),
    "check": (
        ["check", "reviews.csv", "--task", "classification"],
        ["luthier.run.data_report:load_rows", "luthier.run.data_report:check_rows"],
    ),
    "preview": (["preview", "classify.yaml"], ["luthier.run.prepare:load", "luthier.models:load_tokenizer"]),
    "compare": (["compare", RUN, RUN], ["luthier.run.use:compare_contenders"]),
    "new": (["new", "classification", "--data", "reviews.csv", "--out", "x.yaml"], ["luthier.data:load"]),
    "doctor": (["doctor"], ["luthier.engine.device:find_machine"]),
    "repair": (
        ["check", "questions.jsonl", "--task", "question-answering", "--fix-offsets"],
        ["luthier.data:fix_offsets"],
    ),
}


@dataclass
class Watcher(io.StringIO):
    """A stream, a clock that slow parts move, and the longest silence of each part."""

    live: bool
    now: float = 0.0
    signed: float = 0.0
    silences: dict[str, float] = field(default_factory=dict)
    shown: list[Progress] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def isatty(self) -> bool:
        return self.live

    def write(self, text: str) -> int:
        self.signed = self.now
        return super().write(text)

    def clock(self) -> float:
        return self.now

    def pass_time(self, name: str) -> None:
        self.signed = self.now  # what came before the part is not its silence
        for _ in range(round(SLOW / TICK)):
            self.now += TICK
            for one in self.shown:
                one._heart._beat()
                view = one._view
                if isinstance(view, progress_module._Live) and view._task is not None and view._bars is not None:
                    self.signed = self.now
            self.silences[name] = max(self.silences.get(name, 0.0), self.now - self.signed)


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    cases = itertools.product(CONCERNS.get(twin, OPERATIONS), (False, True))
    found = (trial for verb, live in cases for trial in _verb(verb, live, twin))
    yield from itertools.islice(found, count)


def _verb(verb: str, live: bool, twin: str) -> Iterator[Trial]:
    """One run of a verb with all of its slow parts; a trial for each."""
    arguments, parts = OPERATIONS[verb]
    watcher, place = Watcher(live), "terminal" if live else "log"
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name) / "work"
        shutil.copytree(mistakes._the_stage(), folder)
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(patch.dict(os.environ, {"LUTHIER_HOME": str(folder / "home"), "LUTHIER_OFFLINE": "1"}))
        stack.enter_context(patch("luthier.engine.device._faster_dtype", lambda name, memory: "float32"))
        for change in _virtual(watcher, twin):
            stack.enter_context(change)
        for part in parts:
            stack.enter_context(_slowed(part, watcher))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(watcher))
        code = cli.main(arguments)
    if code not in (0, 1):
        yield Trial(f"{verb}, {place}", f"it left with {code}: {watcher.getvalue()[-400:]}")
        return
    for part in parts:
        silence = watcher.silences.get(part)
        told = f"{verb}, {place}: {part.partition(':')[2]}"
        if silence is None:
            yield Trial(told, "it was never called")
        else:
            yield Trial(told, f"{silence:.1f} s without a sign" if silence > LONGEST else "")


def _slowed(part: str, watcher: Watcher) -> Any:
    module, _, path = part.partition(":")
    owner, last = owner_of(module, path)
    real: Callable[..., Any] = getattr(owner, last)
    done = itertools.count()

    @functools.wraps(real)
    def slow(*args: Any, **kwargs: Any) -> Any:
        if next(done) < 4:
            watcher.pass_time(part)
        return real(*args, **kwargs)

    return patch.object(owner, last, slow)


def _virtual(watcher: Watcher, twin: str) -> list[Any]:
    """Every Progress on the watcher's clock, its heart beaten by the clock in place of a thread."""
    heart: Any = progress_module._Heart
    enter, leave = Progress.__enter__, Progress.__exit__

    def entered(self: Progress) -> Progress:
        watcher.shown.append(self)
        return enter(self)

    def left(self: Progress, *about: Any) -> None:
        watcher.shown.remove(self)
        leave(self, *about)

    defaults = {"live": None, "clock": watcher.clock, "quick": 1.0}
    changes = [
        patch.object(Progress, "__enter__", entered),
        patch.object(Progress, "__exit__", left),
        patch.object(Progress.__init__, "__kwdefaults__", defaults),
        patch.object(heart, "start", lambda self: None),
        patch.object(heart, "stop", lambda self: None),
    ]
    if twin == "no-heart":
        changes.append(patch.object(progress_module._Quiet, "beat", lambda self: None))
    elif twin == "slow-heart":
        changes.append(patch.object(progress_module, "BEAT", 5.0))
    elif twin == "no-bar-between":
        changes.append(patch.object(progress_module._Live, "beat", lambda self: None))
    elif twin == "outside":
        changes.append(patch("luthier.terminal.progress.Progress.__enter__", lambda self: self))
        changes.append(patch("luthier.terminal.progress.Progress.__exit__", lambda self, *a: self._view.close()))
        changes.append(patch.object(Progress, "__call__", lambda self, event: None))
    return changes


TWINS = {
    "no-heart": "a log gets lines alone",
    "slow-heart": "a log gets a dot after five seconds",
    "no-bar-between": "a terminal has no bar before the first phase",
    "outside": "the work is done outside of what shows progress",
}
CONCERNS = {
    "no-heart": ["check"],
    "slow-heart": ["check"],
    "no-bar-between": ["predict"],
    "outside": ["compare"],
}
COUNT = 2 * sum(len(parts) for _, parts in OPERATIONS.values())
BAR = Bar(
    "progress",
    "What takes over two seconds gives a sign of life at least every two seconds, at a terminal and in a log.",
    COUNT,
    trials,
    TWINS,
)
