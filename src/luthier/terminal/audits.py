"""An audit for a person: scores by group, swapped groups, two benchmarks, findings; all fits 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from luthier.data.reading.raw import shown
from luthier.evidence.bias.groups import NAMES

from .printers import _STYLES, _indent, _table
from .streams import console

SHOWN_RATES = 24  # of one column


def _share(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{100 * value:{sign}.1f} %"


def print_audit(found: Mapping[str, Any], page: Path) -> None:
    """Tables of what was looked at, then the findings with their remedies, then where the page is."""
    out = console()
    for one in found["groups"]:
        out.print(Text(f"by {one['column']}", style="bold"))
        table = _table("group", "score", "rows", "value", "95 % interval", left=(0, 1))
        for rate in one["rates"][:SHOWN_RATES]:
            name = NAMES[rate["metric"]] + (f" ({shown(rate['label'], 20)})" if rate["label"] else "")
            share = _share if not rate["metric"].startswith("mean_") else lambda x: "-" if x is None else f"{x:.3g}"
            ends = f"{share(rate['low'])} to {share(rate['high'])}" if rate["value"] is not None else "-"
            table.add_row(shown(rate["group"], 20), name, f"{rate['rows']:,}", share(rate["value"]), ends)
        out.print(table)
        if len(one["rates"]) > SHOWN_RATES:
            out.print(f"and {len(one['rates']) - SHOWN_RATES} more (all of them: --json)")
        out.print()
    if found["swaps"]:
        out.print(Text("groups swapped", style="bold"))
        table = _table("axis", "rows", "pairs", "flips", "95 % interval", "mean shift")
        for swaps in found["swaps"]:
            low, high = swaps["flips_interval"]
            ends = "-" if swaps["flips"] is None else f"{_share(low)} to {_share(high)}"
            shift = f"{swaps['shift']:.3f}"
            table.add_row(
                swaps["axis"], f"{swaps['rows']:,}", f"{swaps['pairs']:,}", _share(swaps["flips"]), ends, shift
            )
        out.print(table)
        if found["pairs_left_out"]:
            out.print(f"{found['pairs_left_out']:,} more pairs were left out: so many say enough")
        out.print()
    for finding in found["findings"]:
        style = _STYLES.get(finding["severity"], "")
        out.print(Text(finding["severity"], style=style) + Text(f"  {finding['sentence']}"))
        if finding["remedy"]:
            _indent(out, f"Fix: {finding['remedy']}")
    out.print()
    out.print(f"page: {page}")


def print_correction(written: Mapping[str, Any]) -> None:
    """What was written where, and the command that goes on from there."""
    out = console()
    out.print(str(written["sentence"]))
    for name in written["files"]:
        _indent(out, name)
    out.print("Next:")
    for command in written["next"]:
        _indent(out, command)
