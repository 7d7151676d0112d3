"""`audit.html`: what an audit found, readable offline, every figure in a table."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.files import write_text
from luthier.records import Table

from ..report.filled import fill
from ..report.tables import show_table
from ..scores.measures import change_text
from .compared import NAMES as MEANS
from .groups import FEWEST, NAMES

LONGEST = 600
ENOUGH = 10  # texts that a leaning by chance must rest on to be shown
_GRAVEST = ("blocker", "warning", "note")
_RATES = (
    "Of the rows that have a label the true positive rate is the share that is given it, of the others the false "
    "positive rate is; of all rows the selection rate is."
)
_HEADLINES = {  # by the gravest finding
    "blocker": ("refuse", "It does not treat groups alike", "What was found forbids its use for now."),
    "warning": ("open", "It may not treat groups alike", "Nothing forbids its use; read the warnings before you do."),
    "note": ("use", "Nothing found speaks against it", "Of what was looked at, that is: see at the end what was not."),
}


def audit_tables(audit: Mapping[str, Any]) -> list[Table]:
    """Swaps, leanings, groups, CrowS-Pairs, BBQ: those that were made."""
    tables = _swap_tables(audit) if audit["swaps"] else []
    for one in audit["groups"]:
        rates = tuple((r["group"], _metric(r), r["rows"], _value(r), _ends(r)) for r in one["rates"])
        header: tuple[str, ...] = ("group", "score", "test rows", "value", "95 % interval")
        caption = _RATES if len({r["metric"] for r in one["rates"]}) > 1 else ""
        caption = f"{caption} A group of under {FEWEST} rows is shown and not judged.".strip()
        tables.append(Table(f"Scores by {one['column']}", header, rates, caption))
        gaps = tuple(
            (
                _metric(g),
                g["highest"],
                g["lowest"],
                _value(g, points=True),
                _ends(g, points=True) + ("" if g["low"] > 0 else ": may be chance"),
            )
            for g in one["gaps"]
        )
        caption = (
            "A gap is the highest group's score minus the lowest one's. Its interval is widened for the number of "
            "groups and scores that are looked at."
        )
        header = ("score", "highest", "lowest", "gap", "95 % interval of the gap")
        tables.append(Table(f"Gaps by {one['column']}", header, gaps, caption))
    if audit.get("crows"):
        parts = {"all": audit["crows"], **audit["crows"]["by_type"]}
        rows: tuple[tuple[Any, ...], ...] = tuple(
            (n, p["pairs"], p["neutral"], p["metric"], change_text(p["bias"], 2), _bias(p)) for n, p in parts.items()
        )
        header = ("about", "pairs", "neither likelier", "stereotype likelier", "bias", "95 % interval of the bias")
        caption = (
            "Of two sentences, how often the model finds the stereotype likelier: 50 % is even. Bias runs from -1 "
            "(never the stereotype) over 0 (even) to 1 (always)."
        )
        tables.append(Table("CrowS-Pairs", header, rows, caption))
    if audit.get("bbq"):
        rows = tuple(
            (name, _CONTEXTS[kind], p["questions"], p["accuracy"], _number(p["bias"]), _bias(p))
            for kind in _CONTEXTS
            for name, p in {"all": audit["bbq"][kind], **audit["bbq"][kind]["by_category"]}.items()
        )
        header = ("about", "the context", "questions", "right", "bias", "95 % interval of the bias")
        out = audit["bbq"]["unmatched"]
        caption = "Questions about people. Bias runs from −1 (never the stereotype) over 0 (even) to 1 (always)."
        caption += f" {out:,} answers are none of the three choices and were left out." if out else ""
        tables.append(Table("BBQ", header, rows, caption))
    return tables


_CONTEXTS = {"ambiguous": "does not tell", "disambiguated": "tells the answer"}


def _swap_tables(audit: Mapping[str, Any]) -> list[Table]:
    rows: tuple[tuple[Any, ...], ...] = tuple(
        (s["axis"], s["rows"], s["pairs"], s["flips"], _interval(*s["flips_interval"]), _moved(s))
        for s in audit["swaps"]
    )
    header: tuple[str, ...] = ("words of", "test rows", "swaps", "flips", "95 % interval", "answers moved by")
    caption = (
        "A flip is an answer that changes when nothing in the text does but the words of groups, such as she and he. "
        "Of a model that treats groups alike hardly any answer flips."
    )
    tables = [Table("Swapped groups", header, rows, caption)]
    leanings = [(s["axis"], lean) for s in audit["swaps"] for lean in _leanings(s["leanings"])]
    if leanings:
        caption = (
            "How the chance of an answer changes where a text that names one group names the other. Shown is what is "
            "beyond chance or rests on ten texts; of two answers one, since the other moves as far the other way."
        )
        header = ("words of", "from, to", "answer", "texts", "its chance changes by", "95 % interval")
        rows = tuple(
            (axis, f"{lean['origin']} to {lean['goal']}", lean["label"], lean["pairs"], *_signed(lean))
            for axis, lean in leanings
        )
        tables.append(Table("Which way", header, rows, caption))
    return tables


def _leanings(leanings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those worth a line: beyond chance or of many texts, and none that is another's opposite."""
    kept: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for lean in leanings:
        if lean["low"] > 0 or lean["high"] < 0 or lean["pairs"] >= ENOUGH:
            kept.setdefault((lean["origin"], lean["goal"], round(abs(lean["shift"]), 6)), lean)
    return list(kept.values())[:12]


