"""A corrected run beside the one that it comes from: did the correction help, and what did it cost?

It helped where the flip rate of the words that it was made for fell beyond chance (or, made for a column of groups,
that column's widest gap fell below the interval that it had). That it fell by chance alone, or rose, is said as
plainly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.records import Finding

from ..scores.measures import change_text

ALIKE, USUAL = 0.95, 0.85  # shares of one answer, and of one label, from which on rows are no more told apart
COSTLY = 0.10  # mean quality lost beyond chance from which a correction has its price said as a warning
NAMES = {
    "reweighting": "Reweighting",
    "removal": "Removal of rows",
    "counterfactual": "Counterfactual augmentation",
    "adversarial": "Adversarial debiasing",
    "filter": "The filter of answers",
}
HELPED, UNSHOWN, NOT, UNKNOWN = "helped", "is not shown to have helped", "did not help", "cannot be judged"
_SHARES = ("accuracy", "true_positive_rate", "false_positive_rate", "quality")
_REMEDIES = {
    HELPED: "",
    UNSHOWN: "Fewer answers flip than before, but that may be chance: try another means, or label more test rows.",
    NOT: "Try another means (docs/bias.md says which fits what).",
    UNKNOWN: "Audit both runs with the same --groups and --terms.",
}
_GAP_UNSHOWN = (
    "The gap is smaller than before, but that may be chance: try another means, or label more test rows of each group."
)
Change = tuple[float, float, float]  # of a mean: now minus before, and its interval


@dataclass(frozen=True)
class Before:
    """An audit from before a correction by `means`, made for an axis of words or a column, `by` ("": not known)."""

    audit: Mapping[str, Any]
    means: str
    by: str = ""


def always(answers: Sequence[Any], due: Sequence[Any]) -> str:
    """The label that nearly every row is given though not nearly every row has it; "" where there is none."""
    label, count = Counter(map(str, answers)).most_common(1)[0]
    usual = Counter(map(str, due)).most_common(1)[0][1] / len(due)
    return label if count / len(answers) >= ALIKE and usual < USUAL else ""


def compared_finding(
    before: Before,
    now: Mapping[str, Any],
    cost: Change,
    changes: Mapping[str, Change],
    refused: float = 0.0,
    told_always: str = "",
) -> Finding:
    """`cost`: mean quality now minus before, on the same rows; `changes`: likewise the flip rate, by axis, on the same
    pairs; `refused`: the share of answers that rules now refuse; `told_always`: what `always` says of the answers now.
    """
    axis, old, new = _flips(before, now)
    column = before.by if before.by in {one["column"] for one in before.audit["groups"]} else ""
    (gap_then, gap_low), (gap_now, _) = _widest(before.audit, column), _widest(now, column)
    outcome = UNKNOWN
    if by_gap := gap_then is not None and gap_now is not None and bool(column or axis not in changes):
        # One gap is held against the interval of the other: an audit keeps no answers to draw the two in pairs.
        outcome = HELPED if gap_now < gap_low else UNSHOWN if gap_now < gap_then else NOT
    elif axis in changes:
        mean, _, high = changes[axis]
        outcome = HELPED if high < 0 else UNSHOWN if mean < 0 else NOT
    said = []
    if told_always:  # nothing flips where nothing is told apart
        outcome = NOT
        said.append(f'it answers "{told_always}" whatever is asked')
    if old is not None and new is not None:
        said.append(f"swapping groups ({axis}) changed {_points(old)} % of its answers before and {_points(new)} % now")
    if gap_then is not None and gap_now is not None:
        least = f" (at least {_points(gap_low)})" if by_gap and gap_low > 0 else ""
        said.append(f"the widest gap between groups was {_points(gap_then)} points{least} and is {_points(gap_now)}")
    if refused:
        said.append(f"it refuses {_points(refused)} % of the answers, which count as wrong")
    said.append(_price(cost))
    sentence = f"{NAMES.get(before.means, before.means)} {outcome}, beside {before.audit['run']}: {'; '.join(said)}."
    numbers: dict[str, Any] = {"before": before.audit["run"], "means": before.means, "outcome": outcome, "axis": axis}
    numbers |= {"flips_before": old, "flips": new, "flips_change": list(changes.get(axis, ())) or None}
    numbers["changes"] = {name: list(change) for name, change in changes.items()}
    numbers |= {"gap_before": gap_then, "gap_before_low": gap_low, "gap": gap_now}
    numbers |= {"refused": refused, "quality_change": list(cost)}
    remedy = _GAP_UNSHOWN if by_gap and outcome == UNSHOWN else _REMEDIES[outcome]
    if told_always and before.means == "adversarial":
        remedy = "The adversary left nothing to learn: try another means, or lower train.debias.strength in its recipe."
    if outcome == HELPED and cost[2] < -COSTLY:
        remedy = (
            "The price is high. Where labels go with groups in the test rows, too, part of it is what the group alone "
            "told. For the rest train longer, label more rows, or correct by milder means (docs/bias.md)."
        )
    return Finding("audit-compared", "warning" if remedy else "note", sentence, numbers, remedy=remedy)


def _flips(before: Before, now: Mapping[str, Any]) -> tuple[str, float | None, float | None]:
    """(axis, flip rate before, now) of what the correction was made for; else of what flipped most beyond chance."""
    then = {one["axis"]: one for one in before.audit["swaps"] if one["flips"] is not None}
    both = {one["axis"]: one["flips"] for one in now["swaps"] if one["axis"] in then and one["flips"] is not None}
    if not both:
        return "", None, None
    axis = max(both, key=lambda name: (name == before.by, then[name]["flips_interval"][0], then[name]["flips"]))
    return axis, then[axis]["flips"], both[axis]


def _price(cost: Change) -> str:
    mean, low, high = cost
    if high < 0:
        return f"it cost {_points(-mean)} points of the mean quality of an answer ({_points(-high)} to {_points(-low)})"
    told = (change_text(100 * value) for value in (mean, low, high))
    said = "the mean quality of an answer changed by {} points ({} to {})".format(*told)
    return said if low > 0 else f"{said}, which may be chance"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _widest(audit: Mapping[str, Any], column: str) -> tuple[float | None, float]:
    """The widest gap of a share between groups, of one column or of all, and what it is at least; None: no gap."""
    kept = [one for one in audit["groups"] if column in ("", one["column"])]
    gaps = [gap for one in kept for gap in one["gaps"] if gap["metric"] in _SHARES]
    if not gaps:
        return None, 0.0
    widest = max(gaps, key=lambda gap: float(gap["value"]))
    return float(widest["value"]), float(widest["low"] or 0.0)
