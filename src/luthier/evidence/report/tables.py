"""Tables as the report shows them: numbers in words, shaded cells, bars, no more than a page can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...records import Table

MOST_ROWS = 100
MOST_HEAT_COLUMNS = 24  # a larger confusion matrix is shown as its most frequent confusions
MOST_CONFUSIONS = 20
LONGEST_CELL = 200


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell says, and how dark it is: 0..1, or None where it is not shaded."""

    text: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class ShownRow:
    cells: tuple[Cell, ...]
    bar: float = 0.0


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table ready for the page. `numeric` says which columns are numbers; `left_out` what is not shown."""

    title: str
    header: tuple[str, ...]
    rows: tuple[ShownRow, ...]
    numeric: tuple[bool, ...]
    kind: str
    caption: str = ""
    left_out: str = ""


def show_table(table: Table) -> ShownTable:
    """`table` with its numbers in words; a large heat table as a list of its largest off-diagonal cells."""
    if table.plot == "heat" and len(table.header) > MOST_HEAT_COLUMNS + 1:
        table = _confusions(table)
    rows = table.rows[:MOST_ROWS]
    left_out = f"{len(table.rows) - MOST_ROWS:,} more rows are not shown." if len(table.rows) > MOST_ROWS else ""
    numeric = tuple(
        bool(rows) and all(_is_number(row[column]) or row[column] is None for row in rows)
        for column in range(len(table.header))
    )
    shade = _shade_of(table)
    shown = []
    for row in rows:
        shares = shade(row) if table.plot == "heat" else [None] * len(row)
        cells = tuple(Cell(cell_text(value), share) for value, share in zip(row, shares))
        shown.append(ShownRow(cells, _fraction(row[-1]) if table.plot == "bars" else 0.0))
    return ShownTable(table.title, table.header, tuple(shown), numeric, table.plot, table.caption, left_out)


def cell_text(value: Any) -> str:
    """A cell in words: fractions 0..1 as percent, whole numbers with thousands apart, "-" for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{100 * value:.1f} %" if 0 <= value <= 1 else f"{value:,.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 2] + " …"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fraction(value: Any) -> float:
    return min(1.0, max(0.0, float(value))) if _is_number(value) and math.isfinite(value) else 0.0


def _shade_of(table: Table) -> Any:
    """row -> shade of each cell. Counts are shaded by their share of the row, others by the largest."""
    numbers = [value for row in table.rows for value in row[1:] if _is_number(value) and math.isfinite(value)]
    counts = all(isinstance(value, int) for value in numbers)
    top = max(numbers, default=0) or 1

    def shade(row: Sequence[Any]) -> list[float | None]:
        whole = (sum(value for value in row[1:] if _is_number(value)) or 1) if counts else top
        return [None, *(_fraction(value / whole) if _is_number(value) else None for value in row[1:])]

    return shade


def _confusions(table: Table) -> Table:
    """The largest cells off the diagonal of a square heat table, largest first."""
    cells = [
        (str(row[0]), name, value)
        for place, row in enumerate(table.rows)
        for column, (name, value) in enumerate(zip(table.header[1:], row[1:]))
        if column != place and _is_number(value) and value > 0
    ]
    cells.sort(key=lambda cell: -cell[2])
    caption = f"The {min(MOST_CONFUSIONS, len(cells))} most frequent, of {len(table.rows)} labels. {table.caption}"
    return Table(table.title, ("expected", "answered", "rows"), tuple(cells[:MOST_CONFUSIONS]), caption.strip())