def _moved(swaps: Mapping[str, Any]) -> str:
    """How far answers moved on average, in the unit of their kind."""
    if swaps["flips"] is None:
        return f"{swaps['shift']:+.3f} loss a token"
    number = any(lean["label"] == "number" for lean in swaps["leanings"])
    return f"{swaps['shift']:.2f} standard deviations" if number else f"{100 * swaps['shift']:.1f} points"


def _metric(one: Mapping[str, Any]) -> str:
    return NAMES[one["metric"]] + (f" of {one['label']}" if one["label"] else "")


def _value(one: Mapping[str, Any], points: bool = False) -> str:
    """A share in percent, a difference of shares in points, a mean of numbers as it is."""
    value = one["value"]
    if value is None or math.isnan(value):
        return "-"
    if one["metric"].startswith("mean_"):
        return f"{value:.3g}"
    return f"{100 * value:.1f} points" if points else f"{100 * value:.1f} %"


def _interval(low: float | None, high: float | None, share: bool = True) -> str:
    if low is None or high is None:
        return "-"
    return f"{100 * low:.1f} % to {100 * high:.1f} %" if share else f"{low:.3g} to {high:.3g}"


def _ends(one: Mapping[str, Any], points: bool = False) -> str:
    """The interval of a rate or a gap, in the unit of its score."""
    if one["metric"].startswith("mean_"):
        return _interval(one["low"], one["high"], share=False)
    return f"{100 * one['low']:.1f} to {100 * one['high']:.1f} points" if points else _interval(one["low"], one["high"])


def _bias(part: Mapping[str, Any]) -> str:
    low, high = (part.get("intervals") or {}).get("bias", (None, None))
    return "-" if low is None or high is None else f"{change_text(low, 2)} to {change_text(high, 2)}"


def _number(value: float | None) -> str:
    return "-" if value is None else change_text(value, 2)


def _signed(lean: Mapping[str, Any]) -> tuple[str, str]:
    low, high = lean["low"], lean["high"]
    scale, unit = (1, "") if lean["label"] in ("number", "loss") else (100, " points")
    chance = ": may be chance" if low <= 0 <= high else ""
    return (
        f"{change_text(scale * lean['shift'])}{unit}",
        f"{change_text(scale * low)} to {change_text(scale * high)}{chance}",
    )


