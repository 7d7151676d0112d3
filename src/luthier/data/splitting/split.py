"""Train, validation and test from content alone: the same row falls into the same split, whatever stands
beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataError
from ...records import SPLITS, Form, Row
from .balance import Group, balance
from .content import marks_of
from .groups import grouping, join_rows, places_of


@dataclass(slots=True)
class Split:
    """Row id -> split, and what was moved to keep the splits fair.

    Each of `moves` has group, rows (ids), from, to, why. `near` lists near copies that were kept together, as
    (row id, row id, likeness).
    """

    assignment: dict[str, str]
    moves: list[dict[str, Any]] = field(default_factory=list)
    near: list[tuple[str, str, float]] = field(default_factory=list)
    num_groups: int = 0

    def rows(self, rows: Sequence[Row], name: str) -> list[Row]:
        """Those of `rows` that are in the split `name`, in their own order."""
        return [row for row in rows if self.assignment.get(row.id) == name]

    def counts(self) -> dict[str, int]:
        found = Counter(self.assignment.values())
        return {name: found[name] for name in SPLITS if found[name]}


def split(
    rows: Sequence[Row],
    form: Form,
    *,
    validation: float,
    test: float,
    group_by: str | None = None,
    say: Callable[[int], None] | None = None,
) -> Split:
    """Assign every row to train, validation or test.

    u = sha256 of the group's value (or of the row's input) as a fraction; test if u < test, validation if
    u < test + validation. Rows with the same input, near copies, and rows of one group stay together, at the
    smallest u among them. Where a split or a label would then be empty or far off its share, the groups
    nearest the boundary move. `group_by` None means the form's own, "none" each row alone. Raises DataError
    where there are too few groups for the splits asked for.
    """
    shares = {"test": test, "validation": validation}
    if any(not 0 <= share < 1 for share in shares.values()) or test + validation >= 1:
        raise DataError(f"validation {validation} and test {test} are not fractions that leave rows to train on")
    if not test and not validation:
        return Split({row.id: "train" for row in rows}, num_groups=len(rows))
    name = grouping(rows, form, group_by)
    joined, near = join_rows(rows, form, name, say)
    groups = _groups(rows, form, name, joined.find)
    wanted = {split: share for split, share in shares.items() if share}
    if len(groups) < len(wanted) + 1:
        raise DataError(
            f"{len(rows)} rows form {len(groups)} groups of rows that belong together, expected at least "
            f"{len(wanted) + 1} to fill {', '.join(('train', *sorted(wanted)))}",
            fix="add data, ask for fewer splits (data.validation: 0), or choose another data.group_by",
        )
    moves = balance(groups, wanted, len(rows))
    assignment = {rows[i].id: group.split for group in groups for i in group.members}
    listed = [
        {
            "group": move.group.name,
            "rows": [rows[i].id for i in move.group.members],
            "from": move.before,
            "to": move.after,
            "why": move.why,
        }
        for move in moves
    ]
    pairs = [(rows[i].id, rows[j].id, likeness) for i, j, likeness in near]
    ordered = {row.id: assignment[row.id] for row in rows}
    return Split(ordered, listed, pairs, len(groups))


def _groups(rows: Sequence[Row], form: Form, group_by: str | None, find: Callable[[int], int]) -> list[Group]:
    """The rows by group; what splits are kept fair by is counted: see `_stratum`."""
    places = places_of(rows, form, group_by)
    kind = form[form.target].kind
    marked = [marks_of(row.get(form.target), kind) for row in rows]
    frequency = Counter(mark for marks in marked for mark in marks)
    groups: dict[int, Group] = {}
    for i, row in enumerate(rows):
        root = find(i)
        group = groups.get(root)
        if group is None:
            value = row.get(group_by) if group_by else None
            group = groups[root] = Group(places[i], row.id if value is None else str(value)[:80])
        group.members.append(i)
        group.u = min(group.u, places[i])
        if label := _stratum(marked[i], frequency):
            group.labels[label] = group.labels.get(label, 0) + 1
    return list(groups.values())


def _stratum(marks: Sequence[str], frequency: Mapping[str, int]) -> str | None:
    """What a row counts as: its label; of several labels or types of entities, the rarest in the data."""
    return min(marks, key=lambda mark: (frequency[mark], mark), default=None)
