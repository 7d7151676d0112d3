"""The run folder: its only reader and writer.

A list of runs is kept per user, so that `luthier resume` finds those made with `--out` too.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import ResourceError, RunError, did_you_mean
from .files import (
    COPY_AGAIN,
    append,
    clean_staging,
    disk_errors,
    is_staging,
    json_text,
    no_room,
    read_json,
    read_log,
    sync,
    write_json,
)
from .processes import alive, start_of

STATES = ("running", "stopped", "failed", "finished")


class RunFolder:
    """One run's folder. Paths are attributes; everything written goes through here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.environment = path / "environment.json"
        self.data = path / "data.json"
        self.splits = path / "splits.jsonl"
        self.made = path / "made.jsonl"
        self.events = path / "events.jsonl"
        self.predictions = path / "predictions"
        self.untuned = path / "untuned.json"  # the untuned model's answers, for a resumption
        self.robustness = path / "robustness.jsonl"  # answers to test rows written differently
        self.checkpoints = path / "checkpoints"
        self.start = path / "start"  # the model of `model: new`, before training
        self.model = path / "model"
        self.scores = path / "scores.json"
        self.findings = path / "findings.json"
        self.review = path / "review.jsonl"  # what people said of its answers
        self.evidence = path / "evidence.json"  # what was measured beside scores
        self.report = path / "report.html"
        self.audit = path / "audit.json"
        self.audit_page = path / "audit.html"
        self.rules = path / "rules.yaml"  # what is done to answers before they are given
        self.status_file = path / "status.json"
        self.waiting: list[dict[str, Any]] = []  # events that the disk had no room for

    @property
    def name(self) -> str:
        return self.path.name

    def status(self) -> dict[str, Any]:
        """status.json; a run whose process is gone while it says "running" is reported as stopped."""
        status = self._written_status()
        if status["state"] == "running" and not alive(status.get("pid"), status.get("pid_start")):
            return {**status, "state": "stopped"}
        return status

    def set_status(self, state: str, **facts: Any) -> None:
        if state not in STATES:
            raise ValueError(state)
        old = self._written_status()
        for ending in ("error", "refused"):
            old.pop(ending, None)
        here = {"pid": os.getpid(), "pid_start": start_of(os.getpid())}
        write_json(self.status_file, {"id": uuid.uuid4().hex, **old, **facts, "state": state, **here})

    def _written_status(self) -> dict[str, Any]:
        if not self.status_file.is_file():
            return {"state": "failed", "step": 0, "verdict": None}
        status = read_json(self.status_file)
        if not isinstance(status, dict) or status.get("state") not in STATES:
            raise RunError("it names no known state", where=str(self.status_file), fix=COPY_AGAIN)
        if not isinstance(status.get("base", ""), str):
            raise RunError("the folder it begins from is no text", where=str(self.status_file), fix=COPY_AGAIN)
        return status

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Append one line and hand it to the system. Where the disk is full it waits here, in its turn."""
        self.waiting.append({**event, "time": round(time.time(), 3)})
        with contextlib.suppress(OSError):
            self._write_waiting()

    def _write_waiting(self) -> None:
        while self.waiting:
            append(self.events, self.waiting[0])
            del self.waiting[0]

    def sync_events(self) -> None:
        """Force the log to the disk: a checkpoint whose steps it does not hold would leave a gap after a crash.

        ResourceError where there is no room for the lines that wait.
        """
        needed = sum(len(json_text(event).encode("utf-8", "surrogatepass")) + 1 for event in self.waiting)
        with contextlib.suppress(OSError), disk_errors(self.events, needed):
            self._write_waiting()
            sync(self.events)
            sync(self.path)

    def note_status(self, state: str, **facts: Any) -> None:
        """`set_status` where a full disk costs the note alone.

        A run that cannot note its end is taken as stopped: its process is gone.
        """
        with contextlib.suppress(ResourceError):
            self.set_status(state, **facts)

    def clean(self) -> None:
        """Remove what a killed process left unfinished."""
        for place in (self.path, self.checkpoints, self.predictions):
            clean_staging(place)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Work on the run, one process at a time; the system lets go if it dies. RunError if another holds it."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ImportError):  # Windows: status.json alone tells
                import fcntl

                handle = os.open(self.path, os.O_RDONLY)
                stack.callback(os.close, handle)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    fix = "wait for it, or stop that process"
                    raise RunError("another process works on it", where=str(self.path), fix=fix) from None
                except OSError:  # a file system without locks
                    pass
            yield

    def died(self) -> bool:
        """Whether its process ended without a word: killed, by a person or for want of memory, or with the machine."""
        if not self.status_file.is_file() or read_json(self.status_file).get("state") != "running":
            return False
        return bool(self.status()["state"] == "stopped")

    def never_begun(self, *, ended: bool = False) -> bool:
        """Whether a run was refused or stopped here before training wrote anything, and nothing else lies here.

        `ended`: this process knows that the run is over, whatever its status says as yet.
        """
        if not self.status_file.is_file() or not (ended or self.status()["state"] in ("stopped", "failed")):
            return False
        if self.model.exists() or any(self.checkpoints.glob("*")):
            return False
        own = {path.name for path in vars(self).values() if isinstance(path, Path) and path.parent == self.path}
        return all(path.name in own or is_staging(path) for path in self.path.iterdir())

    def refused(self) -> bool:
        """Whether it ended before training for what its recipe or data hold."""
        try:
            return bool(self.status().get("refused"))
        except RunError:
            return False

    def finished(self) -> bool:
        return self.status()["state"] == "finished"


def scored_before(key: str, run: Path, home: Path) -> RunFolder | None:
    """The newest other finished run that scored the test rows with this content hash; None where there is none."""
    return next(all_scored_before(key, run, home), None)


def all_scored_before(key: str, run: Path, home: Path) -> Iterator[RunFolder]:
    """Every other finished run that scored the test rows with this content hash, newest first."""
    ids = {line.get("run") for line in read_log(home / "tests.jsonl") if line.get("test") == key}
    if not ids:
        return
    for path in reversed(known_runs(home)):
        other = RunFolder(path)
        with contextlib.suppress(RunError, OSError):
            status = other.status()
            same = path.resolve() == run.resolve() or run.resolve().parent == path.resolve()
            if status.get("id") in ids and status["state"] == "finished" and not same:
                yield other


class FolderBeside(RunFolder):
    """The run's folder to a process that works on it beside the main one: all of it is read, none is written.

    What the work writes at its beginning goes to the folder `own`.
    """

    def __init__(self, path: Path, own: Path) -> None:
        super().__init__(path)
        self.recipe, self.environment, self.data, self.splits = (
            own / one.name for one in (self.recipe, self.environment, self.data, self.splits)
        )

    def set_status(self, state: str, **facts: Any) -> None:
        """The main process does."""

    def add_event(self, event: Mapping[str, Any]) -> None:
        """The main process does."""

    def sync_events(self) -> None:
        """The main process does."""

    def clean(self) -> None:
        """The main process does."""

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The main process holds it."""
        yield

    def never_begun(self, *, ended: bool = False) -> bool:
        return False


