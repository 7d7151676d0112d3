"""Ids over several files: each row's own, and no two the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...records import Fault
from ..load import Loaded, made_id


def distinct_ids(parts: Mapping[str, Loaded]) -> None:
    """Make ids distinct over several loads, `parts` by split, the first of which keeps its own.

    An id that an earlier part has, too, gets its split's name in front (test-17): files that each count from 1 are
    the rule. What is renamed follows from the files alone, and is said in one note a part: of ids that stand in the
    files, not of those made from a row's content.
    """
    if len(parts) < 2:
        return  # each load has made its own distinct
    taken: set[str] = set()
    for name, part in parts.items():
        renamed = 0
        own = {row.id for row in part.rows}
        for i, row in enumerate(part.rows):
            if row.id not in taken:
                continue
            made, number = f"{name}-{row.id}", 1
            while made in taken or made in own:
                number += 1
                made = f"{name}-{row.id}-{number}"
            own.add(made)
            part.rows[i] = replace(row, id=made)
            renamed += not made_id(row.id)
        taken |= {row.id for row in part.rows}
        if renamed:
            message = f'{renamed} ids stand in other files, too; here they are called "{name}-..."'
            fix = "make ids distinct over all files to keep them"
            file = part.rows[0].file
            part.faults.append(Fault("note", "duplicate-id", message, file, 0, "id", "", fix))
