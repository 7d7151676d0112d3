"""A ladder's page: one table and one plot of what every method reaches and what it costs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import write_text
from ...records import Table
from ..scores.compare import difference_words
from ..scores.measures import as_text, difference_text, interval_text, measure
from .content import count_text, memory_text, time_text
from .filled import fill
from .plots import rungs_plot
from .tables import show_table


@dataclass
class RungFacts:
    """One line of a ladder: a run, or a baseline (`run` is "", and it costs nothing).

    `validation` and `score` are the deciding score on the validation and the test rows; `interval` and `difference`
    (of the score `difference_of`, to the best rung) belong to the test.
    """

    name: str
    run: str
    validation: float | None
    score: float | None
    interval: Sequence[float] | None = None
    verdict: str = ""
    trained_parameters: int = 0
    parameters: int = 0
    seconds: float = 0.0
    peak_memory: int = 0
    difference: Sequence[float] | None = None
    difference_of: str = ""


LONGEST = 1_000  # characters of one text
HEADER = ("rung", "validation", "test", "95 % interval", "trained", "time", "memory", "verdict")


def cells(one: RungFacts, primary: str) -> tuple[str, ...]:
    """A line of the table, in words."""
    share = f" ({one.trained_parameters / one.parameters:.2%})" if one.parameters and one.trained_parameters else ""
    return (
        one.name,
        "-" if one.validation is None else as_text(primary, one.validation),
        "-" if one.score is None else as_text(primary, one.score),
        "-" if one.interval is None else interval_text(primary, *one.interval),
        count_text(one.trained_parameters) + share if one.trained_parameters else "-",
        time_text(one.seconds) if one.seconds else "-",
        memory_text(one.peak_memory) or "-",
        one.verdict or "-",
    )


def write_rungs(
    path: Path, title: str, primary: str, facts: Sequence[RungFacts], left_out: Sequence[Mapping[str, Any]]
) -> None:
    """Write the page: a file that needs no other and no network."""
    from markupsafe import Markup

    best = next((one for one in facts if one.run), None)
    others = [
        (one.name, difference_text(one.difference_of, (one.difference[0], one.difference[1], one.difference[2])))
        for one in facts
        if one.difference is not None and len(one.difference) == 3 and not math.isnan(one.difference[0])
    ]
    better = measure(primary).higher_is_better
    ahead = [
        one.name
        for one in facts
        if best and best.score is not None and one.score is not None and one is not best
        if (one.score > best.score if better else one.score < best.score)
    ]
    level = [one.name for one in facts if best and one.run and one is not best and one.validation == best.validation]
    reports = {
        one.name: Path(os.path.relpath(Path(one.run) / "report.html", path.parent)).as_posix() if one.run else ""
        for one in facts
    }
    table = Table("All rungs", HEADER, tuple(cells(one, primary) for one in facts))
    shown = fill(
        "report/rungs.html",
        LONGEST,
        title=title,
        measure=measure(primary).name,
        best=best,
        table=show_table(table),
        plot=Markup(rungs_plot(facts, primary)),
        others=others,
        others_of=difference_words(next((one.difference_of for one in facts if one.difference is not None), "")),
        ahead=ahead,
        level=level,
        reports=reports,
        left_out=left_out,
    )
    write_text(path, shown)
