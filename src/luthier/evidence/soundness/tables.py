"""The figures on the data as tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...data.load import made_id
from ...data.reading.raw import shown
from ...records import Form, Row, Table
from ..bias.groups import NAMES
from ..scores.measures import as_text
from .doubts import CHEAP

SHOWN = 20  # doubted rows
FIRST = "Labels to look at first"
LONGEST = 160  # characters of a row


def soundness_tables(figures: Mapping[str, Any], rows: Sequence[Row], form: Form) -> list[Table]:
    """Doubted labels, the learning curve, topics, and how rows are spread, as far as these were looked at."""
    out = []
    doubts = (figures.get("label_errors") or {}).get("rows") or []
    if doubts:
        texts = {row.id: _text(row, form) for row in rows}
        doubted = tuple(
            (place_of(one), texts.get(one["id"], ""), one["given"], one["expected"], one["expected_probability"])
            for one in doubts[:SHOWN]
        )
        header = ("row", "text", "says", f"{figures['label_errors'].get('by', CHEAP)} expects", "probability")
        caption = (
            f"{len(doubts):,} labels are doubtful. About half of such a list are usually right, of rows that are hard."
        )
        out.append(Table(FIRST, header, doubted, caption))
    curve = figures.get("learning_curve")
    if curve:
        points = tuple((one["rows"], as_text(curve["score"], one["score"])) for one in curve["points"])
        caption = f"By {curve['model']}, on rows that it was not fitted on; no test row is among them."
        out.append(Table("What more rows bring", ("training rows", "score"), points, caption))
    topics = (figures.get("variety") or {}).get("topics")
    if topics:
        sizes = tuple((", ".join(one["words"]), one["rows"]) for one in topics)
        out.append(Table("Topics", ("words that set it apart", "rows"), sizes))
    return [*out, *_spread(figures)]


def _spread(figures: Mapping[str, Any]) -> list[Table]:
    """Groups, lengths and scripts."""
    out = []
    for one in figures.get("groups") or ():
        rates: dict[str, list[str]] = {name: [] for name in one["groups"]}
        for rate in one["rates"]:
            rates[rate["group"]].append(rate_text(rate))
        whole = sum(one["groups"].values())
        rows = tuple((name, n, f"{100 * n / whole:.1f} %", "; ".join(rates[name])) for name, n in one["groups"].items())
        caption = f"{one['missing']:,} rows have no value." if one["missing"] else ""
        head = ("group", "rows", "share", "label rates (95 %)")
        out.append(Table(f"Groups before training: {one['column']}", head, rows, caption))
    spread = figures.get("balance") or {}
    if spread.get("lengths"):
        lengths = tuple((o["label"], o["rows"], o["low"], o["median"], o["high"]) for o in spread["lengths"])
        header = ("label", "rows", "10 % have up to", "half have up to", "90 % have up to")
        out.append(Table("Lengths by label", header, lengths, "In characters."))
    scripts = spread.get("scripts") or {}
    if len({name for shares in scripts.values() for name in shares}) > 1:
        parts = tuple((split, scripts_text(shares)) for split, shares in scripts.items())
        out.append(Table("Scripts by split", ("split", "share of the rows"), parts))
    return out


def place_of(doubt: Mapping[str, Any]) -> str:
    """Where a doubted row stands: its file and line, and its id where the file gave it one."""
    place = f"{doubt['file']}:{doubt['line']}" if doubt["line"] else str(doubt["file"])
    return place if made_id(doubt["id"]) else f"{place} (row {doubt['id']})"


def doubt_words(figures: Mapping[str, Any], kind: str) -> dict[str, str]:
    """By a row's id what there is to say beside it, where its target, which is of this kind, is doubtful."""
    found = figures.get("label_errors") or {}
    doubts = found.get("rows") or []
    what = "expected answer" if kind == "spans" else "label"
    out = {}
    for number, one in enumerate(doubts):
        where = f'; see "{FIRST}"' if number < SHOWN else "; see data.json"
        out[one["id"]] = (
            f"The {what} itself may be wrong: {found.get('by', CHEAP)} that has not seen the row expects "
            f'"{shown(one["expected"], 80)}" ({100 * one["expected_probability"]:.0f} %){where}.'
        )
    return out


def rate_text(rate: Mapping[str, Any]) -> str:
    """A rate of a group with its interval: "toxic 12.0 % (9.1 to 15.2)"."""
    plain = rate["metric"] == "mean_number"
    number = lambda value: "-" if value is None else f"{value:.4g}" if plain else f"{100 * value:.1f}"
    called = rate["label"] or NAMES[rate["metric"]]
    unit = "" if plain else " %"
    return f"{called} {number(rate['value'])}{unit} ({number(rate['low'])} to {number(rate['high'])})"


def scripts_text(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())


def _text(row: Row, form: Form) -> str:
    within = {field.within for field in form.fields if field.within}
    for field in (*[f for f in form.inputs if f.name not in within], *form.inputs):
        value = row.get(field.name)
        if isinstance(value, str):
            return value if len(value) <= LONGEST else f"{value[: LONGEST - 2]} …"
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return " ".join(value)[:LONGEST]
    return ""
