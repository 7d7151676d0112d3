"""Test rows asked again with the groups in their texts swapped: once after every run, and by every audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.evidence.bias.counterfactual import Pair, Swapped, make_pairs, measure_swaps
from luthier.evidence.bias.terms import Terms
from luthier.records import Answer, Row
from luthier.tasks import Task

WHAT = "answering rows with groups swapped"


@dataclass(frozen=True)
class Asked:
    """Rows and the answers they were given; `together` tells which rows are one unit."""

    task: Task
    rows: Sequence[Row]
    answers: Sequence[Answer]
    together: Sequence[int] | None
    seed: int


def swap(
    asked: Asked, lists: Terms, predict: Callable[[Sequence[Row]], Sequence[Answer]], most: int
) -> tuple[list[Swapped], int]:
    """(what each axis did, pairs that were left out because there are more than `most`)."""
    task, form = asked.task, asked.task.form
    texts_alone = form.inputs == (form[form.target],)
    written = form[form.target].kind == "text" and not texts_alone
    pairs = make_pairs(asked.rows, form, lists.axes)
    if written:  # of long tests not every answer is written out
        pairs = [pair for pair in pairs if "ended" in asked.answers[pair.index].detail]
    kept = _drawn(pairs, most, asked.seed)
    if not kept:
        return [], 0
    told = predict([_unlabelled(pair.row, form.target) if written else pair.row for pair in kept])
    spread = float(task.state.get("std") or 1.0)
    found = measure_swaps(kept, asked.rows, asked.answers, told, form, asked.together, asked.seed, spread)
    return found, len(pairs) - len(kept)


def _drawn(pairs: Sequence[Pair], most: int, seed: int) -> list[Pair]:
    """At most `most`, an equal share of each axis as far as it has them."""
    if len(pairs) <= most:
        return list(pairs)
    draw = np.random.default_rng(seed)
    axes = list(dict.fromkeys(pair.axis.name for pair in pairs))
    kept: set[int] = set()
    for number, name in enumerate(sorted(axes, key=lambda one: sum(pair.axis.name == one for pair in pairs))):
        own = [i for i, pair in enumerate(pairs) if pair.axis.name == name]
        share = (most - len(kept)) // (len(axes) - number)
        kept |= set(draw.permutation(own)[:share].tolist())
    return [pair for i, pair in enumerate(pairs) if i in kept]


def _unlabelled(row: Row, target: str) -> Row:
    return Row(row.id, {name: value for name, value in row.fields.items() if name != target}, row.file, row.line)
