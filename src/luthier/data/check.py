"""What is wrong with rows that can be read: copies, contradictions, imbalance, truncation, leaks between
splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import did_you_mean
from ..records import Fault, FaultSeverity, Form, Row
from .content import input_names, key_of, names_of
from .raw import shown

FEWEST_ROWS = 10
FEW_ROWS = 100
FEW_PER_LABEL = 8
LONG_TEXT = 50_000  # characters
_PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 100)
# Control characters, the mark for lost characters, and UTF-8 that was once read as Windows-1252.
_ODD = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f�]|Ã[\x80-¿]|â€[\x80-¿™œž˜“”¢¦]|Â[\xa0-¿]|ï»¿")


@dataclass(slots=True)
class Checked:
    """Faults in file order, those of the whole first; `facts` are numbers for the report, ready for JSON."""

    faults: list[Fault] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.severity == "error"]


def check(
    rows: Sequence[Row],
    form: Form,
    *,
    count_tokens: Callable[[Sequence[Row]], Sequence[int]] | None = None,
    max_length: int | None = None,
    labels: Collection[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Checked:
    """Look at rows as a whole.

    `count_tokens` gives each row's length in the model's tokens; with `max_length` it shows what would be
    cut. `labels` are the only ones allowed, where the model already has its labels. `say` is told what is
    being done.
    """
    checked = Checked(facts={"rows": len(rows)})
    tell = say or (lambda _: None)
    tell("counting rows and labels")
    checked.faults += _size(rows)
    kind = form[form.target].kind
    if kind == "label":
        checked.faults += _labels(rows, form, labels, checked.facts)
    elif kind == "spans":
        checked.faults += _answerable(rows, form, checked.facts)
    tell("looking for copies and contradictions")
    checked.faults += _copies(rows, form, checked.facts)
    tell("looking at the texts")
    checked.faults += _texts(rows, form, checked.facts)
    if form.group_by is not None:
        checked.facts["groups"] = len({row.get(form.group_by) for row in rows})
    if count_tokens is not None and rows:
        tell("counting tokens")
        checked.faults += _tokens(rows, kind == "spans", count_tokens(rows), max_length, checked.facts)
    return checked


def _of_file(rows: Sequence[Row]) -> str:
    return rows[0].file if rows else ""


def _size(rows: Sequence[Row]) -> Iterator[Fault]:
    if len(rows) < FEWEST_ROWS:
        message = f"{len(rows)} usable rows, expected at least {FEWEST_ROWS}"
        yield Fault(
            "error", "too-few-rows", message, _of_file(rows), fix="add rows, or repair the ones reported"
        )
    elif len(rows) < FEW_ROWS:
        message = f"{len(rows)} rows are few: scores will have wide intervals, expected {FEW_ROWS} or more"
        yield Fault("warning", "too-few-rows", message, _of_file(rows), fix="add rows")


def _labels(
    rows: Sequence[Row], form: Form, allowed: Collection[str] | None, facts: dict[str, Any]
) -> Iterator[Fault]:
    """Classes: how many of each, unknown ones, too few of one."""
    counts = Counter(row.get(form.target) for row in rows)
    counts.pop(None, None)
    facts["labels"] = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    if not counts:
        return
    file, total = _of_file(rows), sum(counts.values())
    if allowed is not None:
        yield from unknown_labels(rows, form, allowed)
    if len(counts) == 1:
        label = next(iter(counts))
        message = f'every row is labelled "{shown(label, 40)}", expected at least two different labels'
        yield Fault(
            "error", "one-label", message, file, 0, form.target, shown(label), "add rows of another label"
        )
        return
    if len(counts) > max(50, total // 2):
        message = f"{len(counts)} different labels in {total} rows, expected a few that repeat"
        fix = "is this column the label? name the right one under data.columns"
        yield Fault("warning", "many-labels", message, file, 0, form.target, "", fix)
        return
    fair = total / len(counts)
    for label, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        if count < FEW_PER_LABEL:
            message = f'only {count} rows are labelled "{shown(label, 40)}", expected {FEW_PER_LABEL} or more'
            yield Fault(
                "warning",
                "few-rows",
                message,
                file,
                0,
                form.target,
                shown(label),
                "add rows of it, or merge it",
            )
    rarest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if rarest[1] < 0.1 * fair:
        message = (
            f'"{shown(rarest[0], 40)}" has {rarest[1]} of {total} rows ({rarest[1] / total:.1%}); '
            f"balanced, it would have {1 / len(counts):.1%}"
        )
        fix = "judge by macro F1, and add rows of the rare ones"
        yield Fault("warning", "imbalance", message, file, 0, form.target, shown(rarest[0]), fix)


def unknown_labels(
    rows: Sequence[Row], form: Form, allowed: Collection[str], severity: FaultSeverity = "error"
) -> Iterator[Fault]:
    """A fault for every row whose label is none of `allowed`."""
    asks: dict[str, str] = {}
    for row in rows:
        label = row.get(form.target)
        if label is None or label in allowed:
            continue
        if label not in asks:
            asks[label] = did_you_mean(label, allowed)
        message = f'the label "{shown(label, 40)}" is unknown. {asks[label]}'
        fix = "correct it, or add training rows of it"
        yield Fault(severity, "unknown-label", message, row.file, row.line, form.target, shown(label), fix)


def _answerable(rows: Sequence[Row], form: Form, facts: dict[str, Any]) -> Iterator[Fault]:
    marked = [row for row in rows if row.get(form.target) is not None]
    if not marked:
        return
    answered = sum(bool(row.get(form.target)) for row in marked)
    facts["answerable"] = answered / len(marked)
    if not answered:
        message = "no row has an answer, expected at least some"
        yield Fault(
            "error", "one-label", message, _of_file(rows), 0, form.target, "", "add rows with answers"
        )


def _place(row: Row) -> str:
    return f"{row.file}:{row.line}" if row.file else f"row {row.id}"


def _meaning(value: Any) -> Hashable:
    """A target as it is compared: spans as a set, since the order of answers says nothing."""
    if isinstance(value, list):
        return frozenset((span.get("text"), span.get("start")) for span in value)
    return value


def _copies(rows: Sequence[Row], form: Form, facts: dict[str, Any]) -> list[Fault]:
    """Exact copies, and equal inputs that were given different targets."""
    names = input_names(form)
    first: dict[Hashable, list[Row]] = {}
    faults: list[Fault] = []
    num = Counter({"duplicate": 0, "conflict": 0})
    for row in rows:
        key = key_of(row, names)
        earlier = first.get(key)
        if earlier is None:
            first[key] = [row]
            continue
        same = next(
            (e for e in earlier if _meaning(e.get(form.target)) == _meaning(row.get(form.target))), None
        )
        if same is not None:
            message = f"the same row as {_place(same)}, expected each row once"
            fix = "remove it; copies count twice and are kept in one split"
            faults.append(
                Fault("warning", "duplicate", message, row.file, row.line, names[0] if names else "", "", fix)
            )
            num["duplicate"] += 1
            continue
        if len(earlier) < 16:  # a million equal inputs with a million different targets must not take a day
            earlier.append(row)
        faults.append(_conflict(earlier[0], row, form))
        num["conflict"] += 1
    facts["duplicates"], facts["conflicts"] = num["duplicate"], num["conflict"]
    return faults


def _conflict(first: Row, row: Row, form: Form) -> Fault:
    """Equal inputs, different targets. Free text may well be answered in two ways, so there it is only a
    note.
    """
    kind = form[form.target].kind
    there, here = first.get(form.target), row.get(form.target)
    if kind == "spans" and bool(there) != bool(here):
        one, other = ("has an answer", "has none") if there else ("has no answer", "has one")
        message = f"{_place(first)} asks the same and {one}, this row {other}"
    elif kind == "spans":
        message = f'{_place(first)} asks the same and answers "{_said(there)}", this row "{_said(here)}"'
    else:
        message = f'{_place(first)} has the same input and says "{_said(there)}", this row "{_said(here)}"'
    severity: FaultSeverity = "note" if kind == "text" else "warning"
    fix = "decide which is right, and correct or remove the other"
    return Fault(severity, "conflict", message, row.file, row.line, form.target, _said(here), fix)


def _said(value: Any) -> str:
    if isinstance(value, list):
        value = " | ".join(dict.fromkeys(str(span.get("text")) for span in value))
    return shown(value, 40)


def _percentiles(values: Sequence[int]) -> dict[str, int]:
    """The usual percentiles, each the smallest value that many rows do not exceed."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {f"p{p}": ordered[round(last * p / 100)] for p in _PERCENTILES} if ordered else {}


