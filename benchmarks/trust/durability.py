"""B4: after a power cut the newest checkpoint that was published is there and loads, and the run goes on from it.

A power cut is played: the process is killed at a file operation, then whatever was not forced to the disk is lost. Of
a file that was never synced, or has grown since, some bytes are cut off or become zeros; of the renames in a folder
since it was last synced the last ones are undone. What a real file system loses lies between nothing and that.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kill
from bars import Bar, Trial
from nursery import the_nursery

from luthier.errors import RunError
from luthier.files import verified
from luthier.runs import RunFolder
from luthier.training.checkpoint import newest


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    draw, stage = random.Random(seed), kill.the_stage()
    for number in range(count):
        kind = kill.KINDS[number % len(kill.KINDS)]
        whole = stage.reference(kind)
        inside = number % 5 < 3
        at = draw.randint(1, whole.in_window if inside else whole.operations)
        yield _trial(stage, kind, {"in": kill.WINDOW if inside else "", "at": at}, draw, twin)


def _trial(stage: kill.Stage, kind: tuple[str, str], cut: dict[str, Any], draw: random.Random, twin: str) -> Trial:
    run = stage.next_run()
    home, log, rows, ledger = (run.with_suffix(f".{end}") for end in ("home", "log", "rows", "ledger"))
    told = f"{'-'.join(kind)} cut {cut}"
    begin = ["train", str(stage.recipe(kind)), "--out", str(run)]
    bug = f"{twin}+{ledger}"
    child = the_nursery().start(
        begin, home=home, log=log, module=__name__, twin=bug, cut=cut, watch=run.resolve(), rows=rows
    )
    try:
        code = child.wait()
    except TimeoutError as error:
        return Trial(told, str(error))
    if code != -9:
        return Trial(told, f"it left with {code}: {log.read_text()[-400:]}")
    entries = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    committed = _committed(entries, run / "checkpoints")
    lost = power_cut(run, entries, draw)
    found = newest(run / "checkpoints")
    if committed and (found is None or found.name < committed):
        return Trial(told, f"{committed} had been published; now the newest is {found and found.name}; lost: {lost}")
    with contextlib.suppress(FileNotFoundError):
        if (run / "model").exists():
            try:
                verified(run / "model")
            except RunError as error:
                return Trial(told, f"model/ has its name and is not whole: {error}; lost: {lost}")
    begun = _readable(run)
    child = the_nursery().start(["resume"] if begun else begin, home=home, log=log, rows=rows)
    try:
        code = child.wait()
    except TimeoutError as error:
        return Trial(told, str(error))
    if code:
        return Trial(told, f"afterwards it left with {code}: {log.read_text()[-500:]}; lost: {lost}")
    return Trial(told, kill.differs(run, rows, stage.reference(kind)))


def _readable(run: Path) -> bool:
    """Whether the run got so far that it can be resumed; before that, it is begun again."""
    folder = RunFolder(run)
    try:
        return folder.recipe.is_file() and folder.status_file.is_file() and folder.status()["state"] == "stopped"
    except RunError:
        return True


def _committed(entries: list[dict[str, Any]], checkpoints: Path) -> str:
    """The newest checkpoint whose rename to its final name was followed by a sync of the folder."""
    waiting, done = [], ""
    for entry in entries:
        path = Path(entry["path"])
        if entry["op"] == "rename" and path.parent == checkpoints and path.name.startswith("step-"):
            waiting.append(path.name)
        if entry["op"] == "sync" and path == checkpoints:
            done, waiting = max([done, *waiting]), []
    return done


def power_cut(run: Path, entries: list[dict[str, Any]], draw: random.Random) -> list[str]:
    """Lose what was not forced to the disk under `run`; what that was."""
    lost = []
    synced_folder: dict[str, int] = {}
    size_of: dict[int, int] = {}
    for number, entry in enumerate(entries):
        if entry["op"] == "sync":
            synced_folder[entry["path"]] = number
            size_of[entry["inode"]] = entry["size"]
    by_folder: dict[str, list[dict[str, Any]]] = {}
    for number, entry in enumerate(entries):
        folder = str(Path(entry["path"]).parent)
        if entry["op"] == "rename" and number > synced_folder.get(folder, -1):
            by_folder.setdefault(folder, []).append(entry)
    for renames in by_folder.values():
        for entry in reversed(renames[draw.randint(0, len(renames)) :]):
            target, source = Path(entry["path"]), Path(entry["source"])
            if target.exists() and source.parent.exists() and not source.exists():
                target.rename(source)
                lost.append(f"the name {target.name}")
                if entry["backup"]:
                    os.link(entry["backup"], target)
    for path in sorted(run.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        facts = path.stat()
        kept = size_of.get(facts.st_ino, 0)
        if facts.st_size > kept:
            data = path.read_bytes()
            length = draw.randint(kept, facts.st_size)
            path.write_bytes(data[:length] + (b"\0" * (len(data) - length) if draw.random() < 0.5 else b""))
            lost.append(f"{len(data) - length} bytes of {path.relative_to(run)}")
    return lost


TWINS = {
    "files-not-synced": "files of a checkpoint are not forced to the disk before it is published",
    "log-not-synced": "the log is not forced to the disk before a checkpoint is published",
    "status-in-place": "status.json is written in place",
}


def put_in(twin: str) -> None:
    """In this process: a ledger of syncs and renames, and the bug."""
    bug, _, ledger = twin.partition("+")
    _keep_ledger(Path(ledger))
    from luthier import files, runs

    if bug == "files-not-synced":
        sync = files.sync

        def only_folders(path: Path) -> None:
            if path.is_dir():
                sync(path)

        files.sync = only_folders
    elif bug == "log-not-synced":
        runs.RunFolder.sync_events = lambda self: None  # type: ignore[method-assign]
    elif bug == "status-in-place":

        def in_place(path: Path, value: Any) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files.json_text(value, indent=1) + "\n")

        runs.write_json = in_place


class Ledger:
    """What this process has forced to the disk, and what it has renamed, a line each."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.shadow = path.with_suffix(".shadow")
        self.count = itertools.count()

    def append_line(self, entry: dict[str, Any]) -> None:
        os.write(self.file, f"{json.dumps(entry)}\n".encode())

    def backup(self, path: str) -> str:
        """A second name for the file that a rename is about to replace."""
        self.shadow.mkdir(exist_ok=True)
        place = self.shadow / str(next(self.count))
        os.link(path, place)
        return str(place)


LEDGER: Ledger


def _keep_ledger(path: Path) -> None:
    global LEDGER
    LEDGER = Ledger(path)
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def noted_fsync(handle: int) -> None:
        fsync(handle)
        facts = os.fstat(handle)
        place = str(Path(f"/proc/self/fd/{handle}").readlink())
        LEDGER.append_line({"op": "sync", "path": place, "inode": facts.st_ino, "size": facts.st_size})

    def noting(real: Callable[..., None]) -> Callable[..., None]:
        def noted(source: Any, target: Any, **others: Any) -> None:
            backup = LEDGER.backup(os.fspath(target)) if Path(target).is_file() else ""
            real(source, target, **others)
            LEDGER.append_line({"op": "rename", "path": str(target), "source": str(source), "backup": backup})

        return noted

    os.fsync, os.rename, os.replace = noted_fsync, noting(rename), noting(replace)


BAR = Bar(
    "durability",
    "After a power cut the newest published checkpoint loads, and the run ends as if there had been none.",
    50,
    trials,
    TWINS,
)
