"""How rows are spread before anything is trained: groups and their label rates, lengths by label, scripts by split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from luthier.errors import InputError, did_you_mean
from luthier.evidence.bias.groups import members
from luthier.evidence.bias.label_rates import group_rates, rate_findings
from luthier.evidence.soundness import Balance, balance
from luthier.records import Finding, Form, Row


def look_at_groups(
    columns: Sequence[str], rows: Sequence[Row], form: Form, units: Sequence[int] | None, seed: int, where: str
) -> tuple[list[dict[str, Any]], list[Finding]]:
    """(figures of each column, findings). InputError, at `where`, for a column that does not tell groups apart."""
    require_groups(columns, rows, form, where)
    found = [group_rates(column, rows, form, units, seed, len(columns)) for column in columns]
    return [_plain(one.as_json()) for one in found], [finding for one in found for finding in rate_findings(one)]


def require_groups(columns: Sequence[str], rows: Sequence[Row], form: Form, where: str) -> None:
    """InputError where a column is not there, or does not tell groups apart: better told before training than after."""
    known = sorted({name for row in rows for name in row.fields} - {field.name for field in form.fields} - {"made_by"})
    for column in columns:
        if column not in known:
            more = did_you_mean(column, known) if known else "the rows hold no other column"
            raise InputError(f'no row has a column "{column}"', where=where, fix=more)
        try:
            members(column, rows, "the rows")
        except InputError as error:
            raise InputError(error.found, where=where, fix=error.fix) from None


def look_at_balance(form: Form, splits: Mapping[str, Sequence[Row]]) -> Balance | None:
    """Lengths and scripts of the splits that hold rows."""
    return balance(form, {name: rows for name, rows in splits.items() if rows})


def _plain(value: Any) -> Any:
    """The same without what is no number, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