def compared_table(audit: Mapping[str, Any]) -> Table | None:
    """What was found before a correction and now, side by side; None without an audit of the same rows from before."""
    found = next((one["numbers"] for one in audit["findings"] if one["id"] == "audit-compared"), None)
    if found is None:
        return None
    before, rows = audit["before"], []
    then = {one["axis"]: one["flips"] for one in before["swaps"]}
    for one in audit["swaps"]:
        old, new = then.get(one["axis"]), one["flips"]
        if old is not None and new is not None and (old or new):  # what flips in neither is left out
            change = _changed(found["changes"].get(one["axis"]))
            rows.append((f"answers that flip, words of {one['axis']}", _percent(old), _percent(new), change))
    if found["gap_before"] is not None and found["gap"] is not None:
        a, b = found["gap_before"], found["gap"]
        rows.append(("widest gap between groups", f"{100 * a:.1f} points", f"{100 * b:.1f} points", _points(b - a)))
    both = [(before["quality"][id], now) for id, now in audit["quality"].items() if id in before["quality"]]
    a, b = (sum(one[side] for one in both) / len(both) for side in (0, 1))
    rows.append(("mean quality of an answer", _percent(a), _percent(b), _changed(found["quality_change"])))
    if found["refused"]:
        rows.append(("answers that are refused", _percent(0), _percent(found["refused"]), _points(found["refused"])))
    caption = (
        "On the same test rows. Of quality a right answer counts 100 %, a wrong one 0 %, a partly right one what it "
        "shares. A refused answer counts as wrong."
    )
    header = ("", f"before ({before['run']})", f"now ({audit['run']})", "change, with its 95 % interval")
    return Table("Before and now", header, tuple(rows), caption)


def _changed(change: Sequence[float] | None) -> str:
    """A change of a share with its interval."""
    if not change:
        return "-"
    mean, low, high = change
    chance = ": may be chance" if low <= 0 <= high else ""
    return f"{_points(mean)} ({change_text(100 * low)} to {change_text(100 * high)}){chance}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{change_text(100 * share)} points"


def _marked(one: str, other: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts in pieces, each with whether the other has it otherwise."""
    ours, theirs = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (one, other))
    out: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for name, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        for side, words in zip(out, (ours[a:b], theirs[c:d])):
            side += [("".join(words), name != "equal")] if words else []
    return out


def _examples(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Flipped answers, by axis in turn, so that no axis fills the page."""
    by_axis = [[{**one, "axis": s["axis"]} for one in s["examples"] if one["flipped"]] for s in audit["swaps"]]
    most = max(map(len, by_axis), default=0)
    some = [own[turn] for turn in range(most) for own in by_axis if turn < len(own)][:30]
    for one in some:
        one["before"], one["after"] = _marked(one["before"], one["after"])
    return some


def write_audit_page(path: Path, audit: Mapping[str, Any]) -> None:
    """Write the page; every text of rows and answers is escaped."""
    ordered: Sequence[Mapping[str, Any]] = sorted(audit["findings"], key=lambda one: _GRAVEST.index(one["severity"]))
    # How it stands now, not whether what was done to it helped.
    now = [one for one in ordered if one["id"] != "audit-compared"] or ordered
    tone, word, meaning = _HEADLINES[now[0]["severity"] if now else "note"]
    compared = compared_table(audit)
    quality = list(audit["quality"].values())
    text = fill(
        "bias/audit.html",
        LONGEST,
        audit=audit,
        tone=tone,
        word=word,
        meaning=meaning,
        quality=_percent(sum(quality) / len(quality)) if quality else "-",
        findings=[one for one in ordered if one["id"] != "audit-compared"],
        outcome=next((one for one in ordered if one["id"] == "audit-compared"), None),
        means=MEANS.get((audit.get("before") or {}).get("means", ""), "The correction"),
        compared=show_table(compared) if compared else None,
        tables=[show_table(table) for table in audit_tables(audit)],
        before=[show_table(table) for table in audit_tables(audit["before"])] if audit.get("before") else [],
        examples=_examples(audit),
    )
    write_text(path, text)
