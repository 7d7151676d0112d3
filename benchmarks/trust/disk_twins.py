"""The bugs that the bar of a full disk must notice, and how the disk is filled in a process under test."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from places import at_call
from small_disk import Filler

TWINS = {
    "in-place": "files of a checkpoint are written under its final name",
    "no-check": "the room for a run is not looked at before it begins",
    "passed-over": "a checkpoint that could not be saved is passed over",
    "words-not-known": "what safetensors says of a full disk is not known",
    "old-first": "the old checkpoints are deleted before the new one is written",
    "log-lost": "lines of the log that find no room are dropped",
    "copy-in-place": "a repaired copy is written under its final name",
}
TELLING = {
    "in-place": "in a save",
    "no-check": "before",
    "passed-over": "save",
    "words-not-known": "in a save",
    "old-first": "save",
    "log-lost": "log alone, then room",
    "copy-in-place": "fix-offsets",
}


def put_in(twin: str) -> None:
    """In this process: the bug, and the disk that fills up at the moment that the orders name."""
    bug, _, said = twin.partition("+")
    if bug:
        _put_bug(bug)
    if not said:
        return
    orders: dict[str, Any] = json.loads(said)
    filler = Filler(Path(orders["folder"]), orders["left"], real=orders["real"], back=orders.get("back"))
    if "module" not in orders:
        filler()
        return
    from luthier.evidence.report import page as report
    from luthier.run import prove
    from luthier.training import loop

    loop.DISK_WAIT, loop.DISK_PAUSE = (0.3, 0.1) if filler.back is None else (20.0, 0.1)
    if orders["path"] == "write_report":  # the nursery may have put a shorter one there
        prove.write_report = report.write_report
    _note_saves(Path(orders["saved"]))
    place, call = (orders["module"], orders["path"]), orders["call"]
    if orders["until"]:
        log = FullLog(Path(orders["run"]) / "events.jsonl")
        at_call(*place, call, log.fill)
        at_call(*place, call + orders["until"], log.make_room)
    else:
        at_call(*place, call, filler)


class FullLog:
    """The log on a disk that is full, all else on another."""

    def __init__(self, path: Path) -> None:
        self.path, self.aside = path, path.with_suffix(".aside")

    def fill(self) -> None:
        self.path.rename(self.aside)
        self.path.symlink_to("/dev/full")

    def make_room(self) -> None:
        self.path.unlink()
        self.aside.rename(self.path)


def _note_saves(path: Path) -> None:
    """Write the name of each checkpoint that `save` gives back, on another disk."""
    from luthier.training import checkpoint

    save = checkpoint.save
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def noted(*args: Any) -> Path:
        done = save(*args)
        os.write(file, f"{done.name}\n".encode())
        return done

    checkpoint.save = noted


def _put_bug(bug: str) -> None:
    from luthier import files, runs
    from luthier.errors import ResourceError
    from luthier.training import checkpoint

    save = checkpoint.save
    if bug == "in-place":

        def publish(folder: Path, write: Any, *, replace: bool = False, size: int = 0) -> None:
            with files.disk_errors(folder, size):
                folder.mkdir(parents=True, exist_ok=True)
                write(folder)
                inside = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.json")
                files.write_json(folder / "manifest.json", {p.name: files.sha256_of(p) for p in inside})

        checkpoint.publish = publish
    elif bug == "no-check":
        from luthier.run import disk

        disk.require_disk = lambda *args: None
    elif bug == "passed-over":

        def careless(folder: Path, position: Any, *rest: Any) -> Path:
            try:
                return save(folder, position, *rest)
            except ResourceError:
                return folder / f"step-{position.step:06d}"

        checkpoint.save = careless
    elif bug == "words-not-known":
        files.no_room = lambda error: os.strerror(error.errno) if getattr(error, "errno", 0) == 28 else None
        files.require_room = lambda *args: None
    elif bug == "old-first":

        def wasteful(folder: Path, *rest: Any) -> Path:
            for old in checkpoint.complete(folder):
                checkpoint.discard(old)
            return save(folder, *rest)

        checkpoint.save = wasteful
    elif bug == "log-lost":

        def add_event(self: Any, event: Any) -> None:
            with contextlib.suppress(OSError):
                files.append(self.events, {**event, "time": 0.0})

        runs.RunFolder.add_event = add_event  # type: ignore[method-assign]
    elif bug == "copy-in-place":
        from luthier.data.checking import offsets

        def write_new(path: Path, write: Any, needed: int = 0) -> bool:
            with files.disk_errors(path, needed):
                write(path)
            return True

        offsets.write_new = write_new
    else:
        raise ValueError(bug)
