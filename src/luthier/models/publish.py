"""Staged first, published by one rename: nothing half-made ever lies under a final name of the cache."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from luthier.files import disk_errors, sha256_of

from ..errors import InputError

Say = Callable[[str], None]
MANIFEST = "luthier.json"
MAKE_ROOM = "free some space, or set LUTHIER_HOME to a folder on another disk"


@contextmanager
def publishing(final: Path, say: Say) -> Iterator[Path]:
    """A staging folder beside `final`, for one process at a time; removed at the end whatever happened."""
    try:
        with disk_errors(final.parent, fix=MAKE_ROOM):
            final.parent.mkdir(parents=True, exist_ok=True)
            with _locked(final.parent / f".{final.name}.lock", say):
                for stale in final.parent.glob(f".{final.name}.staging-*"):
                    shutil.rmtree(stale, ignore_errors=True)  # left by a process that was killed: we hold its lock
                stage = Path(tempfile.mkdtemp(prefix=f".{final.name}.staging-", dir=final.parent))
                try:
                    yield stage
                finally:
                    shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the cache folder cannot be written ({error.strerror or error})",
            where=str(error.filename or final.parent),
            fix="set LUTHIER_HOME to a folder you can write to",
        ) from None


def publish(staged: Path, final: Path) -> None:
    """Rename `staged` to `final`; an incomplete folder that lay there goes away with the staging folder."""
    if final.exists():
        old = staged.parent / "old"
        final.rename(old)
    staged.rename(final)


def write_manifest(folder: Path, **facts: str | None) -> None:
    """`luthier.json`: where the folder comes from and the length and sha256 of every file in it."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=1) + "\n", "utf-8")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What luthier wrote about a folder it fetched or converted; None for any other folder."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Held by one process at a time; the system lets go if it dies. Without fcntl the rename decides."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = path.name.removeprefix(".").removesuffix(".lock")
            say(f"Another luthier is fetching {name}; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: the rename decides
        yield
