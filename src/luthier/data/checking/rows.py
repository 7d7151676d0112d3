"""What is wrong with rows that can be read: copies, contradictions, imbalance, truncation, leaks between
splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...records import Fault, FaultSeverity, Form, Row
from ..pulse import Pulse, Say
from ..reading.raw import shown
from ..splitting.content import frozen, given_names, input_names, key_of, names_of, text_of
from ..uncollected import uncollected
from .targets import percentiles, target_faults

FEWEST_ROWS = 10
FEW_ROWS = 100
LONG_TEXT = 50_000  # characters
FAR = 0.1  # of the numbers' range: two numbers for one input that lie further apart contradict each other
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
    say: Say | None = None,
) -> Checked:
    """Look at rows as a whole.

    `count_tokens` gives each row's length in the model's tokens; with `max_length` it shows what would be
    cut. `labels` are the only ones allowed, where the model already has its labels. `say` is told what is
    being done, and with how many rows.
    """
    checked = Checked(facts={"rows": len(rows)})
    Pulse(say, "counting rows and labels")
    checked.faults += _size(rows)
    checked.faults += target_faults(rows, form, labels, checked.facts, _of_file(rows))
    checked.faults += _copies(rows, form, checked.facts, Pulse(say, "looking for copies and contradictions"))
    checked.faults += _same_texts(rows, form)
    checked.faults += _texts(rows, form, checked.facts, Pulse(say, "looking at the texts"))
    if form.group_by is not None:
        checked.facts["groups"] = len({frozen(row.get(form.group_by)) for row in rows})
    if count_tokens is not None and rows:
        Pulse(say, "counting tokens")
        checked.faults += _tokens(rows, form, count_tokens(rows), max_length, checked.facts)
    return checked


def _files(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.file for row in rows))


def _of_file(rows: Sequence[Row]) -> str:
    """The file that all rows are from; of several, "": what is said is said of all of them together."""
    files = _files(rows)
    return files[0] if len(files) == 1 else ""


def _size(rows: Sequence[Row]) -> Iterator[Fault]:
    files = _files(rows)
    where = f" in {len(files)} files together" if len(files) > 1 else ""
    if len(rows) < FEWEST_ROWS:
        message = f"{len(rows)} usable rows{where}, expected at least {FEWEST_ROWS}"
        fix = "add rows, or repair the ones reported"
        yield Fault("error", "too-few-rows", message, _of_file(rows), fix=fix)
    elif len(rows) < FEW_ROWS:
        message = f"{len(rows)} rows{where} are few: scores will have wide intervals, expected {FEW_ROWS} or more"
        yield Fault("warning", "too-few-rows", message, _of_file(rows), fix="add rows")


def _place(row: Row) -> str:
    return f"{row.file}:{row.line}" if row.file else f"row {row.id}"


def _meaning(value: Any) -> Hashable:
    """A target as it is compared: spans as a set, since the order of answers says nothing."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return frozenset((span.get("text"), span.get("start")) for span in value)
    return frozen(value)


@uncollected()
def _copies(rows: Sequence[Row], form: Form, facts: dict[str, Any], pulse: Pulse) -> list[Fault]:
    """Exact copies, and equal inputs that were given different targets."""
    first: dict[Hashable, tuple[Row, ...]] = {}
    faults: list[Fault] = []
    num = Counter({"duplicate": 0, "conflict": 0})
    for row in pulse.over(rows):
        names = given_names(row, form)
        key = key_of(row, names)
        earlier = first.get(key)
        if earlier is None:
            first[key] = (row,)
            continue
        same = next((e for e in earlier if _meaning(e.get(form.target)) == _meaning(row.get(form.target))), None)
        if same is not None:
            faults.append(_duplicate(same, row, names[0] if names else ""))
            num["duplicate"] += 1
            continue
        if len(earlier) < 16:  # a million equal inputs with a million different targets must not take a day
            first[key] = (*earlier, row)
        if form.several:
            continue
        faults.append(_conflict(earlier[0], row, form, facts))
        num["conflict"] += 1
    facts["duplicates"], facts["conflicts"] = num["duplicate"], num["conflict"]
    return faults


