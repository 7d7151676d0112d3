"""A disk that is full: a file system of some megabytes where this process may mount one, else one that is played.

Someone else's files take the room, all but what is to be left, at a moment that the caller chooses.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import errno
import io
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SIZE = 48_000_000
BALLAST = "others.bin"


class SmallDisk:
    """A folder on a disk of its own, if root is at hand. `real`: whether it is."""

    def __init__(self, folder: Path, *, real: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.real = real and _mount(folder)
        if self.real:
            atexit.register(self.close)

    def close(self) -> None:
        if self.real:
            self.real = False
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def empty(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


def fill(folder: Path, left: int) -> None:
    """Leave `left` bytes of the file system that `folder` is the top of."""
    taken = shutil.disk_usage(folder).free - left
    with (folder / BALLAST).open("wb") as file:
        if taken > 0:
            os.posix_fallocate(file.fileno(), 0, taken)


def make_room(folder: Path) -> None:
    (folder / BALLAST).unlink(missing_ok=True)


class Filler:
    """In a process under test: fills the disk of `folder` when called, and empties it again after `back` seconds.

    Of a disk that is only played, this process's writes below `folder` find what is left, in Python and in the
    libraries that save tensors; what is deleted makes room as it would.
    """

    def __init__(self, folder: Path, left: int, *, real: bool, back: float | None = None) -> None:
        self.folder, self.left, self.real, self.back = folder, left, real, back
        self.limit: int | None = None  # of the bytes below the folder
        if not real:
            self._play()

    def __call__(self) -> None:
        if self.real:
            fill(self.folder, self.left)
        else:
            self.limit = self._used() + self.left
        if self.back is not None:
            timer = threading.Timer(self.back, self.make_room)
            timer.daemon = True
            timer.start()

    def make_room(self) -> None:
        self.limit = None
        if self.real:
            make_room(self.folder)

    def free(self) -> int:
        return SIZE if self.limit is None else max(0, self.limit - self._used())

    def _used(self) -> int:
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def holds(self, place: Any) -> bool:
        return isinstance(place, (str, os.PathLike)) and Path(place).absolute().is_relative_to(self.folder)

    def _play(self) -> None:
        import safetensors.torch

        usage, real_open, save = shutil.disk_usage, io.open, safetensors.torch.serialize_file

        def played_usage(place: Any) -> Any:
            return SimpleNamespace(free=self.free()) if self.holds(place) else usage(place)

        def played_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if self.limit is None or not self.holds(file) or not set(mode) & set("wax+"):
                return real_open(file, mode, *args, **kwargs)
            return _opened(self, file, mode, *args, **kwargs)

        def played_save(data: Any, filename: Any, *args: Any, **kwargs: Any) -> None:
            from safetensors import SafetensorError

            free = self.free()
            save(data, filename, *args, **kwargs)
            if self.holds(filename) and self.limit is not None and Path(filename).stat().st_size > free:
                os.truncate(filename, free)
                raise SafetensorError("I/O error: No space left on device (os error 28)")

        shutil.disk_usage = played_usage
        io.open = builtins.open = played_open  # type: ignore[assignment]
        safetensors.torch.serialize_file = played_save


class _Raw(io.FileIO):
    """A file on a disk with so much room left."""

    disk: Filler

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        room = len(view) if self.disk.limit is None else min(len(view), self.disk.free())
        if view and not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(view[:room])


def _opened(
    disk: Filler,
    file: Any,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *rest: Any,
) -> Any:
    raw = _Raw(file, mode.replace("b", "").replace("t", ""))
    raw.disk = disk
    if buffering == 0:
        return raw
    kind: Callable[[Any], Any] = io.BufferedRandom if "+" in mode else io.BufferedWriter
    buffered = kind(raw)
    return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)
