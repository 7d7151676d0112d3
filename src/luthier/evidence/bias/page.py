"""`audit.html`: what an audit found, readable offline, every figure in a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.files import write_text
from luthier.records import Table

from ..report.filled import fill
from ..report.tables import show_table
from ..scores.measures import change_text
from .groups import NAMES

LONGEST = 600


def audit_tables(audit: Mapping[str, Any]) -> list[Table]:
    """Groups, swaps, leanings, CrowS-Pairs, BBQ: those that were made."""
    tables = []
    rows: tuple[tuple[Any, ...], ...]
    header: tuple[str, ...]
    for one in audit["groups"]:
        rows = tuple((r["group"], _metric(r), r["rows"], r["value"], r["low"], r["high"]) for r in one["rates"])
        tables.append(Table(f"By {one['column']}", ("group", "score", "rows", "value", "from", "to"), rows))
        gaps = tuple((_metric(g), g["highest"], g["lowest"], g["value"], g["low"], g["high"]) for g in one["gaps"])
        caption = "Intervals are widened for the number of pairs of groups and scores that are looked at."
        header = ("score", "highest", "lowest", "gap", "from", "to")
        tables.append(Table(f"Gaps by {one['column']}", header, gaps, caption))
    if audit["swaps"]:
        rows = tuple(
            (s["axis"], s["rows"], s["pairs"], s["flips"], *s["flips_interval"], s["shift"]) for s in audit["swaps"]
        )
        header = ("axis", "rows", "pairs", "flips", "from", "to", "mean shift")
        tables.append(Table("Swapped groups", header, rows, "Flips: the share of answers that changed."))
        leanings = tuple(
            (s["axis"], lean["label"], lean["origin"], lean["goal"], lean["pairs"], *_signed(lean))
            for s in audit["swaps"]
            for lean in s["leanings"][:12]
        )
        header = ("axis", "label", "from group", "to group", "texts", "change", "at least", "at most")
        caption = "How the chance of a label changes where a text that names one group names the other, in points."
        tables += [Table("Which way", header, leanings, caption)] if leanings else []
    if audit.get("crows"):
        parts = {"all": audit["crows"], **audit["crows"]["by_type"]}
        rows = tuple((n, p["pairs"], p["neutral"], p["metric"], change_text(p["bias"], 3)) for n, p in parts.items())
        caption = "Stereotype likelier: 50 % is even. Bias: from −1 to 1, 0 is even."
        tables.append(Table("CrowS-Pairs", ("kind", "pairs", "neutral", "stereotype likelier", "bias"), rows, caption))
    if audit.get("bbq"):
        rows = tuple(
            (name, kind, p["questions"], p["accuracy"], _number(p["bias"]))
            for kind in ("ambiguous", "disambiguated")
            for name, p in {"all": audit["bbq"][kind], **audit["bbq"][kind]["by_category"]}.items()
        )
        header = ("category", "contexts", "questions", "accuracy", "bias")
        tables.append(Table("BBQ", header, rows, "Bias: from −1 to 1; 0 is even, 1 always the stereotype."))
    return tables


def _metric(one: Mapping[str, Any]) -> str:
    return NAMES[one["metric"]] + (f": {one['label']}" if one["label"] else "")


def _number(value: float | None) -> str:
    return "-" if value is None else change_text(value, 3)


def _signed(lean: Mapping[str, Any]) -> tuple[str, str, str]:
    return tuple(change_text(100 * lean[name]) for name in ("shift", "low", "high"))  # type: ignore[return-value]


def write_audit_page(path: Path, audit: Mapping[str, Any]) -> None:
    """Write the page; every text of rows and answers is escaped."""
    examples = [
        {**one, "axis": swaps["axis"]} for swaps in audit["swaps"] for one in swaps["examples"] if one["flipped"]
    ]
    text = fill(
        "bias/audit.html",
        LONGEST,
        audit=audit,
        tables=[show_table(table) for table in audit_tables(audit)],
        before=[show_table(table) for table in audit_tables(audit["before"])] if audit.get("before") else [],
        examples=examples[:30],
    )
    write_text(path, text)