ELSEWHERE = "the same row as in another file"


def is_elsewhere(fault: Fault) -> bool:
    """Whether it says that a row stands in another file, too."""
    return fault.code == "duplicate" and fault.message.startswith(ELSEWHERE)


def _duplicate(same: Row, row: Row, name: str) -> Fault:
    """The same row twice: in one file it counts twice; in two files one of them may be a test."""
    if same.file == row.file:
        message = f"the same row as {_place(same)}, expected each row once"
        fix = "remove it; copies count twice and are kept in one split"
    else:
        message = f"{ELSEWHERE} ({_place(same)}), expected each row in one of them"
        fix = "remove one of the two; what a test of your own shares with training data.leakage decides"
    return Fault("warning", "duplicate", message, row.file, row.line, name, "", fix)


def _conflict(first: Row, row: Row, form: Form, facts: Mapping[str, Any]) -> Fault:
    """Equal inputs, different targets. Free text may well be answered in two ways, so there it is only a
    note; so are two numbers that lie near each other.
    """
    kind = form[form.target].kind
    there, here = first.get(form.target), row.get(form.target)
    severity: FaultSeverity = "note" if kind == "text" else "warning"
    if kind == "spans" and bool(there) != bool(here):
        one, other = ("has an answer", "has none") if there else ("has no answer", "has one")
        message = f"{_place(first)} asks the same and {one}, this row {other}"
    elif kind == "spans":
        message = f'{_place(first)} asks the same and answers "{_said(there)}", this row "{_said(here)}"'
    elif kind == "tags":
        message = f"{_place(first)} is the same sentence with other tags: {_other_tag(first, row, form)}"
    elif kind == "labels":
        message = f"{_place(first)} has the same input and the labels {_said(there)}, this row {_said(here)}"
    else:
        message = f'{_place(first)} has the same input and says "{_said(there)}", this row "{_said(here)}"'
    if kind == "number" and here is not None and there is not None:
        span = facts["numbers"]["high"] - facts["numbers"]["low"]
        severity = "warning" if abs(here - there) > FAR * span else "note"
    fix = "decide which is right, and correct or remove the other"
    value = "" if kind == "tags" else _said(here)
    return Fault(severity, "conflict", message, row.file, row.line, form.target, value, fix)


def _other_tag(first: Row, row: Row, form: Form) -> str:
    """The first word that two rows tag differently."""
    there, here = first.get(form.target) or [], row.get(form.target) or []
    words = row.get(form[form.target].within or "") or here
    i = next((i for i, (a, b) in enumerate(zip(there, here)) if a != b), 0)
    if i >= min(len(there), len(here), len(words)):
        return "one of them has none"
    return f'word {i + 1}, "{shown(words[i], 40)}", is {shown(there[i], 40)} there and {shown(here[i], 40)} here'


def _said(value: Any) -> str:
    if isinstance(value, list):
        texts = (str(item.get("text")) if isinstance(item, dict) else str(item) for item in value)
        value = " | ".join(dict.fromkeys(texts)) or "(none)"
    return shown(value, 40)


def _same_texts(rows: Sequence[Row], form: Form) -> Iterator[Fault]:
    """Rows in which two fields hold the same text: what is learned is what is given."""
    names = [f.name for f in form.fields if f.kind == "text"]
    if form[form.target].kind not in ("text", "number") or len(names) < 2:
        return
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            same = [row for row in rows if row.get(name) is not None and row.get(name) == row.get(other)]
            if not same or (form[form.target].kind == "number" and len(same) < len(rows)):
                continue  # two equal sentences may well be scored
            message = f"{len(same)} rows hold the same text as {name} and as {other}, the first at {_place(same[0])}"
            fix = "look at them: nothing is learned from a copy"
            yield Fault("note", "same-text", message, same[0].file, same[0].line, other, "", fix)


