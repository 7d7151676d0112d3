"""The figures on the data as tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...records import Form, Row, Table
from ..scores.measures import as_text

SHOWN = 20  # doubted rows
LONGEST = 160  # characters of a row


def soundness_tables(figures: Mapping[str, Any], rows: Sequence[Row], form: Form) -> list[Table]:
    """Doubted labels, the learning curve and topics, as far as they were looked at."""
    out = []
    doubts = (figures.get("label_errors") or {}).get("rows") or []
    if doubts:
        texts = {row.id: _text(row, form) for row in rows}
        doubted = tuple(
            (one["id"], texts.get(one["id"], ""), one["given"], one["expected"], one["expected_probability"])
            for one in doubts[:SHOWN]
        )
        header = ("row", "text", "says", "a cheap model expects", "probability")
        caption = f"{len(doubts):,} labels are doubtful. Half of such a list are usually rows that are only hard."
        out.append(Table("Labels to look at first", header, doubted, caption))
    curve = figures.get("learning_curve")
    if curve:
        points = tuple((one["rows"], as_text(curve["score"], one["score"])) for one in curve["points"])
        caption = f"By {curve['model']}, on rows that it was not fitted on; no test row is among them."
        out.append(Table("What more rows bring", ("training rows", "score"), points, caption))
    topics = (figures.get("variety") or {}).get("topics")
    if topics:
        sizes = tuple((", ".join(one["words"]), one["rows"]) for one in topics)
        out.append(Table("Topics", ("words that set it apart", "rows"), sizes))
    return out


def _text(row: Row, form: Form) -> str:
    within = {field.within for field in form.fields if field.within}
    for field in (*[f for f in form.inputs if f.name not in within], *form.inputs):
        value = row.get(field.name)
        if isinstance(value, str):
            return value if len(value) <= LONGEST else f"{value[: LONGEST - 2]} …"
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return " ".join(value)[:LONGEST]
    return ""
