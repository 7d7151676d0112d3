"""Progress of a run on stderr: live bars at a terminal, a few quiet lines everywhere else."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from luthier.evidence.report.content import count_text, memory_text, time_text
from luthier.evidence.scores.measures import as_text, measure
from luthier.training.events import Alarm, Event, Memory, Phase, Resumed, Saved, Scored, Started, Step, Stopped, Trials

from .pace import Clock, Pace, PhasePace, left_text
from .streams import console

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

SECONDS_APART = 10.0  # between two quiet lines, at least
SHARE_APART = 0.05  # of the work between two quiet lines, at least ...
SIGN_OF_LIFE = 60.0  # ... unless this long has passed
VALIDATION = "untuned model, validation rows"  # the phase that takes what a scoring will
BEAT = 1.5  # seconds of silence after which a log gets a dot: a sign of life at least every two seconds
TICK = 0.25  # seconds between two looks at whether it is time
QUICK = 1.0  # a phase that takes no longer is not worth a line
_WHY = {
    "finished": "training finished",
    "early-stopping": "training stopped early: the validation score no longer rises",
    "signal": "training stopped by a signal",
}


class Progress:
    """`with Progress() as listen: train(recipe, listen=listen)`. Calling it renders one event."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        live: bool | None = None,
        clock: Clock = time.monotonic,
        quick: float = QUICK,
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._view: _Quiet | _Live
        if self._stream.isatty() if live is None else live:
            self._view = _Live(self._stream, clock, quick)
        else:
            self._view = _Quiet(self._stream, clock, quick)
        self._heart = _Heart(self._view.beat)
        self._pace: Pace | None = None
        self._phase: Phase | None = None
        self._phase_pace: PhasePace | None = None
        self._scoring = 0.0  # seconds that the untuned model took for the validation rows

    def __enter__(self) -> Progress:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heart.stop()
        self._view.close()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Phase):
            self._on_phase(event)
            return
        self._phase = None
        if isinstance(event, Started):
            self._pace = Pace(
                event.step,
                event.steps,
                self._clock,
                tokens=event.tokens,
                eval_steps=event.eval_steps,
                scoring=self._scoring,
            )
            self._view.note(_begin_text(event))
        elif isinstance(event, Step):
            self._on_step(event)
        elif isinstance(event, Scored):
            if self._pace is not None:
                self._pace.scored()
            self._view.note(_scored_text(event))
        elif isinstance(event, Memory):
            for line in _memory_lines(event):
                self._view.note(line)
        elif isinstance(event, Trials):
            self._view.note(_trials_text(event))
        elif isinstance(event, Resumed):
            self._view.note(
                f"going on from step {event.from_step:,}" if event.from_step else "starting over: no checkpoint"
            )
        elif isinstance(event, Alarm):
            if not event.stops:  # that is told by the error it ends with
                self._view.note(f"warning: {event.told}\nFix: {event.fix}")
        elif isinstance(event, Stopped):
            self._pace = None
            self._view.note(_stopped_text(event))
            self._view.done()
        elif not isinstance(event, Saved):  # a checkpoint is no news
            return

    def say(self, text: str) -> None:
        """A line beside the bars."""
        self._view.note(text)

    def _on_phase(self, event: Phase) -> None:
        if self._phase is None or self._phase.what != event.what or self._phase_pace is None:
            self._phase_pace = PhasePace(event.done, self._clock)
            # Scoring between two steps needs no line of its own: its score has one.
            self._view.begin(event.what, quiet=self._pace is not None)
        self._phase = event
        if event.what == VALIDATION:
            self._scoring = self._phase_pace.seconds
        left = left_text(self._phase_pace.seconds_left(event.done, event.total))
        self._view.update(event.what, event.done, event.total, _join(_count_text(event), left))

    def _on_step(self, event: Step) -> None:
        if self._pace is None:  # a listener that came late
            self._pace = Pace(event.step - 1, 0, self._clock)
        pace = self._pace
        pace.add(event)
        rate = pace.rows_per_second
        words = _join(
            f"step {event.step:,}" + (f"/{pace.steps:,}" if pace.steps else ""),
            f"epoch {event.epoch:.2f}",
            f"loss {pace.loss:.3f}" if pace.loss is not None else "",
            f"{rate:,.0f} rows/s" if rate and rate >= 10 else f"{rate:.1f} rows/s" if rate else "",
            left_text(pace.seconds_left) if pace.steps else "",
        )
        self._view.update("training", event.step, pace.steps, words)


