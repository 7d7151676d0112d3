"""A run's answers put before a person, and what they said of them kept with the run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from luthier.errors import RunError
from luthier.evidence.report.judgements import Judgement, Summary, Word, summary
from luthier.evidence.report.page import with_judgements
from luthier.evidence.report.rows import Shown, show
from luthier.files import append, read_jsonl, read_log, sync, write_text
from luthier.records import Row
from luthier.training.events import Event

from .earlier import earlier_run
from .use import Run, saved_answer

Which = Literal["random", "worst", "confident", "best"]


@dataclass(frozen=True)
class Review:
    """Rows to look at, one after another. `written`: answers are texts, judged on scales too."""

    run: Run
    rows: tuple[Shown, ...]
    written: bool

    def left(self, by: str) -> list[Shown]:
        """Those that `by` has not judged."""
        done = {one.row for one in judgements(self.run) if one.by == by}
        return [row for row in self.rows if row.id not in done]

    def keep(self, row: str, by: str, word: Word, note: str = "", scales: dict[str, int] | None = None) -> None:
        """One judgement, on the disk before this returns."""
        file = self.run.folder.review
        append(file, Judgement(row, by, word, note, round(time.time(), 3), scales).as_json())
        sync(file)


def review(
    run: Run, which: Which = "random", count: int = 50, *, listen: Callable[[Event], None] | None = None
) -> Review:
    """Test rows of a finished run with its answers, chosen as `which` says, the same every time."""
    file = run.folder.predictions / "test.jsonl"
    if not file.is_file():
        raise RunError("it has no answers to test rows", where=str(run.path), fix="finish it, with data.test above 0")
    lines = {line["id"]: line for line in read_jsonl(file)}
    earlier = earlier_run(str(run.path.resolve()), run.path)
    rows = earlier.rows("test", listen or (lambda event: None)) if earlier is not None else []
    found = [row for row in rows if row.id in lines]
    form = run.task().form
    chosen = [
        show(row, saved_answer(lines[row.id]), float(lines[row.id]["quality"]), form)
        for row in _pick(found, lines, which)
    ]
    return Review(run, tuple(chosen[:count]), form[form.target].kind in ("text", "messages"))


def judgements(run: Run) -> list[Judgement]:
    """All that was said of the run's answers, oldest first; lines that cannot be read are passed over."""
    file = run.folder.review
    lines = read_log(file) if file.is_file() else []
    return [one for line in lines if (one := Judgement.from_json(line)) is not None]


def count_in_report(run: Run) -> Summary | None:
    """What people said, written into the run's report."""
    found = summary(judgements(run))
    report = run.folder.report
    if found is not None and report.is_file():
        write_text(report, with_judgements(report.read_text("utf-8"), found))
    return found


def me() -> str:
    """Who judges, where nobody says so: the name of the user of this machine."""
    return os.environ.get("USER") or os.environ.get("USERNAME") or "somebody"


def _pick(rows: Sequence[Row], lines: dict[str, Any], which: Which) -> list[Row]:
    quality = lambda row: float(lines[row.id]["quality"])
    sure = lambda row: float(lines[row.id]["confidence"])
    if which == "worst":
        return sorted(rows, key=lambda row: (quality(row), -sure(row)))
    if which == "best":
        return sorted(rows, key=lambda row: (-quality(row), -sure(row)))
    if which == "confident":
        return sorted((row for row in rows if quality(row) <= 0.5), key=lambda row: -sure(row))
    return Random(0).sample(list(rows), len(rows))
