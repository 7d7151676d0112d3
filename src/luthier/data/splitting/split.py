"""Train, validation and test from content alone: the same row falls into the same split, whatever stands
beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataError
from ...records import SPLITS, Form, Row, content_hash
from ..pulse import Pulse, Say
from ..uncollected import uncollected
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

    def parts(self, rows: Sequence[Row], say: Say | None = None) -> dict[str, list[Row]]:
        """`rows` by split, each in their own order. `say` is told what is being done, and with how many rows."""
        found: dict[str, list[Row]] = {name: [] for name in SPLITS}
        for row in Pulse(say, "dividing the rows").over(rows):
            found[self.assignment[row.id]].append(row)
        return found

    def counts(self) -> dict[str, int]:
        found = Counter(self.assignment.values())
        return {name: found[name] for name in SPLITS if found[name]}


@uncollected()
def split(
    rows: Sequence[Row],
    form: Form,
    *,
    validation: float,
    test: float,
    group_by: str | None = None,
    say: Say | None = None,
) -> Split:
    """Assign every row to train, validation or test.

    u = sha256 of the group's value (or of the row's input) as a fraction; test if u < test, validation if
    u < test + validation. Rows with the same input, near copies, and rows of one group stay together, at the
    smallest u among them. Where a split or a label would then be empty or far off its share, the groups
    nearest the boundary move. `group_by` None means the form's own, "none" each row alone. `say` is told what is
    being done, and with how many rows. Raises DataError where there are too few groups for the splits asked for.
    """
    shares = {"test": test, "validation": validation}
    if any(not 0 <= share < 1 for share in shares.values()) or test + validation >= 1:
        raise DataError(f"validation {validation} and test {test} are not fractions that leave rows to train on")
    if not test and not validation:
        return Split({row.id: "train" for row in rows}, num_groups=len(rows))
    name = grouping(rows, form, group_by)
    joined, near = join_rows(rows, form, name, say)
    groups = _groups(rows, form, name, joined.find, say)
    wanted = {split: share for split, share in shares.items() if share}
    if len(groups) < len(wanted) + 1:
        texts = len({content_hash(row, [field.name for field in form.inputs]) for row in rows})
        swapped = f"are two columns swapped (only {texts} inputs differ)? name them under data.columns. Or "
        more = "add data, ask for fewer splits (data.validation: 0), or choose another data.group_by"
        raise DataError(
            f"{len(rows)} rows form {len(groups)} groups of rows that belong together, expected at least "
            f"{len(wanted) + 1} to fill {', '.join(('train', *sorted(wanted)))}",
            fix=f"{swapped if len(rows) >= 10 * texts else ''}{more}",
        )
    moves = balance(groups, wanted, len(rows), say)
    splits = [""] * len(rows)
    for group in Pulse(say, "filling the splits").over(groups):
        for i in group.members:
            splits[i] = group.split
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
    return Split({row.id: split for row, split in zip(rows, splits)}, listed, pairs, len(groups))


def _groups(
    rows: Sequence[Row], form: Form, group_by: str | None, find: Callable[[int], int], say: Say | None
) -> list[Group]:
    """The rows by group; what splits are kept fair by is counted: see `_stratum`."""
    places = places_of(rows, form, group_by, say)
    kind = form[form.target].kind
    pulse = Pulse(say, "counting labels")
    frequency = Counter(mark for row in pulse.over(rows) for mark in marks_of(row.get(form.target), kind))
    alone: dict[str, dict[str, int]] = {}  # the labels of a group that is one row: one object for all of them
    groups: dict[int, Group] = {}
    for i, row in enumerate(Pulse(say, "grouping rows").over(rows)):
        root = find(i)
        group = groups.get(root)
        if group is None:
            value = row.get(group_by) if group_by else None
            group = groups[root] = Group(places[i], row.id if value is None else str(value)[:80])
        group.members.append(i)
        group.u = min(group.u, places[i])
        label = _stratum(marks_of(row.get(form.target), kind), frequency)
        if label and not group.labels:
            group.labels = alone.setdefault(label, {label: 1})
        elif label:
            group.labels = {**group.labels, label: group.labels.get(label, 0) + 1}
    return list(groups.values())


def _stratum(marks: Sequence[str], frequency: Mapping[str, int]) -> str | None:
    """What a row counts as: its label; of several labels or types of entities, the rarest in the data."""
    return min(marks, key=lambda mark: (frequency[mark], mark), default=None)