def _texts(rows: Sequence[Row], form: Form, facts: dict[str, Any], pulse: Pulse) -> Iterator[Fault]:
    odd: list[Fault] = []
    seen: set[int] = set()  # by identity: a context shared by fifty questions is one string
    lone = form.inputs == (form[form.target],)  # texts learned for themselves may be as long as they like
    facts["characters"] = {}
    for f in form.fields:
        if f.kind not in ("text", "tokens", "messages"):
            continue
        lengths = []
        for row in pulse.over(rows):
            value = row.get(f.name)
            text = text_of(value)
            if not text:
                continue
            lengths.append(len(text))
            if len(text) > LONG_TEXT and not lone:
                message = f"the text has {len(text):,} characters; most models read a few thousand"
                fix = "split it into passages"
                place = Fault("note", "long-row", message, row.file, row.line, f.name, shown(text, 40), fix)
                odd.append(place)
            if id(value) not in seen:
                seen.add(id(value))
                if match := _ODD.search(text):
                    odd.append(_odd(match, text, f.name, row))
        if lengths:
            facts["characters"][f.name] = percentiles(lengths)
    yield from odd


def _odd(match: re.Match[str], text: str, name: str, row: Row) -> Fault:
    near = shown(text[max(0, match.start() - 15) : match.end() + 15], 60)
    codes = " ".join(f"U+{ord(c):04X}" for c in match.group())
    message = f'odd characters at {match.start() + 1} ({codes}) near "{near}", expected none: a wrong encoding?'
    return Fault("note", "odd-characters", message, row.file, row.line, name, near, "look at it; export again as UTF-8")


def _tokens(
    rows: Sequence[Row], form: Form, counts: Sequence[int], max_length: int | None, facts: dict[str, Any]
) -> Iterator[Fault]:
    """How long rows are for the model, and how many do not fit."""
    facts["tokens"] = percentiles(counts)
    if max_length is None:
        return
    over = sum(count > max_length for count in counts)
    share = over / len(rows)
    windows = form[form.target].kind == "spans"
    blocks = form.inputs == (form[form.target],)
    facts["max_length"] = max_length
    facts["windowed" if windows or blocks else "truncated"] = {"rows": over, "share": share}
    if not over:
        return
    wanted = facts["tokens"]["p95"]
    one = over == 1
    which = f"{over} row{'s' * (not one)} ({share:.1%}) {'is' if one else 'are'} longer than {max_length} tokens and"
    if windows or blocks:
        message = f"{which} {'is' if one else 'are'} read in several {'windows' if windows else 'blocks'}"
        yield Fault("note", "truncation", message, _of_file(rows), fix="none needed")
        return
    fix = f"task.max_length: {wanted} would hold 95 % of the rows" if wanted > max_length else "shorten them"
    lost = f"{'loses its' if one else 'lose their'} end"
    if any(f.kind == "messages" for f in form.fields):
        lost = f"{'loses its' if one else 'lose their'} oldest turns, then the beginning of the longest text"
    yield Fault("warning", "truncation", f"{which} {lost}", _of_file(rows), fix=fix)


def check_splits(splits: Mapping[str, Sequence[Row]], form: Form, say: Say | None = None) -> list[Fault]:
    """A `leak` for every row that stands in two splits: whole, or with the same input. `say` is told what is being
    done, and with how many rows of a split.
    """
    every = names_of(form)
    first: dict[Hashable, tuple[str, Row]] = {}
    faults = []
    for split, rows in splits.items():
        for row in Pulse(say, "comparing the splits").over(rows):
            where, earlier = first.setdefault(key_of(row, given_names(row, form)), (split, row))
            if where == split:
                continue
            what = "the same row" if key_of(row, every) == key_of(earlier, every) else "the same input"
            message = f"{what} is in {where}, too ({_place(earlier)}), expected it in one split"
            name = next(iter(input_names(form)), "")
            fix = "data.leakage: drop"
            faults.append(Fault("error", "leak", message, row.file, row.line, name, "", fix))
    return faults
