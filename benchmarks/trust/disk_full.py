"""B5: where the disk fills up, nothing half-made stands under a name, the last checkpoint loads, the run goes on."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import kill
import small_disk
from bars import Bar, Trial
from disk_twins import TELLING, TWINS, put_in
from filled import FILES, half_made
from nursery import the_nursery
from small_disk import SmallDisk

from luthier.runs import RunFolder
from luthier.training.checkpoint import complete, newest

__all__ = ["BAR", "TWINS", "put_in"]  # the nursery puts a bug in by this module's name

PLAYED = "LUTHIER_TRUST_PLAYED_DISK"
"""Set to 1, the disk is played even where one could be mounted."""

FREE = re.compile(r"[\d,]+ bytes are free")
NEEDED = re.compile(r"[\d,]+ (bytes )?are needed")


@dataclass(frozen=True)
class Point:
    """A moment in a run: the disk fills before the call of `path` in `module` whose number is drawn from `calls`, with
    less than `left` bytes left. `back`: there is room again after so many seconds. `until`: only what the log
    lies on is full, for so many calls, among which no checkpoint is saved.
    """

    module: str
    path: str
    calls: tuple[int, int]
    left: int
    back: float | None = None
    until: int = 0

    @property
    def ends(self) -> bool:
        """Whether the run is to reach its end."""
        return self.back is not None or self.until > 0

    def draw(self, draw: random.Random) -> int:
        low, high = self.calls
        free = [n for n in range(low, high + 1) if all(m % 7 and m % 10 for m in range(n, n + self.until))]
        return draw.choice(free)


LOOP, CHECKPOINT, JOB, PROVE = (
    f"luthier.{name}" for name in ("training.loop", "training.checkpoint", "run.job", "run.prove")
)
IN_RUN = {
    "before": Point(JOB, "Job.encode", (1, 1), 300_000),
    "save": Point(CHECKPOINT, "publish", (3, 9), 60_000),
    "in a save": Point(CHECKPOINT, "save_file", (7, 24), 4_000),
    "save, then room": Point(CHECKPOINT, "publish", (2, 9), 60_000, back=0.5),
    "step": Point(LOOP, "_Stepper.step", (9, 55), 1_000),
    "log alone, then room": Point(LOOP, "_Stepper.step", (9, 55), 1, until=3),
    "predictions": Point(PROVE, "_write_predictions", (1, 2), 1_000),
    "model": Point(JOB, "Job.save", (1, 1), 40_000),
    "tokenizer": Point("transformers", "PreTrainedTokenizerBase.save_pretrained", (1, 1), 6_000),
    "report": Point(PROVE, "write_report", (1, 1), 20_000),
}


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """Every point in turn, in an order that is drawn. A bug is looked for at the point that tells."""
    draw, ground = random.Random(seed), the_ground()
    points = [TELLING[twin]] if twin else draw.sample([*IN_RUN, *FILES], len(IN_RUN) + len(FILES))
    kinds = kill.KINDS[: 1 + count // len(points) if not twin else 1]
    for point in itertools.islice(itertools.cycle(points), count):
        try:
            if point in FILES:
                yield _file_trial(ground, point, draw, twin)
            else:
                yield _run_trial(ground, point, draw.choice(kinds), draw, twin)
        finally:
            ground.disk.empty()


class Ground:
    """The tiny models and runs of the other bars, and a disk."""

    def __init__(self) -> None:
        self.stage = kill.the_stage()
        self.disk = SmallDisk(self.stage.folder / "disk", real=os.environ.get(PLAYED) != "1")

    def wait(self, arguments: list[str], home: Path, log: Path, rows: Path | None, orders: str) -> int:
        """The exit code; -1 after two minutes."""
        child = the_nursery().start(arguments, home=home, log=log, module=__name__, twin=orders, rows=rows)
        try:
            return child.wait()
        except TimeoutError:
            return -1

    def orders(self, twin: str, **more: object) -> str:
        return f"{twin}+{json.dumps({'folder': str(self.disk.folder), 'real': self.disk.real, **more})}"

    def make_room(self) -> None:
        small_disk.make_room(self.disk.folder)

    def told(self, what: str, left: int) -> str:
        return f"{what}, {left:,} bytes left on {'a disk of its own' if self.disk.real else 'a played disk'}"


@cache
def the_ground() -> Ground:
    return Ground()


def _run_trial(ground: Ground, point: str, kind: tuple[str, str], draw: random.Random, twin: str) -> Trial:
    at, whole, stage = IN_RUN[point], ground.stage.reference(kind), ground.stage
    aside = stage.next_run()
    run = ground.disk.folder / aside.name
    home, log, rows, saved = (aside.with_suffix(f".{end}") for end in ("home", "log", "rows", "saved"))
    call, left = at.draw(draw), draw.randrange(at.left)
    name = ground.told(f"{'-'.join(kind)}, {point}, at call {call}", left)
    begin = ["train", str(stage.recipe(kind)), "--out", str(run)]
    strike = {"module": at.module, "path": at.path, "call": call, "left": left, "back": at.back, "until": at.until}
    code = ground.wait(begin, home, log, rows, ground.orders(twin, **strike, run=str(run), saved=str(saved)))
    said = log.read_text()
    if at.ends:
        ground.make_room()
        fault = f"there was room again, and it left with {code}: {said[-400:]}" if code else ""
        return Trial(name, fault or kill.differs(run, rows, whole))
    fault = half_made(run) or _not_kept(run, saved) or not_said(code, said, run, needed=True)
    if not fault and point == "before" and ("no room for this run" not in said or (run / "model").exists()):
        fault = f"it was not refused before it began: {said[-400:]}"
    ground.make_room()
    if fault:
        return Trial(name, fault)
    begun = RunFolder(run).recipe.is_file() and RunFolder(run).status_file.is_file()
    code = ground.wait(["resume"] if begun else begin, home, log, rows, "")
    return Trial(name, f"resume left with {code}: {log.read_text()[-400:]}" if code else kill.differs(run, rows, whole))


def _not_kept(run: Path, saved: Path) -> str:
    """What was wrong with the checkpoints: the last one that was saved must be there and load."""
    last = ["", *saved.read_text().split()][-1] if saved.exists() else ""
    found = newest(run / "checkpoints")
    if last and (found is None or found.name != last):
        return f"{last} was saved; the newest that loads is {found and found.name}"
    if len(complete(run / "checkpoints")) > kill.KEPT + 1:
        return "more checkpoints than are to be kept"
    return ""


def _file_trial(ground: Ground, what: str, draw: random.Random, twin: str) -> Trial:
    """A command that writes files which are no run's; with room it does what it could not."""
    aside = ground.stage.next_run()
    log, home = aside.with_suffix(".log"), aside.with_suffix(".home")
    one = FILES[what](ground.stage, ground.disk.folder)
    left = draw.randrange(one.left)
    name = ground.told(what, left)
    home = one.home or home
    code = ground.wait(one.arguments, home, log, None, ground.orders(twin, left=left))
    fault = half_made(ground.disk.folder) or not_said(code, log.read_text(), ground.disk.folder, needed=one.needed)
    if not fault and one.final.exists():
        fault = f"{one.final.name} is there"
    ground.make_room()
    if fault:
        return Trial(name, fault)
    code = ground.wait(one.arguments, home, log, None, "")
    if code or not one.final.exists():
        return Trial(name, f"with room it left with {code}: {log.read_text()[-400:]}")
    return Trial(name, half_made(ground.disk.folder))


def not_said(code: int, said: str, folder: Path, *, needed: bool) -> str:
    """What the exit code or the message lacks: a path in `folder`, the free bytes and those needed."""
    plain = " ".join(said.split())
    if code != 4 or "Traceback" in said:
        return f"it left with {code}: {said[-600:]}"
    if not FREE.search(plain) or "Fix: " not in plain or (needed and not NEEDED.search(plain)):
        return f"the message does not say it all: {said[-600:]}"
    if str(folder) not in "".join(said.split()):
        return f"the message does not name the place: {said[-600:]}"
    return ""


BAR = Bar(
    "disk_full",
    "A full disk ends in exit code 4, path, needed and free bytes; nothing is half-made, and with room it goes on.",
    32,
    trials,
    TWINS,
)