def new_run(out: Path | None, base: Path, kind: str, home: Path) -> RunFolder:
    """A new run folder: `out` itself (absent, empty or never begun), or the next number under `base`/runs."""
    place = out if out is not None else base / "runs"
    with disk_errors(place):
        try:
            path = _empty_folder(out) if out is not None else _next_folder(place, kind)
        except OSError as error:
            if no_room(error):
                raise
            found = f"no folder can be made here ({error.strerror})"
            raise RunError(found, where=str(place), fix="name another with --out") from None
    _register(path, home)
    return RunFolder(path)


def _empty_folder(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise RunError("this is a file", where=str(out), fix="name a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    if all(is_staging(path) for path in out.iterdir()):
        return out
    fix = "name another folder with --out"
    run = RunFolder(out)
    if run.never_begun():
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return out
    if run.status_file.is_file() and not run.finished():
        fix += f", or go on with `luthier resume {out}`"
    raise RunError("the folder is not empty", where=str(out), fix=fix)


def _next_folder(runs: Path, kind: str) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        numbers = [int(m[1]) for p in runs.iterdir() if (m := _NUMBERED.match(p.name))]
        path = runs / f"{max(numbers, default=0) + 1:04d}-{kind}"
        with contextlib.suppress(FileExistsError):  # another process took the number
            path.mkdir()
            return path


_NUMBERED = re.compile(r"(\d{4,9})-", re.ASCII)


def _register(path: Path, home: Path) -> None:
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
        append(home / "runs.jsonl", {"path": str(path.resolve()), "time": time.time()})


def known_runs(home: Path) -> list[Path]:
    """Every run this user began that still exists, newest last."""
    paths = [line["path"] for line in read_log(home / "runs.jsonl") if isinstance(line.get("path"), str)]
    newest_last = reversed(dict.fromkeys(reversed(paths)))
    return [Path(p) for p in newest_last if _is_run(Path(p))]


def _is_run(path: Path) -> bool:
    try:
        return (path / "status.json").is_file()
    except OSError:  # a name too long, a folder that may not be read
        return False


def find_run(name: str, home: Path, base: Path) -> RunFolder:
    """RUN on the command line: a folder, a number or name under `base`/runs, or `last`."""
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # ~somebody who is not known
        path = path.expanduser()
    if name != "last" and _is_run(path):
        return RunFolder(path)
    here = [p.parent for p in (base / "runs").glob("*/status.json")]
    here.sort(key=lambda p: (_number(p), p.name))
    if name == "last":
        known = [RunFolder(p) for p in known_runs(home) or here]
        begun = [run for run in known if not run.refused()] or known
        if not begun:
            raise RunError("there is no run yet", where="last", fix="luthier train RECIPE")
        return begun[-1]
    asked = int(name) if re.fullmatch(r"\d{1,9}", name, re.ASCII) else None
    if asked is None and _is_file(path):
        begins = f"; luthier train {name} makes a run of a recipe" if path.suffix in (".yaml", ".yml") else ""
        names = ", ".join(p.name for p in here[-5:]) or "none here yet"
        fix = f"name a run's folder, number or name ({names}){begins}"
        raise RunError("this is a file, and no run", where=name, fix=fix)
    matches = [p for p in here if p.name == name or (asked is not None and asked == _number(p))]
    if matches:
        return RunFolder(matches[-1])
    with contextlib.suppress(OSError):
        if path.is_dir():
            fix = "name the folder that train printed"
            raise RunError("this folder holds no run (no status.json)", where=name, fix=fix)
    newest = [p.name for p in here[-20:]]
    fix = did_you_mean(name, newest) if newest else "there is none under runs/ here: name its folder"
    raise RunError("there is no such run", where=name, fix=fix)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _number(run: Path) -> int:
    match = _NUMBERED.match(run.name)
    return int(match[1]) if match else 0


def newest_unfinished(home: Path) -> RunFolder | None:
    """The newest run that can be carried on.

    One that was refused for what its recipe or data hold waits for a person; without a recipe a run was killed as
    it was being begun. RunError where a newer one is running: that is likely to be meant.
    """
    busy, process = None, 0
    for path in reversed(known_runs(home)):
        run = RunFolder(path)
        try:
            status = run.status()
        except RunError:  # a damaged status.json of some other run
            continue
        if busy is None and status["state"] == "running" and status.get("pid") != os.getpid():
            busy, process = run, status.get("pid", 0)
        if run.recipe.is_file() and status["state"] in ("stopped", "failed") and not status.get("refused"):
            if busy is not None:
                fix = f"wait for it, or name the one to go on with: luthier resume {run.path}"
                raise RunError(f"this newer run is still running (process {process})", where=str(busy.path), fix=fix)
            return run
    return None


def count_test(key: str, run: Path, home: Path) -> int:
    """Enter in the ledger that `run` scored the test rows with this content hash; how many runs have by now.

    A run is known by the id in its status.json: moved, it counts once; repeated in the same place, again. One inside
    another's folder was made to hold that one against: both count as one.
    """
    outer = RunFolder(run.resolve().parent)
    folder = outer if outer.status_file.is_file() else RunFolder(run)
    status = read_json(folder.status_file) if folder.status_file.is_file() else {}
    name = str(status.get("id") or folder.path.resolve())
    ledger = home / "tests.jsonl"
    runs = {line.get("run") for line in read_log(ledger) if line.get("test") == key}
    if name not in runs:
        with contextlib.suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            append(ledger, {"test": key, "run": name, "time": time.time()})
        runs |= {name} | {line.get("run") for line in read_log(ledger) if line.get("test") == key}
    return len(runs)
