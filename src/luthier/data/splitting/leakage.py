"""A user's own test or validation file against the training rows: what they share, what is done about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from ...errors import DataError
from ...records import Finding, Form, Row
from ..pulse import Pulse, Say
from .content import frozen, same_input
from .groups import grouping, join_rows
from .near import Joined

TOLERATED = 0.01  # of the test rows
_EXAMPLES = 3


def leaks(
    train_rows: Sequence[Row], other_rows: Sequence[Row], form: Form, group_by: str | None = None
) -> list[dict[str, Any]]:
    """Every row of `other_rows` that training has seen, once, in order.

    Each is {"kind": "exact" | "near" | "group", "row", "place", "train", "train_place"}: the row's id and
    place, and those of the training row it shares its input, most of its words, or its group with.
    """
    return _seen(train_rows, other_rows, form, *_join(train_rows, other_rows, form, group_by))


def _join(
    train_rows: Sequence[Row], other_rows: Sequence[Row], form: Form, group_by: str | None, say: Say | None = None
) -> tuple[str | None, Joined]:
    """What rows are grouped by, and which belong together, training first."""
    rows = [*train_rows, *other_rows]
    name = grouping(rows, form, group_by)
    return name, join_rows(rows, form, name, say)[0]


def _seen(
    train_rows: Sequence[Row],
    other_rows: Sequence[Row],
    form: Form,
    name: str | None,
    joined: Joined,
    say: Say | None = None,
) -> list[dict[str, Any]]:
    by_input = _first_by_input(Pulse(say, "looking for shared rows").over(train_rows), form)
    by_group = {frozen(value): row for row in reversed(train_rows) if name and (value := row.get(name)) is not None}
    by_root = _first_by_root(joined, len(train_rows))
    found = []
    for i, row in enumerate(other_rows, len(train_rows)):
        seen = by_input.get(same_input(row, form))
        kind = "exact"
        if seen is None and name and (value := row.get(name)) is not None:
            seen, kind = by_group.get(frozen(value)), "group"
        if seen is None and (root := joined.find(i)) in by_root:
            seen, kind = train_rows[by_root[root]], "near"
        if seen is not None:
            found.append(
                {
                    "kind": kind,
                    "row": row.id,
                    "place": _place(row),
                    "train": seen.id,
                    "train_place": _place(seen),
                }
            )
    return found


def apply(
    policy: Literal["refuse", "drop", "report"],
    train_rows: Sequence[Row],
    other_rows: Sequence[Row],
    form: Form,
    *,
    name: str = "test",
    of: str = "training",
    group_by: str | None = None,
    say: Say | None = None,
) -> tuple[list[Row], Finding | None]:
    """What the recipe's `data.leakage` says to do: the training rows to use, and a finding where something is
    shared.

    refuse: DataError if over 1 % of `other_rows` are in training (less is dropped from training); drop: every
    training row that leaks is left out; report: nothing changes. `name` is what `other_rows` are called, `of` what
    `train_rows` are: validation rows must not be the test's either, for choices are made by them. `say` is told what
    is being done, and with how many rows.
    """
    grouped_by, joined = _join(train_rows, other_rows, form, group_by, say)
    found = _seen(train_rows, other_rows, form, grouped_by, joined, say)
    if not found:
        return list(train_rows), None
    share = len(found) / len(other_rows)
    if policy == "refuse" and share > TOLERATED:
        raise DataError(_sentence(found, share, name, of), where=f"data.{name}", fix=_REMEDY)
    kinds = {kind: sum(leak["kind"] == kind for leak in found) for kind in ("exact", "near", "group")}
    numbers: dict[str, Any] = {"rows": len(found), "share": share, **kinds}
    id = "leakage-choices" if of == "validation" else "leakage" if name == "test" else "leakage-validation"
    ids = tuple(leak["row"] for leak in found)
    if policy == "report":
        severity: Literal["blocker", "warning"] = "blocker" if share > TOLERATED else "warning"
        return list(train_rows), Finding(id, severity, _sentence(found, share, name, of), numbers, ids, _REMEDY)
    taken = {joined.find(i) for i in range(len(train_rows), len(train_rows) + len(other_rows))}
    kept = [row for i, row in enumerate(train_rows) if joined.find(i) not in taken]
    numbers["dropped"] = len(train_rows) - len(kept)
    because = f"{_rows(len(found), name)} ({share:.1%}) {'shares' if len(found) == 1 else 'share'} them"
    were = "row was" if numbers["dropped"] == 1 else "rows were"
    sentence = f"{numbers['dropped']} {of} {were} left out because {because}."
    if not kept:
        raise DataError(f"every {of} row is also in {name}", where=f"data.{name}", fix="give different files")
    return kept, Finding(id, "note", sentence, numbers, ids, "")


_REMEDY = (
    "data.leakage: drop leaves these rows out of the file that is learned from; or let luthier split: data.test: 0.1. "
    "data.leakage: report trains all the same, and the verdict forbids the model's use if over 1 % are shared"
)


def _sentence(found: Sequence[Mapping[str, Any]], share: float, name: str, of: str) -> str:
    words = {"exact": "is also", "near": "is nearly the same as", "group": "shares its group with"}
    shown = "; ".join(f"{leak['place']} {words[leak['kind']]} {leak['train_place']}" for leak in found[:_EXAMPLES])
    more = f"; and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
    one = len(found) == 1
    seen, are = ("has", "is") if one else ("have", "are")
    where = f"{seen} been seen in training" if of == "training" else f"{are} among the validation rows, too"
    return f"{_rows(len(found), name)} ({share:.1%}) {where}, expected none: {shown}{more}"


def _rows(number: int, name: str) -> str:
    return f"{number} {name} row{'s' * (number != 1)}"


def _place(row: Row) -> str:
    return f"{row.file}:{row.line}" if row.file else f"row {row.id}"


def _first_by_input(rows: Iterable[Row], form: Form) -> dict[bytes, Row]:
    found: dict[bytes, Row] = {}
    for row in rows:
        found.setdefault(same_input(row, form), row)
    return found


def _first_by_root(joined: Joined, num_train: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for i in range(num_train):
        found.setdefault(joined.find(i), i)
    return found
