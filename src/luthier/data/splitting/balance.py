"""Fair splits with as few moves as possible: which groups change their split, and why.

Two promises pull against each other: a split should hold its share, and adding rows should move none. From
`STABLE` rows on the second wins where the deviation may be plain chance: a split or a label is off when it
misses its target by a third and by four standard deviations of a random draw of whole groups. Smaller data
are held to a third, since there a lucky draw decides what is measured. No split, and no label with a target
of half a row or more, is left empty where groups allow it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import sqrt

from ..pulse import Pulse, Say

STABLE = 500
_THIRD = 1 / 3
_CHANCE = 4.0  # standard deviations that a random draw does not exceed: 1 in 16,000
_LOOK = 300  # how many groups near a boundary are considered for one move
_EMPTY = 10.0  # how much worse an empty split or label is than one that is off by its whole target


@dataclass(slots=True)
class Group:
    """Rows that stay together: `u` in 0..1 decides their split, `members` are row indices."""

    u: float
    name: str
    members: list[int] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    split: str = ""

    def count(self, label: str | None) -> int:
        return len(self.members) if label is None else self.labels.get(label, 0)


@dataclass(frozen=True, slots=True)
class Move:
    group: Group
    before: str
    after: str
    why: str


@dataclass(slots=True)
class Need:
    """How many rows (of one label, or in all) a split should hold."""

    split: str
    label: str | None
    target: float
    low: float
    high: float
    count: int = 0

    def penalty(self, count: int) -> float:
        """0 within bounds; else how far out, as a share of the target."""
        off = max(self.low - count, count - self.high, 0.0) / max(self.target, 1.0)
        return off + (_EMPTY if count == 0 and self.low > 0 else 0.0)

    def sentence(self) -> str:
        what = f'rows labelled "{self.label}"' if self.label is not None else "rows"
        return f"{self.split} had {self.count} {what}, its target is {self.target:.1f}"


def balance(groups: list[Group], shares: Mapping[str, float], num_rows: int, say: Say | None = None) -> list[Move]:
    """Set every group's split by its u, then move groups until no split or label is empty or far off.

    `shares` maps validation and test to their fractions; train is the rest. Returns the groups that ended
    elsewhere than their u says.
    """
    test, validation = shares.get("test", 0.0), shares.get("validation", 0.0)
    bounds = {"test": (0.0, test), "validation": (test, test + validation), "train": (test + validation, 1.0)}
    bounds = {name: bounds[name] for name in bounds if name == "train" or shares.get(name)}
    for group in groups:
        group.split = _by_place(group, bounds)
    why: dict[int, str] = {}
    needs = _needs(groups, bounds, num_rows, say)
    stuck: set[tuple[str, str | None]] = set()
    pulse = Pulse(say, "balancing the splits")
    for _ in range(len(groups) + 100):
        pulse(0)
        need = next((n for n in needs.values() if n.penalty(n.count) and (n.split, n.label) not in stuck), None)
        if need is None:
            break
        move = _best_move(groups, need, needs, bounds)
        if move is None:
            stuck.add((need.split, need.label))
            continue
        group, to = move
        why[id(group)] = need.sentence()
        _place(group, to, needs)
        stuck.clear()
    return [
        Move(group, before, group.split, why[id(group)])
        for group in groups
        if id(group) in why and group.split != (before := _by_place(group, bounds))
    ]


def _by_place(group: Group, bounds: Mapping[str, tuple[float, float]]) -> str:
    """The split that a group's u says."""
    return next((name for name, (low, high) in bounds.items() if low <= group.u < high), "train")


def _needs(
    groups: list[Group], bounds: Mapping[str, tuple[float, float]], num_rows: int, say: Say | None
) -> dict[tuple[str, str | None], Need]:
    """Every bound to keep: splits first, then their labels in a fixed order."""
    totals: Counter[str | None] = Counter()
    squared: Counter[str | None] = Counter()
    holding: Counter[str | None] = Counter()  # how many groups have it
    counts: Counter[tuple[str, str | None]] = Counter()
    for group in Pulse(say, "counting groups").over(groups):
        for label in (None, *group.labels):
            count = group.count(label)
            totals[label] += count
            squared[label] += count * count
            holding[label] += 1
            counts[group.split, label] += count
    needs: dict[tuple[str, str | None], Need] = {}
    for label in (None, *sorted(label for label in totals if label is not None)):
        total, squares = totals[label], squared[label]
        for name, (low, high) in bounds.items():
            share = high - low
            target = share * total
            width = _THIRD
            if num_rows >= STABLE:
                # The standard deviation of a random draw of whole groups, as a share of the target.
                chance = sqrt((1 - share) / share * squares) / total
                width = max(width, _CHANCE * chance)
            least = 1.0 if label is None or (target >= 0.5 and holding[label] >= len(bounds)) else 0.0
            slack = max(width * target, 1.0)
            low_end = max(least, target - slack)
            needs[name, label] = Need(name, label, target, low_end, target + slack, counts[name, label])
    return needs


def _best_move(
    groups: list[Group],
    need: Need,
    needs: Mapping[tuple[str, str | None], Need],
    bounds: Mapping[str, tuple[float, float]],
) -> tuple[Group, str] | None:
    """The group nearest to its new split whose move makes things better on the whole, or None."""
    short = need.count < need.low
    for group, to in heapq.nsmallest(
        _LOOK,
        _moves(groups, need, short, bounds),
        key=lambda m: (_distance(m[0].u, bounds[m[1]]), m[0].u, m[0].name, m[1]),
    ):
        if _gain(group, to, needs) > 1e-9:
            return group, to
    return None


def _moves(
    groups: list[Group], need: Need, short: bool, bounds: Mapping[str, tuple[float, float]]
) -> Iterator[tuple[Group, str]]:
    for group in groups:
        if not group.count(need.label) or (group.split == need.split) == short:
            continue
        if short:
            yield group, need.split
        else:
            yield from ((group, to) for to in bounds if to != need.split)


def _distance(u: float, bound: tuple[float, float]) -> float:
    return max(bound[0] - u, u - bound[1], 0.0)


def _gain(group: Group, to: str, needs: Mapping[tuple[str, str | None], Need]) -> float:
    """How much less is wrong after the move."""
    gain = 0.0
    for label in (None, *group.labels):
        count = group.count(label)
        source, target = needs[group.split, label], needs[to, label]
        gain += source.penalty(source.count) - source.penalty(source.count - count)
        gain += target.penalty(target.count) - target.penalty(target.count + count)
    return gain


def _place(group: Group, to: str, needs: Mapping[tuple[str, str | None], Need]) -> None:
    for label in (None, *group.labels):
        count = group.count(label)
        needs[group.split, label].count -= count
        needs[to, label].count += count
    group.split = to
