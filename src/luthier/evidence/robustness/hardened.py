"""Does training under changes of embeddings make a model sturdier? Two runs on the same rewritten rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...records import Finding
from ..scores.intervals import difference_interval, resample, sum_by_group
from ..scores.paired_tests import paired_p
from .perturbed import OPPOSITE

Line = Mapping[str, Any]  # of robustness.jsonl
FEWEST = 20  # test rows that both runs answered, rewritten alike


def not_shown(what: str, command: str) -> Finding:
    """That nothing tells, and how it would be shown. `what`: "train.adversarial: fgm"."""
    said = f"It was trained with {what}. Whether that made it sturdier is not shown: no run without it that could be "
    said += "compared is here."
    remedy = f"Train the same without it, whose report then says so: {command}"
    return Finding("hardening-not-shown", "note", said, {"setting": what}, remedy=remedy)


def hardening(what: str, plain: str, with_it: Sequence[Line], without: Sequence[Line], seed: int = 0) -> Finding | None:
    """The run trained with `what` beside the run `plain` without it: mean quality on rewritten rows, paired by row, and
    on the same rows as they are. None where they did not answer enough rows rewritten alike.
    """
    key = lambda line: (line["id"], line["kind"], line["content"])
    theirs = {key(line): line for line in without if line["kind"] != OPPOSITE}
    pairs = [(line, theirs[key(line)]) for line in with_it if key(line) in theirs]
    if len({ours["id"] for ours, _ in pairs}) < FEWEST:
        return None
    rewritten = _difference([(ours["unit"], ours["quality"], other["quality"]) for ours, other in pairs], seed)
    once = {ours["id"]: (ours["unit"], ours["before"], other["before"]) for ours, other in pairs}
    clean = _difference(list(once.values()), seed)
    numbers = {"run": plain, "setting": what, "rows": len(once), "rewritten": rewritten, "as_they_are": clean}
    _, low, high = rewritten["difference"]
    kinds = ", ".join(dict.fromkeys(str(ours["kind"]) for ours, _ in pairs))
    told = (
        f"on {len(once):,} test rows written differently ({kinds}) {_told(rewritten)}; on the same rows as they are "
        f"{_told(clean)}"
    )
    if low > 0:
        said = f"Training with {what} made it sturdier than {plain}, the same without it: {told}."
        return Finding("hardening-helps", "note", said, numbers)
    remedy = f"Leave {what} out: it costs time and brings nothing that shows."
    if high < 0:
        said = f"Training with {what} made it worse than {plain}, the same without it: {told}."
        return Finding("hardening-hurts", "warning", said, numbers, remedy=remedy)
    said = f"Training with {what} is not shown to make it sturdier than {plain}, the same without it: {told}."
    return Finding("hardening-level", "note", said, numbers, remedy=remedy)


def _difference(rows: Sequence[tuple[Any, float, float]], seed: int) -> dict[str, Any]:
    """Of (unit, quality with, quality without): both means, their difference [mean, low, high], and its p-value."""
    units = [str(unit) for unit, _, _ in rows]
    ours, theirs = (np.array([row[place] for row in rows], dtype=np.float64) for place in (1, 2))
    one = np.ones(len(rows))
    counts = {
        name: sum_by_group(np.stack([one, q], axis=1), units) for name, q in (("with", ours), ("without", theirs))
    }
    draws = resample(counts, lambda sums: {"quality": sums[..., 1] / sums[..., 0]}, seed)
    difference = difference_interval(
        float(ours.mean() - theirs.mean()),
        draws["with"]["quality"] - draws["without"]["quality"],
        units=len(counts["with"]),
        different=int((counts["with"] != counts["without"]).any(axis=1).sum()),
    )
    return {
        "with": float(ours.mean()),
        "without": float(theirs.mean()),
        "difference": list(difference),
        "p": paired_p(ours, theirs, units, seed),
    }


def _told(found: Mapping[str, Any]) -> str:
    mean, low, high = (100 * value for value in found["difference"])
    return (
        f"{100 * found['with']:.1f} % against {100 * found['without']:.1f} %, {mean:+.1f} points (95 % interval "
        f"{low:+.1f} to {high:+.1f})"
    )