def _texts(rows: Sequence[Row], form: Form, facts: dict[str, Any]) -> Iterator[Fault]:
    names = [f.name for f in form.fields if f.kind == "text"]
    odd: list[Fault] = []
    seen: dict[int, bool] = {}  # by identity: a context shared by fifty questions is one string
    facts["characters"] = {}
    for name in names:
        lengths = []
        for row in rows:
            text = row.get(name)
            if not isinstance(text, str):
                continue
            lengths.append(len(text))
            if len(text) > LONG_TEXT:
                message = f"the text has {len(text):,} characters; most models read a few thousand"
                fix = "split it into passages"
                odd.append(Fault("note", "long-row", message, row.file, row.line, name, shown(text, 40), fix))
            if id(text) not in seen:
                seen[id(text)] = True
                if match := _ODD.search(text):
                    odd.append(_odd(match, text, name, row))
        if lengths:
            facts["characters"][name] = _percentiles(lengths)
    yield from odd


def _odd(match: re.Match[str], text: str, name: str, row: Row) -> Fault:
    near = shown(text[max(0, match.start() - 15) : match.end() + 15], 60)
    codes = " ".join(f"U+{ord(c):04X}" for c in match.group())
    message = (
        f'odd characters at {match.start() + 1} ({codes}) near "{near}", expected none: a wrong encoding?'
    )
    return Fault(
        "note", "odd-characters", message, row.file, row.line, name, near, "look at it; export again as UTF-8"
    )


