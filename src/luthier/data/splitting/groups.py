"""Rows that must never be torn apart: equal group, equal input, or nearly equal text."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import sha256

from ...errors import DataError, did_you_mean
from ...records import Form, Row
from ..options import NO_GROUPS
from ..pulse import Pulse, Say
from ..uncollected import uncollected
from .content import frozen, given_names, hasher, input_names, same_input, text_of
from .near import Joined, near_duplicates

MIN_TITLES = 20


def grouping(rows: Sequence[Row], form: Form, group_by: str | None) -> str | None:
    """The field rows are grouped by, or None for "each row alone".

    Raises DataError for a field no row has, and for `title` with too few titles to fill three splits.
    """
    name = form.group_by if group_by is None else group_by
    if name is None or name == NO_GROUPS:
        return None
    if rows and not any(name in row.fields for row in rows):
        known = {key for row in rows[:100] for key in row.fields}
        raise DataError(
            f'group_by: no row has a field "{name}". {did_you_mean(name, known)}',
            fix="name a field or column, or write group_by: none",
        )
    if name == "title" and (count := len({row.get(name) for row in rows})) < MIN_TITLES:
        raise DataError(
            f"group_by: title gives {count} groups, expected at least {MIN_TITLES}: too few to split fairly",
            fix="group_by: context",
        )
    return name


def near_texts(rows: Sequence[Row], form: Form, group_by: str | None, say: Say | None = None) -> dict[str, int]:
    """The texts in which near copies are looked for, each with the first row that has it.

    Where the task groups by a text (a passage), that text alone: questions about different passages are alike
    without being copies. Otherwise everything the model is given: the words of a sentence, the turns of a dialogue
    but for system prompts; of plain text to learn, the text.
    """
    passage = next((f.name for f in form.fields if f.name == form.group_by and f.kind == "text"), None)
    if group_by is None and passage is not None:
        return {}
    first: dict[str, int] = {}
    for i, row in enumerate(Pulse(say, "comparing texts").over(rows)):
        names = (passage,) if passage is not None else given_names(row, form)
        parts = [text_of(row.get(name)) for name in names]
        if all(part is not None for part in parts):
            first.setdefault("\n".join(part for part in parts if part), i)
    return first


@uncollected()
def join_rows(
    rows: Sequence[Row], form: Form, group_by: str | None, say: Say | None = None
) -> tuple[Joined, list[tuple[int, int, float]]]:
    """Which rows belong together, and the near pairs (row index, row index, likeness) among the reasons.

    `group_by` is what `grouping` returned. `say` is told what is being done, and with how many rows.
    """
    joined = Joined(len(rows))
    first: dict[Hashable, int] = {}
    for i, row in enumerate(Pulse(say, "comparing rows").over(rows)):
        joined.join(first.setdefault(same_input(row, form), i), i)
        if group_by is not None and (value := row.get(group_by)) is not None:
            joined.join(first.setdefault((group_by, frozen(value)), i), i)
    del first
    found = near_texts(rows, form, group_by, say)
    texts, places = list(found), list(found.values())
    del found
    pairs = [(places[i], places[j], likeness) for i, j, likeness in near_duplicates(texts, say=say)]
    for i, j, _ in pairs:
        joined.join(i, j)
    return joined, pairs


def units(rows: Sequence[Row], form: Form, group_by: str | None) -> list[int] | None:
    """Each row's unit, as the index of its first row: rows of one group, copies and near copies stand or fall together.

    None where every row stands alone. `group_by` is a field that rows have, or None.
    """
    return units_and_copies(rows, form, group_by)[0]


def units_and_copies(
    rows: Sequence[Row], form: Form, group_by: str | None
) -> tuple[list[int] | None, list[tuple[int, int, float]]]:
    """The units, and the pairs of rows that are near copies or copies of each other: (row, row, likeness)."""
    joined, pairs = join_rows(rows, form, group_by)
    roots = [joined.find(i) for i in range(len(rows))]
    first: dict[int, int] = {}
    found = [first.setdefault(root, i) for i, root in enumerate(roots)]
    return None if len(first) == len(rows) else found, pairs


def places_of(rows: Sequence[Row], form: Form, group_by: str | None, say: Say | None = None) -> list[float]:
    """Each row's u in 0..1, from its group's value, or from what the model is given of it.

    The target is left out: correcting a label moves no row to another split.
    """
    names = input_names(form)
    digests = {names: hasher(names)}
    by_group: dict[str, float] = {}
    found = []
    for row in Pulse(say, "placing rows").over(rows):
        value = row.get(group_by) if group_by is not None else None
        if value is None:
            given = given_names(row, form)
            digest = digests.setdefault(given, hasher(given))
            found.append(unit(digest(dict(row.fields))))
            continue
        text = str(value)
        if text not in by_group:
            by_group[text] = unit(sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
        found.append(by_group[text])
    return found


def unit(hexdigest: str) -> float:
    """A sha256 as a number in 0..1."""
    return int(hexdigest, 16) / 2.0**256
