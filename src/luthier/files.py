"""Files that are whole or not there: staged beside their final name, synced to disk, put in place by one rename.

Logs are appended to line by line; a crash may cut a line, and their readers skip it. JSON holds no NaN.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import ResourceError, RunError
from .processes import alive

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


RESUME = "make room, then `luthier resume`; what was saved before is intact"


@contextlib.contextmanager
def disk_errors(path: Path, needed: int = 0, fix: str = RESUME) -> Iterator[None]:
    """A full disk as a ResourceError that names the path, the free bytes and, where known, those needed.

    Any other error of a file that is only staged is told of `path`, the name that a person knows.
    """
    try:
        yield
    except Exception as error:
        problem = no_room(error)
        if problem is None and isinstance(error, OSError) and _of_staging(error.filename):
            raise OSError(error.errno, error.strerror, str(path)) from None
        if problem is None:
            raise
        raise _NoRoom(problem, free_bytes(path), needed, path, fix) from None


def require_room(path: Path, needed: int, fix: str = RESUME) -> None:
    """ResourceError, as `disk_errors` says it, unless the disk of `path` has `needed` bytes free."""
    free = free_bytes(path)
    if free < needed:
        raise _NoRoom(os.strerror(errno.ENOSPC), free, needed, path, fix)


def free_bytes(path: Path) -> int:
    """What may still be written where `path` is, or would be."""
    place = next(p for p in (path, *path.absolute().parents) if p.exists())
    return shutil.disk_usage(place).free


class _NoRoom(ResourceError):
    def __init__(self, problem: str, free: int, needed: int, path: Path, fix: str) -> None:
        self.problem = problem
        room = f"{free:,} bytes are free" + (f", {needed:,} are needed" if needed else "")
        super().__init__(f"there is no room to save this ({problem}; {room})", where=str(path), fix=fix)


def no_room(error: Exception) -> str | None:
    """The system's word for a full disk if `error` is one; safetensors and tokenizers give its number as text.

    A file in a folder that is being published may say it first: the folder then says it again, of itself.
    """
    if isinstance(error, _NoRoom):
        return error.problem
    number = error.errno if isinstance(error, OSError) else None
    if type(error).__name__ in ("SafetensorError", "Exception") and (match := re.search(r"os error (\d+)", str(error))):
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


def write_new(path: Path, write: Callable[[Path], None], needed: int = 0) -> bool:
    """Let `write` fill a file beside `path`, and give it that name once it is whole; False if the name is taken."""
    part = _marked(STAGING, path)
    with disk_errors(path, needed, fix="make room; nothing was written"):
        try:
            write(part)
            sync(part)
            try:
                os.link(part, path)  # a rename would replace what another process has made meanwhile
            except FileExistsError:
                return False
            except (OSError, AttributeError) as error:
                if isinstance(error, OSError) and no_room(error):
                    raise
                if path.exists():
                    return False
                part.rename(path)  # a file system without links
        finally:
            part.unlink(missing_ok=True)
        sync(path.parent)
    return True


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
        raise RunError(f"it cannot be read ({problem})", where=str(path), fix=COPY_AGAIN) from None


COPY_AGAIN = "copy it again from where it was made, or repeat the run"


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"it is damaged ({error})", where=where, fix=COPY_AGAIN) from None


@contextlib.contextmanager
def as_written(path: Path) -> Iterator[None]:
    """For taking values out of a file of ours that was read: one that is missing or of another kind is a RunError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        said = " ".join(str(error).split())[:160]
        raise RunError(f"it is damaged ({type(error).__name__}: {said})", where=str(path), fix=COPY_AGAIN) from None


def append(path: Path, value: Mapping[str, Any]) -> None:
    """Add a line to a log, or nothing of it where the disk has no room. One that a crash cut is ended first."""
    with path.open("ab+", buffering=0) as file:
        if end := file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            cut = file.read(1) != b"\n"
        else:
            cut = False
        line = memoryview(b"\n" * cut + json_text(value).encode("utf-8", "surrogatepass") + b"\n")
        done = 0
        try:
            while done < len(line):
                done += file.write(line[done:])
        except OSError:
            with contextlib.suppress(OSError):  # a device cannot be cut
                if done and file.seek(0, os.SEEK_END) == end + done:
                    file.truncate(end)
            raise


def publish(folder: Path, write: Callable[[Path], None], *, replace: bool = False, size: int = 0) -> None:
    """Let `write` fill a staging folder, sync all of it, and give it the final name by one rename.

    manifest.json, written last, holds the sha256 of every file. With `replace`, what stood under the name
    goes only when the new folder is whole. `size` is about how many bytes `write` writes: if there is no room for
    them nothing is begun, and it is said.
    """
    staging = _marked(STAGING, folder)
    with disk_errors(folder, size):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        require_room(folder, size)
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
        raise RunError("it is damaged (no list of files)", where=str(place), fix=COPY_AGAIN)
    for name, expected in manifest.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise RunError(f"it names {name!r}, which is no file of its folder", where=str(place), fix=COPY_AGAIN)
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
        if match is None or (int(match[2]) != os.getpid() and alive(int(match[2]))):
            continue
        if match[1] == REPLACED and not (folder / match[3]).exists():
            path.rename(folder / match[3])
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def is_staging(path: Path) -> bool:
    """Whether it is something that `publish` was busy with."""
    return _MARKED.fullmatch(path.name) is not None


def _of_staging(name: Any) -> bool:
    """Whether a path is, or lies in, something that has its final name still to come."""
    return isinstance(name, (str, Path)) and any(_MARKED.fullmatch(part) for part in Path(name).parts)


def _marked(marker: str, path: Path) -> Path:
    """A name beside `path` that says whose it is and that it is not final."""
    return path.with_name(f"{marker}{os.getpid()}-{path.name}")
