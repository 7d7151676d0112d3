"""The run folder: its only reader and writer.

What a reader sees under a final name is whole: files are staged beside it, synced to disk and put in place by
one rename. Logs are appended to line by line; a crash may cut a line, and their readers skip it. A list of
runs is kept per user, so that `luthier resume` finds those made with `--out` too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import ResourceError, RunError, did_you_mean

STATES = ("running", "stopped", "failed", "finished")
STAGING = ".luthier-staging-"
REPLACED = ".luthier-replaced-"
_MARKED = re.compile(rf"({re.escape(STAGING)}|{re.escape(REPLACED)})(\d+)-(.+)", re.DOTALL)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
def disk_errors(path: Path, needed: int = 0) -> Iterator[None]:
    """A full disk as a ResourceError that names the path, the free bytes and, where known, those needed."""
    try:
        yield
    except Exception as error:
        problem = _no_room(error)
        if problem is None:
            raise
        place = next(p for p in (path, *path.absolute().parents) if p.exists())
        room = f"{shutil.disk_usage(place).free:,} bytes are free"
        room += f", {needed:,} are needed" if needed else ""
        raise _NoRoom(problem, room, path) from None


class _NoRoom(ResourceError):
    def __init__(self, problem: str, room: str, path: Path) -> None:
        self.problem = problem
        found = f"there is no room to save this ({problem}; {room})"
        fix = "make room, then `luthier resume`; what was saved before is intact"
        super().__init__(found, where=str(path), fix=fix)


def _no_room(error: Exception) -> str | None:
    """The system's word for a full disk if `error` is one; safetensors gives its number as text.

    A file in a folder that is being published may say it first: the folder then says it again, of itself.
    """
    if isinstance(error, _NoRoom):
        return error.problem
    number = error.errno if isinstance(error, OSError) else None
    if type(error).__name__ == "SafetensorError" and (match := re.search(r"os error (\d+)", str(error))):
        number = int(match[1])
    return os.strerror(number) if number in _NO_ROOM else None


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in one step that survives a power cut."""
    data = text.encode("utf-8", "surrogatepass")
    with disk_errors(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _marked(STAGING, path)
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        sync(path.parent)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: NaN and the infinities, for which JSON has no word, become null."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value, indent=1) + "\n")


def write_jsonl(path: Path, values: Iterable[Any]) -> None:
    write_text(path, "".join(json_text(value) + "\n" for value in values))


def read_json(path: Path) -> Any:
    """The file's JSON; RunError if it is missing or damaged."""
    return _json(_read(path), str(path))


def read_jsonl(path: Path) -> list[Any]:
    """The lines of a file that was written whole, [] if there is none; RunError names a damaged line."""
    if not path.is_file():
        return []
    lines = _read(path).split("\n")  # not splitlines: a text may hold U+2028 and its like
    return [_json(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The objects in a file that is appended to, [] if there is none; what a crash cut is left out."""
    out = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            out += [value] if isinstance(value, dict) else []
    return out


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogatepass")
    except FileNotFoundError:
        raise RunError("it is missing", where=str(path), fix="name a whole run folder") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise RunError(f"it cannot be read ({problem})", where=str(path), fix=_COPY_AGAIN) from None


_COPY_AGAIN = "copy it again from where it was made, or repeat the run"


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"it is damaged ({error})", where=where, fix=_COPY_AGAIN) from None


def _append(path: Path, value: Mapping[str, Any]) -> None:
    """Add a line to a log. One that a crash cut is ended first."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            cut = file.read(1) != b"\n"
        else:
            cut = False
        file.write(b"\n" * cut + json_text(value).encode("utf-8", "surrogatepass") + b"\n")


def publish(folder: Path, write: Callable[[Path], None], *, replace: bool = False, size: int = 0) -> None:
    """Let `write` fill a staging folder, sync all of it, and give it the final name by one rename.

    manifest.json, written last, holds the sha256 of every file. With `replace`, what stood under the name
    goes only when the new folder is whole. `size` is about how many bytes `write` writes: it is said if there
    is no room for them.
    """
    staging = _marked(STAGING, folder)
    with disk_errors(folder, size):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            write(staging)
            inside = sorted(staging.rglob("*"))
            for path in inside:
                sync(path)
            files = {p.relative_to(staging).as_posix(): sha256_of(p) for p in inside if p.is_file()}
            write_json(staging / "manifest.json", files)
            if replace and folder.exists():
                old = _marked(REPLACED, folder)
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)  # a cut after this line: clean_staging gives the name back
                staging.rename(folder)
                sync(folder.parent)
                shutil.rmtree(old)
            else:
                staging.rename(folder)
                sync(folder.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def discard(folder: Path) -> None:
    """Delete a published folder so that a cut leaves all of it or nothing that looks whole."""
    doomed = _marked(STAGING, folder)
    folder.rename(doomed)
    sync(folder.parent)
    shutil.rmtree(doomed)


def verified(folder: Path) -> dict[str, str]:
    """The folder's manifest, every file's sha256 checked. RunError names the file that differs."""
    place = folder / "manifest.json"
    manifest = read_json(place)
    if not isinstance(manifest, dict):
        raise RunError("it is damaged (no list of files)", where=str(place), fix=_COPY_AGAIN)
    for name, expected in manifest.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            fix = "copy the folder again, or use an older one"
            raise RunError("the file is not what was saved", where=str(path), fix=fix)
    return manifest


def clean_staging(folder: Path) -> None:
    """Remove what a killed process left unfinished: only names that carry our own marker.

    A folder that was about to be replaced, and had already lost its name, gets it back.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _MARKED.fullmatch(path.name)
        if match is None or (int(match[2]) != os.getpid() and _alive(int(match[2]))):
            continue
        if match[1] == REPLACED and not (folder / match[3]).exists():
            path.rename(folder / match[3])
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _marked(marker: str, path: Path) -> Path:
    """A name beside `path` that says whose it is and that it is not final."""
    return path.with_name(f"{marker}{os.getpid()}-{path.name}")


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
        self.start = path / "start"  # the model of `model: new`, before training
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
        status = self._written_status()
        if status["state"] == "running" and not _alive(status.get("pid"), status.get("pid_start")):
            return {**status, "state": "stopped"}
        return status

    def set_status(self, state: str, **facts: Any) -> None:
        if state not in STATES:
            raise ValueError(state)
        old = self._written_status()
        old.pop("error", None)
        here = {"pid": os.getpid(), "pid_start": _start_of(os.getpid())}
        write_json(self.status_file, {"id": uuid.uuid4().hex, **old, **facts, "state": state, **here})

    def _written_status(self) -> dict[str, Any]:
        if not self.status_file.is_file():
            return {"state": "failed", "step": 0, "verdict": None}
        status = read_json(self.status_file)
        if not isinstance(status, dict) or status.get("state") not in STATES:
            raise RunError("it names no known state", where=str(self.status_file), fix=_COPY_AGAIN)
        return status

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Append one line and hand it to the system; a disk that is full costs the log, never the run."""
        with contextlib.suppress(OSError):
            _append(self.events, {**event, "time": round(time.time(), 3)})

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

    def never_begun(self) -> bool:
        """Whether a run was refused or stopped here before training wrote anything, and nothing else lies here."""
        if not self.status_file.is_file() or self.status()["state"] not in ("stopped", "failed"):
            return False
        if self.model.exists() or any(self.checkpoints.glob("*")):
            return False
        own = {path.name for path in vars(self).values() if path.parent == self.path}
        return all(path.name in own or _MARKED.fullmatch(path.name) for path in self.path.iterdir())

    def finished(self) -> bool:
        return self.status()["state"] == "finished"


def _alive(pid: Any, start: str | None = None) -> bool:
    """Whether the process runs, and, with `start`, is not another one that was given the number since."""
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    now = _start_of(pid)
    return now != "" and (start is None or now is None or now == start)


def _start_of(pid: int) -> str | None:
    """When a process began, as the kernel counts it; "" if it is over, None where the kernel does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else None
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]  # state, and starttime: fields 3 and 22 of the line


def new_run(out: Path | None, base: Path, kind: str, home: Path) -> RunFolder:
    """A new run folder: `out` itself (absent, empty or never begun), or the next number under `base`/runs."""
    place = out if out is not None else base / "runs"
    with disk_errors(place):
        try:
            path = _empty_folder(out) if out is not None else _next_folder(place, kind)
        except OSError as error:
            if _no_room(error):
                raise
            found = f"no folder can be made here ({error.strerror})"
            raise RunError(found, where=str(place), fix="name another with --out") from None
    _register(path, home)
    return RunFolder(path)


def _empty_folder(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise RunError("this is a file", where=str(out), fix="name a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    if all(_MARKED.fullmatch(path.name) for path in out.iterdir()):
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
        _append(home / "runs.jsonl", {"path": str(path.resolve()), "time": time.time()})


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
        known = known_runs(home) or here
        if not known:
            raise RunError("there is no run yet", where="last", fix="luthier train RECIPE")
        return RunFolder(known[-1])
    asked = int(name) if re.fullmatch(r"\d{1,9}", name, re.ASCII) else None
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


def _number(run: Path) -> int:
    match = _NUMBERED.match(run.name)
    return int(match[1]) if match else 0


def newest_unfinished(home: Path) -> RunFolder | None:
    for path in reversed(known_runs(home)):
        run = RunFolder(path)
        with contextlib.suppress(RunError):  # a damaged status.json of some other run
            if run.status()["state"] in ("stopped", "failed"):
                return run
    return None


def count_test(key: str, run: Path, home: Path) -> int:
    """Enter in the ledger that `run` scored the test rows with this content hash; how many runs have by now.

    A run is known by the id in its status.json: moved, it counts once; repeated in the same place, again.
    """
    folder = RunFolder(run)
    status = read_json(folder.status_file) if folder.status_file.is_file() else {}
    name = str(status.get("id") or run.resolve())
    ledger = home / "tests.jsonl"
    runs = {line.get("run") for line in read_log(ledger) if line.get("test") == key}
    if name not in runs:
        with contextlib.suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            _append(ledger, {"test": key, "run": name, "time": time.time()})
        runs |= {name} | {line.get("run") for line in read_log(ledger) if line.get("test") == key}
    return len(runs)
