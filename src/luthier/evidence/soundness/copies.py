"""Rows that are nearly the same: how many, and whether they say the same."""

from __future__ import annotations

from collections.abc import Sequence

from ...records import Finding, Form, Row

OFTEN = 0.05  # share of the rows from which it is a warning: they count as fewer than they seem
NAMED = 100
LABELLED = ("label", "labels")


def near_copies(
    form: Form, rows: Sequence[Row], pairs: Sequence[tuple[int, int, float]], splits: Sequence[str] = ()
) -> list[Finding]:
    """One finding where rows are near copies of others: `pairs` as `luthier.data.units_and_copies` gives them (of
    questions on a passage the first row of each passage stands for all), `splits` each row's split where it is known.

    Copies are no part of it, since `check` names each (`duplicate`).
    """
    near = [(a, b) for a, b, likeness in pairs if likeness < 1.0]
    if not near:
        return []
    held = sorted({place for pair in near for place in pair})
    kind, target = form[form.target].kind, form.target
    odd = [pair for pair in near if kind in LABELLED and rows[pair[0]].get(target) != rows[pair[1]].get(target)]
    passage = next((f.name for f in form.fields if f.name == form.group_by and f.kind == "text"), None)
    what, count = ("rows", len(rows)) if passage is None else ("passages", len({row.get(passage) for row in rows}))
    share = len(held) / count
    across = sum(splits[a] != splits[b] for a, b in near) if splits else 0
    said = (
        f"{len(held):,} of {count:,} {what} ({100 * share:.1f} %) are nearly the same as another. They "
        f"{'stay in one split and ' if splits and not across else ''}count as one where chance is reckoned with"
    )
    if across:
        stand = "stands" if across == 1 else "stand"
        said += f"; {across:,} of {len(near):,} such pairs {stand} in two splits, which may flatter the scores"
    said += f"; {len(odd):,} of {len(near):,} such pairs are labelled differently." if odd else "."
    numbers = {"rows": len(held), "pairs": len(near), "share": share, "labelled_differently": len(odd)}
    numbers |= {"across_splits": across} if splits else {}
    first = list(dict.fromkeys(rows[place].id for pair in (*odd, *near) for place in pair))
    remedy = "Look at some pairs: keep one of each where they tell nothing new" + (
        ", and decide which label is right." if odd else "."
    )
    if across:
        remedy += " Keep rows that are nearly the same in one split, or give one file and have it split."
    often = share > OFTEN or bool(odd or across)
    return [Finding("near-copies", "warning" if often else "note", said, numbers, tuple(first[:NAMED]), remedy)]
