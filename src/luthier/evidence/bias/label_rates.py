"""Groups before anything is trained: how many rows each has, and how often each label stands on them.

A model learns what its rows say: where one group bears a label twice as often as another, that is learned, too, whether
it is so in the world or only in the collection. Rates, intervals and gaps are made as an audit makes them (groups.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from luthier.data import marks_of
from luthier.records import Finding, Form, Row

from .groups import FEWEST, MOST_LABELS, NAMES, Gap, Grouped, Score, members, rates_and_gaps

FAIR = 0.1  # of an equal share of the rows: a group below it is tiny, as a label is (`imbalance`)


def group_rates(
    column: str, rows: Sequence[Row], form: Form, units: Sequence[int] | None, seed: int = 0, columns: int = 1
) -> Grouped:
    """Rows and label rates by the values of `column`, one of so many `columns` that are looked at.

    A rate is the share of a group's rows that have a label (of two labels that of the one that comes last by name), an
    entity of a type, or no answer; of numbers it is their mean; of texts to write there is none. InputError where the
    column has one value, or too many to be groups.
    """
    there, of, groups = members(column, rows, "the rows")
    scores = _scores([rows[i] for i in there], form)
    places = list(there) if units is None else [units[i] for i in there]
    found = rates_and_gaps(list(groups), of, scores, places, seed, columns) if scores else ([], [])
    return Grouped(column, groups, len(rows) - len(there), *found)


def _scores(rows: Sequence[Row], form: Form) -> list[Score]:
    kind, target = form[form.target].kind, form.target
    ones = np.ones(len(rows))
    if kind == "number":
        return [Score("mean_number", "", np.array([row[target] for row in rows], dtype=float), ones, False)]
    if kind == "spans":
        return [Score("unanswerable_rate", "", np.array([not row[target] for row in rows], dtype=float), ones)]
    if kind not in ("label", "labels", "tags"):
        return []
    marks = [frozenset(map(str, marks_of(row[target], kind))) for row in rows]
    counts = Counter(label for some in marks for label in some)
    labels = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_LABELS]
    if kind == "label" and len(counts) == 2:
        labels = [max(counts)]
    metric = "entity_rate" if kind == "tags" else "label_rate"
    return [Score(metric, label, np.array([label in some for some in marks], dtype=float), ones) for label in labels]


def rate_findings(found: Grouped) -> list[Finding]:
    """That rates differ beyond chance, or that none does; and the groups that are too small to tell."""
    out = [_rates(found)] if found.rates else []
    rows, fair = sum(found.groups.values()), sum(found.groups.values()) / len(found.groups)
    tiny = {name: count for name, count in found.groups.items() if count < max(FEWEST, FAIR * fair)}
    if tiny:
        told = ", ".join(f"{name} ({count:,})" for name, count in tiny.items())
        said = (
            f"Of the {rows:,} rows with a value in {found.column} few are of {told}: how a model treats them will not "
            "be known."
        )
        numbers = {"column": found.column, "groups": tiny, "rows": rows}
        remedy = "Label more rows of them, or join groups that belong together."
        out.append(Finding("group-tiny", "warning", said, numbers, remedy=remedy))
    return out


def _rates(found: Grouped) -> Finding:
    told = [gap for gap in found.gaps if gap.told]
    numbers = {
        "column": found.column,
        "groups": found.groups,
        "gaps": [{name: getattr(gap, name) for name in Gap.__dataclass_fields__} for gap in told],
    }
    if not found.gaps:
        said = f"The groups of the column {found.column} have too few rows for their labels to be told apart."
        return Finding("label-rates-even", "note", said, numbers)
    if not told:
        said = f"No label is told to be more frequent in one group of {found.column} than in another beyond chance."
        return Finding("label-rates-even", "note", said, numbers)
    gap = max(told, key=lambda one: one.low)
    by_group = {rate.group: rate for rate in found.rates if (rate.metric, rate.label) == (gap.metric, gap.label)}
    high, low = by_group[gap.highest], by_group[gap.lowest]
    name = NAMES[gap.metric] + (
        f' "{gap.label}"' if gap.metric == "entity_rate" else f' of "{gap.label}"' * bool(gap.label)
    )
    bounded = gap.metric != "mean_number"
    as_words = (lambda value: f"{100 * value:.1f} %") if bounded else (lambda value: f"{value:.4g}")
    said = (
        f"By {found.column}, the {name} is {as_words(high.value)} in {gap.highest} ({high.rows:,} rows) and "
        f"{as_words(low.value)} in {gap.lowest} ({low.rows:,} rows), further apart than chance explains"
        + (f"; {len(told) - 1} more differ" if len(told) > 1 else "")
        + "."
    )
    remedy = (
        "Ask whether that is so where the model will be used, or comes from how rows were collected. If it is the "
        f"latter, add rows until it is even; or train, and then: luthier audit RUN --groups {found.column} --correct "
        "reweighting"
    )
    return Finding("label-rates", "warning", said, numbers, remedy=remedy)