def _tokens(
    rows: Sequence[Row], windowed: bool, counts: Sequence[int], max_length: int | None, facts: dict[str, Any]
) -> Iterator[Fault]:
    """How long rows are for the model, and how many do not fit."""
    facts["tokens"] = _percentiles(counts)
    if max_length is None:
        return
    over = sum(count > max_length for count in counts)
    share = over / len(rows)
    facts["max_length"] = max_length
    facts["windowed" if windowed else "truncated"] = {"rows": over, "share": share}
    if not over:
        return
    wanted = facts["tokens"]["p95"]
    if windowed:
        message = (
            f"{over} rows ({share:.1%}) are longer than {max_length} tokens and are read in several windows"
        )
        yield Fault("note", "truncation", message, _of_file(rows), fix="none needed")
    else:
        message = f"{over} rows ({share:.1%}) are longer than {max_length} tokens and lose their end"
        fix = (
            f"task.max_length: {wanted} would hold 95 % of the rows"
            if wanted > max_length
            else "shorten them"
        )
        yield Fault("warning", "truncation", message, _of_file(rows), fix=fix)


def check_splits(splits: Mapping[str, Sequence[Row]], form: Form) -> list[Fault]:
    """A `leak` for every row that stands in two splits: whole, or with the same input."""
    names, every = input_names(form), names_of(form)
    first: dict[Hashable, tuple[str, Row]] = {}
    faults = []
    for split, rows in splits.items():
        for row in rows:
            where, earlier = first.setdefault(key_of(row, names), (split, row))
            if where == split:
                continue
            what = "the same row" if key_of(row, every) == key_of(earlier, every) else "the same input"
            message = f"{what} is in {where}, too ({_place(earlier)}), expected it in one split"
            fix = "data.leakage: drop"
            faults.append(
                Fault("error", "leak", message, row.file, row.line, names[0] if names else "", "", fix)
            )
    return faults
