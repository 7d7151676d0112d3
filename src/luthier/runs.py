"""The run folder: its only reader and writer.

What a reader sees under a final name is whole: files are staged beside it, synced to disk and put in place by
one rename. Lines of events.jsonl are appended and flushed; the last of them may be cut by a crash, and readers
skip it. A list of runs is kept per user, so that `luthier resume` finds those made with `--out` too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import ResourceError, RunError, did_you_mean

STATES = ("running", "stopped", "failed", "finished")
STAGING = ".luthier-staging-"
_OUT_OF_SPACE = {28, 122}  # ENOSPC, EDQUOT


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Force a file's or folder's bytes to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full disk as a ResourceError that names the path and the free bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OUT_OF_SPACE:
            raise
        free = shutil.disk_usage(path if path.exists() else path.parent).free
        raise ResourceError(
            f"the disk is full ({free:,} bytes free)",
            where=str(path),
            fix="free some space, then `luthier resume`; the last checkpoint is intact",
        ) from None


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in one step that survives a power cut."""
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{STAGING}{os.getpid()}-{path.name}")
        try:
            with part.open("w", encoding="utf-8", errors="surrogatepass") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def write_jsonl(path: Path, values: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def read_json(path: Path) -> Any:
    """The file's JSON; RunError if it is missing or damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunError("it is missing", where=str(path), fix="name a whole run folder") from None
    except (OSError, ValueError) as error:
        raise RunError(f"it cannot be read ({error})", where=str(path), fix="copy the run again, or repeat it") from None


def read_jsonl(path: Path) -> list[Any]:
    """The file's lines; a cut last line is left out."""
    if not path.is_file():
        return []
    out = []
    for line in path.read_text("utf-8", errors="surrogatepass").splitlines():
        with contextlib.suppress(ValueError):
            out.append(json.loads(line))
    return out


def publish(folder: Path, write: Callable[[Path], None], *, replace: bool = False) -> None:
    """Let `write` fill a staging folder, sync all of it, and give it the final name by one rename.

    manifest.json, written last, holds the sha256 of every file. With `replace`, what stood under the name goes
    only when the new folder is whole.
    """
    staging = folder.with_name(f"{STAGING}{os.getpid()}-{folder.name}")
    with disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            write(staging)
            files = sorted(p for p in staging.rglob("*") if p.is_file())
            manifest = {p.relative_to(staging).as_posix(): sha256_of(p) for p in files}
            for p in files:
                sync(p)
            write_json(staging / "manifest.json", manifest)
            sync(staging)
            if replace and folder.exists():
                old = folder.with_name(f"{STAGING}{os.getpid()}-old-{folder.name}")
                folder.rename(old)
                staging.rename(folder)
                shutil.rmtree(old)
            else:
                staging.rename(folder)
            sync(folder.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def verified(folder: Path) -> dict[str, str]:
    """The folder's manifest, every file's sha256 checked. RunError names the file that differs."""
    manifest = read_json(folder / "manifest.json")
    for name, expected in manifest.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            raise RunError(
                "the file is not what was saved", where=str(path), fix="copy the folder again, or use an older one"
            )
    return manifest


def clean_staging(folder: Path) -> None:
    """Remove what a killed process left unfinished: only names that carry our own marker."""
    if folder.is_dir():
        for path in folder.glob(f"{STAGING}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


class RunFolder:
    """One run's folder. Paths are attributes; everything written goes through here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.environment = path / "environment.json"
        self.data = path / "data.json"
        self.splits = path / "splits.jsonl"
        self.events = path / "events.jsonl"
        self.predictions = path / "predictions"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.scores = path / "scores.json"
        self.findings = path / "findings.json"
        self.report = path / "report.html"
        self.status_file = path / "status.json"

    @property
    def name(self) -> str:
        return self.path.name

    def status(self) -> dict[str, Any]:
        """status.json; a run whose process is gone while it says "running" is reported as stopped."""
        if not self.status_file.is_file():
            return {"state": "failed", "step": 0, "verdict": None}
        status = read_json(self.status_file)
        if status.get("state") == "running" and not _alive(status.get("pid")):
            status = {**status, "state": "stopped"}
        return status

    def set_status(self, state: str, **facts: Any) -> None:
        if state not in STATES:
            raise ValueError(state)
        old = read_json(self.status_file) if self.status_file.is_file() else {"step": 0, "verdict": None}
        write_json(self.status_file, {**old, **facts, "state": state, "pid": os.getpid()})

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Append one line and hand it to the system; a disk that is full costs the log, never the run."""
        with contextlib.suppress(OSError), self.events.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**event, "time": round(time.time(), 3)}) + "\n")

    def finished(self) -> bool:
        return self.status()["state"] == "finished"


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def new_run(out: Path | None, base: Path, kind: str, home: Path) -> RunFolder:
    """A new run folder: `out` itself (absent, empty or never begun), or the next number under `base`/runs."""
    if out is not None:
        folder = RunFolder(out)
        if out.exists() and not out.is_dir():
            raise RunError("this is a file", where=str(out), fix="name a new folder with --out")
        if out.is_dir() and any(p for p in out.iterdir() if not p.name.startswith(STAGING)):
            begun = folder.status_file.is_file()
            finished = begun and folder.finished()
            fix = "name another folder with --out" + (f", or go on with `luthier resume {out}`" if begun and not finished else "")
            raise RunError("the folder is not empty", where=str(out), fix=fix)
        with disk_errors(out.parent):
            out.mkdir(parents=True, exist_ok=True)
    else:
        folder = RunFolder(_next_folder(base / "runs", kind))
    _register(folder.path, home)
    return folder


