"""How rows are spread, for a person: groups with their label rates, lengths by label, scripts by split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from luthier.data.reading.raw import shown
from luthier.evidence.soundness.tables import rate_text, scripts_text

SHOWN = 6  # labels or rates


def print_balance(out: Console, figures: Mapping[str, Any]) -> None:
    """A line each for lengths and scripts, and one for every group of a column."""
    spread = figures.get("balance") or {}
    if spread.get("lengths"):
        some = [f"{shown(one['label'], 30)} {one['median']:,}" for one in spread["lengths"][:SHOWN]]
        more = f" and {len(spread['lengths']) - SHOWN} more labels" * (len(spread["lengths"]) > SHOWN)
        out.print(f"lengths  half of the rows have up to so many characters: {', '.join(some)}{more}")
    scripts = spread.get("scripts") or {}
    if len({name for shares in scripts.values() for name in shares}) > 1:
        told = "; ".join(f"{split} {scripts_text(shares)}" for split, shares in scripts.items())
        out.print(f"scripts  {told}")
    for one in figures.get("groups") or ():
        _print_groups(out, one)


def _print_groups(out: Console, one: Mapping[str, Any]) -> None:
    whole = sum(one["groups"].values())
    missing = f", {one['missing']:,} rows have no value" if one["missing"] else ""
    out.print(Text(f"by {one['column']}", style="bold") + Text(missing))
    for name, count in one["groups"].items():
        rates = [rate_text(rate) for rate in one["rates"] if rate["group"] == name]
        more = f" and {len(rates) - SHOWN} more (--json)" * (len(rates) > SHOWN)
        line = Text(f"  {shown(name, 30)}: {count:,} rows, {count / whole:.0%}; {', '.join(rates[:SHOWN])}{more}")
        out.print(line if rates else Text(line.plain.removesuffix("; ")))