class _Heart:
    """Calls `beat` again and again from a thread of its own, so that work which tells nothing does not look dead."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat, self._over = beat, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._over.wait(TICK):
            with contextlib.suppress(OSError, ValueError):  # the stream may be gone
                self._beat()


class _Quiet:
    """Lines for logs and pipes: one a phase, one a scoring, now and then where the work stands, dots in a silence."""

    def __init__(self, stream: TextIO, clock: Clock, quick: float) -> None:
        self._stream, self._clock, self._quick = stream, clock, quick
        self._last = self._signed = clock()  # of a line, of anything
        self._dots = False  # the line that stands is one of dots
        self._lock = threading.RLock()
        self._what = ""
        self._share = 0.0
        self._timer: threading.Timer | None = None  # says what is being done once it takes long

    def note(self, text: str) -> None:
        self._cancel()
        with self._lock, contextlib.suppress(ValueError):  # a timer may outlive the stream by a moment
            print("\n" * self._dots + text, file=self._stream, flush=True)
            self._dots = False
        self._last = self._signed = self._clock()

    def beat(self) -> None:
        if self._clock() - self._last >= SIGN_OF_LIFE:
            self.note(f"{self._what or 'working'}: still at it")
        elif self._clock() - self._signed >= BEAT:
            with self._lock:
                print(".", end="", file=self._stream, flush=True)
                self._dots = True
            self._signed = self._clock()

    def begin(self, what: str, *, quiet: bool) -> None:
        self._what, self._share = what, 0.0
        self._cancel()
        if quiet:
            return
        if not self._quick:
            self.note(f"{what} ...")
            return
        self._timer = threading.Timer(self._quick, self.note, (f"{what} ...",))
        self._timer.daemon = True
        self._timer.start()

    def update(self, what: str, done: int, total: int, words: str) -> None:
        if what != self._what:
            self._cancel()
            self._what, self._share = what, 0.0
        if total and done >= total:
            return  # what is done is told by what follows
        waited = self._clock() - self._last
        share = done / total if total else 0.0
        moved = total and share - self._share >= SHARE_APART
        if waited >= SIGN_OF_LIFE or (waited >= SECONDS_APART and (moved or not total)):
            self._share = share
            self.note(words if what == "training" else f"{what}: {words or 'still at it'}")

    def done(self) -> None:
        self._what = ""
        self._cancel()

    def close(self) -> None:
        self._cancel()
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._dots:
                print(file=self._stream, flush=True)
            self._dots = False

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Live:
    """One bar that is redrawn and turns by itself, with finished lines left standing above it."""

    def __init__(self, stream: TextIO, clock: Clock, quick: float) -> None:
        self._console = console(stream)
        self._clock, self._quick = clock, quick
        self._since = clock()  # when the last bar went, or the work began
        self._lock = threading.RLock()
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._what = ""

    def _started(self) -> Bars:
        if self._bars is None:
            from rich.progress import BarColumn, SpinnerColumn, TextColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                SpinnerColumn("line"),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[words]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._bars.start()
        return self._bars

    def note(self, text: str) -> None:
        self._console.print(text)

    def beat(self) -> None:
        """A bar where there is none: before the first phase, or between two."""
        with self._lock:
            if self._task is None and self._clock() - self._since >= self._quick:
                self.begin("working", quiet=True)

    def begin(self, what: str, *, quiet: bool) -> None:
        with self._lock:
            bars = self._started()
            if self._task is not None:
                bars.remove_task(self._task)
            self._what = what
            self._task = bars.add_task(what, total=None, words="")

    def update(self, what: str, done: int, total: int, words: str) -> None:
        if what != self._what or self._task is None:
            self.begin(what, quiet=True)
        assert self._task is not None
        # A step line says what it is; its room is needed for the rest.
        named = "" if what == "training" else what
        self._started().update(self._task, description=named, completed=done, total=total or None, words=words)

    def done(self) -> None:
        with self._lock:
            if self._bars is not None and self._task is not None:
                self._bars.remove_task(self._task)
                self._task, self._what = None, ""
                self._since = self._clock()

    def close(self) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = self._task = None


def _begin_text(event: Started) -> str:
    trained = f"{count_text(event.trained_parameters)} of {count_text(event.parameters)} parameters"
    if event.step >= event.steps:
        return f"training was already complete ({event.steps:,} steps)"
    return f"training {trained} on {event.examples:,} examples, {event.steps - event.step:,} steps"


def _trials_text(event: Trials) -> str:
    time = f", about {time_text(event.seconds)}" if event.seconds else ""
    cost = f"{event.times:.1f} times the recipe's own training{time}"
    return f"training again {event.count} times on parts of the rows: {cost}"


def _memory_lines(event: Memory) -> list[str]:
    """The forecast and its parts; where it is too much, what was done about it or would help."""
    parts = ", ".join(
        f"{name} {memory_text(size)}" for name, size in event.forecast.items() if size and name != "total"
    )
    of = f" of {memory_text(event.available)}" if event.available else ""
    lines = [f"memory: about {memory_text(event.forecast['total'])}{of}: {parts}"]
    if event.changed:
        said = " and ".join(f"{key}: {str(value).lower()}" for key, value in event.changed.items())
        lines.append(f"memory: {said}, set by train.fit; the steps and what they learn stay the same")
    if not event.fits:
        lines.append("warning: memory may run out. What would help, the best first:")
        lines += [f"  {number}. {one['text']}" for number, one in enumerate(event.remedies, 1)]
    return lines


def _scored_text(event: Scored) -> str:
    key = event.key
    told = key in event.scores
    name, value = (measure(key).name, as_text(key, event.scores[key])) if told else ("score", f"{event.score:.3f}")
    trained = f", loss {event.train_loss:.3f} on training rows" if event.train_loss else ""
    best = ", the best so far" if event.best else ""
    loss = "" if key == "loss" else f", loss {event.loss:.3f}"
    return f"epoch {event.epoch:.4g}: validation {name} {value}{loss}{trained}{best}"


def _stopped_text(event: Stopped) -> str:
    why = _WHY.get(event.reason, f"training stopped: {event.reason}")
    kept = f"; the model of step {event.best_step:,} is kept" if event.best_step else ""
    return why + kept


def _count_text(event: Phase) -> str:
    if event.unit == "bytes":
        done, total = f"{event.done / 1e6:,.0f}", f"{event.total / 1e6:,.0f} MB"
    else:
        done, total = f"{event.done:,}", f"{event.total:,} {event.unit}"
    if event.total:
        return f"{done} of {total}"
    return f"{done} {event.unit}" if event.done and event.unit != "bytes" else ""


def _join(*parts: Any) -> str:
    return ", ".join(part for part in parts if part)
