"""Training rows made fairer: weighed, thinned out, or joined by their counterfactuals.

- Reweighting (Kamiran and Calders 2012, doi.org/10.1007/s10115-011-0463-8): a row of group g and label y weighs
  P(g) P(y) / P(g, y), so that group and label are independent in the weighted rows.
- Removal: rows are left out, drawn by a seed, until the same holds for their counts.
- Counterfactual augmentation (Lu et al. 2018, arxiv.org/abs/1807.11714): each row that names a group stands beside its
  swapped copy, with the same label.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np

from luthier.errors import InputError
from luthier.records import Form, Row

from .counterfactual import make_pairs, texts_of
from .terms import Axis

BANDS = 4  # that numbers are cut into to stand for labels


def groups_of(rows: Sequence[Row], form: Form, by: str | Axis) -> list[str]:
    """Each row's group: its value in a column, or the one group of an axis that it names; "" for none or several."""
    if isinstance(by, str):
        return [str(row.get(by) if row.get(by) is not None else "").strip() for row in rows]
    named = [by.groups_in(" ".join(texts_of(row, form))) for row in rows]
    return [some.pop() if len(some) == 1 else "" for some in named]


def labels_of(rows: Sequence[Row], form: Form) -> list[str]:
    """What each row's group is made independent of. InputError for rows whose target is no kind of label."""
    kind, target = form[form.target].kind, form.target
    values = [row[target] for row in rows]
    if kind == "label":
        return [str(value) for value in values]
    if kind == "labels":
        return [", ".join(sorted(value)) for value in values]
    if kind == "spans":
        return ["an answer" if value else "no answer" for value in values]
    if kind == "number":
        edges = np.quantile(values, np.linspace(0, 1, BANDS + 1)[1:-1])
        return [f"band {int(np.searchsorted(edges, value, side='right'))}" for value in values]
    raise InputError(
        "its rows have no label that a group could go with",
        where="--correct",
        fix="take counterfactual, or filter",
    )


def reweighted(groups: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """A weight a row; 1 for rows without a group. The weights of the others have mean 1."""
    cells = Counter((g, y) for g, y in zip(groups, labels) if g)
    by_group, by_label = Counter(g for g in groups if g), Counter(y for g, y in zip(groups, labels) if g)
    total = sum(cells.values())
    return np.array([by_group[g] * by_label[y] / (total * cells[g, y]) if g else 1.0 for g, y in zip(groups, labels)])


def removed(groups: Sequence[str], labels: Sequence[str], seed: int) -> list[int]:
    """Indices of the rows that stay, in order. InputError where a group has no row of some label."""
    cells = Counter((g, y) for g, y in zip(groups, labels) if g)
    by_group, by_label = Counter(g for g in groups if g), Counter(y for g, y in zip(groups, labels) if g)
    total = sum(cells.values())
    for g in by_group:
        for y in by_label:
            if not cells[g, y]:
                raise InputError(
                    f'no training row of the group "{g}" is labelled "{y}", so nothing would be left to balance with',
                    where="--correct removal",
                    fix="take counterfactual, or label such rows",
                )
    # The largest table that keeps the shares of groups and of labels, and makes them independent.
    scale = min(count * total / (by_group[g] * by_label[y]) for (g, y), count in cells.items())
    draw, kept = random.Random(seed), [i for i, g in enumerate(groups) if not g]
    for g, y in sorted(cells):
        own = [i for i, (group, label) in enumerate(zip(groups, labels)) if (group, label) == (g, y)]
        kept += draw.sample(own, min(len(own), round(scale * by_group[g] * by_label[y] / total)))
    return sorted(kept)


def counterfactuals(rows: Sequence[Row], form: Form, axes: Sequence[Axis]) -> list[Row]:
    """One swapped copy of each row and axis that it names; of many groups the turn follows from the row's id."""
    pairs = make_pairs(rows, form, axes)
    chosen: dict[tuple[int, str], list[Row]] = {}
    for pair in pairs:
        chosen.setdefault((pair.index, pair.axis.name), []).append(pair.row)
    picked = [some[random.Random(some[0].id).randrange(len(some))] for some in chosen.values()]
    return [
        Row(
            row.id,
            {**row.fields, "made_by": "counterfactual", "made_from": row.id.rpartition("~")[0]},
            row.file,
            row.line,
        )
        for row in picked
    ]