def _next_folder(runs: Path, kind: str) -> Path:
    with disk_errors(runs.parent):
        runs.mkdir(parents=True, exist_ok=True)
        while True:
            numbers = [int(m[1]) for p in runs.iterdir() if (m := re.match(r"(\d{4,})-", p.name))]
            path = runs / f"{max(numbers, default=0) + 1:04d}-{kind}"
            with contextlib.suppress(FileExistsError):  # another process took the number
                path.mkdir()
                return path


def _register(path: Path, home: Path) -> None:
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
        with (home / "runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"path": str(path.resolve()), "time": time.time()}) + "\n")


def known_runs(home: Path) -> list[Path]:
    """Every run this user began that still exists, newest last."""
    paths = [Path(line["path"]) for line in read_jsonl(home / "runs.jsonl") if "path" in line]
    return [p for p in dict.fromkeys(paths) if (p / "status.json").is_file()]


def find_run(name: str, home: Path, base: Path) -> RunFolder:
    """RUN on the command line: a folder, a number or name under `base`/runs, or `last`."""
    path = Path(name).expanduser()
    if name != "last" and (path / "status.json").is_file():
        return RunFolder(path)
    here = sorted(p.parent for p in (base / "runs").glob("*/status.json"))
    if name == "last":
        known = known_runs(home) or here
        if not known:
            raise RunError("there is no run yet", where="last", fix="luthier train RECIPE")
        return RunFolder(known[-1])
    if name.isdigit():
        matches = [p for p in here if p.name.partition("-")[0].isdigit() and int(p.name.partition("-")[0]) == int(name)]
    else:
        matches = [p for p in here if p.name == name]
    if matches:
        return RunFolder(matches[-1])
    if path.is_dir():
        raise RunError("this folder holds no run (no status.json)", where=name, fix="name the folder that train printed")
    known_names = [p.name for p in here]
    fix = did_you_mean(name, known_names) if known_names else "name a run's folder; there is none under runs/ here"
    raise RunError("there is no such run", where=name, fix=fix)


def newest_unfinished(home: Path) -> RunFolder | None:
    for path in reversed(known_runs(home)):
        run = RunFolder(path)
        if run.status()["state"] in ("stopped", "failed"):
            return run
    return None


def count_test(key: str, run: Path, home: Path) -> int:
    """Enter in the ledger that `run` scored the test rows with this content hash; how many runs have by now."""
    ledger = home / "tests.jsonl"
    runs = {line["run"] for line in read_jsonl(ledger) if line.get("test") == key}
    if str(run.resolve()) not in runs:
        runs.add(str(run.resolve()))
        with contextlib.suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            with ledger.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"test": key, "run": str(run.resolve()), "time": time.time()}) + "\n")
    return len(runs)
