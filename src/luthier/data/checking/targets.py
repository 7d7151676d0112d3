"""What is wrong with what rows teach: labels, several labels, numbers, answers, tags, and turns of dialogues."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ...errors import did_you_mean
from ...records import Fault, FaultSeverity, Field, Form, Row
from ..reading.raw import shown
from ..rows.labels import as_number
from ..rows.tags import mentions
from ..splitting.content import marks_of

FEW_PER_LABEL = 8
FEW_CLASSES = 5  # so many whole numbers may well be the names of classes
NEARLY_ALL = 0.95  # of the rows: a rating column may hold a few "unknown"
PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 100)
Facts = dict[str, Any]


def percentiles(values: Sequence[int]) -> dict[str, int]:
    """The usual percentiles, each the smallest value that many rows do not exceed."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {f"p{p}": ordered[round(last * p / 100)] for p in PERCENTILES} if ordered else {}


def target_faults(
    rows: Sequence[Row], form: Form, allowed: Collection[str] | None, facts: Facts, file: str
) -> Iterator[Fault]:
    """What can be said of the target as a whole, by its kind; numbers for the report go into `facts`.

    `allowed` are the only labels (or types of entities) there may be, where the model already has its own.
    """
    look = _LOOKS.get(form[form.target].kind)
    if look is not None:
        yield from look(rows, form, allowed, facts, file)
    turns = next((f for f in form.fields if f.kind == "messages"), None)
    if turns is not None:
        _dialogues(rows, form, turns, facts)


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _label(
    rows: Sequence[Row], form: Form, allowed: Collection[str] | None, facts: Facts, file: str
) -> Iterator[Fault]:
    """Classes: how many of each, unknown ones, too few of one."""
    counts = Counter(row.get(form.target) for row in rows)
    counts.pop(None, None)
    facts["labels"] = _ordered(counts)
    if not counts:
        return
    total = sum(counts.values())
    if allowed is not None:
        yield from unknown_labels(rows, form, allowed)
    if len(counts) == 1:
        label = next(iter(counts))
        message = f'every row is labelled "{shown(label, 40)}", expected at least two different labels'
        yield Fault("error", "one-label", message, file, 0, form.target, shown(label), "add rows of another label")
        return
    if allowed is None:
        yield from _numeric(counts, form, file)
    if len(counts) > max(50, total // 2):
        # Where none repeats, nothing that one row teaches is true of another.
        yield _many_labels(len(counts), total, form, file, "error" if len(counts) == total else "warning")
        return
    yield from _spellings(counts, "rows", form, file)
    yield from _few(counts, "rows labelled", "add rows of it, or merge it", form, file)
    fair = total / len(counts)
    rarest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if rarest[1] < 0.1 * fair:
        message = (
            f'"{shown(rarest[0], 40)}" has {rarest[1]} of {total} rows ({rarest[1] / total:.1%}); '
            f"balanced, it would have {1 / len(counts):.1%}"
        )
        fix = "judge by macro F1, and add rows of the rare ones"
        yield Fault("warning", "imbalance", message, file, 0, form.target, shown(rarest[0]), fix)


def _many_labels(number: int, total: int, form: Form, file: str, severity: FaultSeverity = "warning") -> Fault:
    message = f"{number} different labels in {total} rows, expected a few that repeat"
    fix = "is this column the label? name the right one under data.columns"
    return Fault(severity, "many-labels", message, file, 0, form.target, "", fix)


def _spellings(counts: Counter[str], what: str, form: Form, file: str) -> Iterator[Fault]:
    """A warning for every class that is written in several ways: it is learned as several classes."""
    alike: dict[str, list[str]] = {}
    for label in _ordered(counts):
        alike.setdefault(" ".join(label.lower().split()), []).append(label)
    for same in alike.values():
        if len(same) > 1:
            each = ", ".join(f'"{shown(label, 40)}" ({counts[label]} {what})' for label in same)
            message = f"written in {len(same)} ways that differ only by case or blanks: {each}, expected one"
            fix = f'write them alike, "{shown(same[0], 40)}", unless they mean different things'
            yield Fault("warning", "label-spelling", message, file, 0, form.target, shown(same[0]), fix)


def _numeric(counts: Counter[str], form: Form, file: str) -> Iterator[Fault]:
    """A note where labels look like measured numbers: fractions, or more whole numbers than classes usually have."""
    told = {label: number for label in counts if (number := as_number(label)) is not None}
    values = sorted(set(told.values()))
    if sum(counts[label] for label in told) < NEARLY_ALL * sum(counts.values()) or len(values) < 3:
        return
    if len(values) > FEW_CLASSES or not all(value.is_integer() for value in values):
        some = ", ".join(f"{value:g}" for value in values[:FEW_CLASSES])
        more = f" and {len(values) - FEW_CLASSES} more" if len(values) > FEW_CLASSES else ""
        message = f"the labels are numbers ({some}{more}); each is taken as a class of its own"
        fix = "to estimate a number, set task.problem_type: regression"
        yield Fault("note", "numeric-labels", message, file, 0, form.target, f"{values[0]:g}", fix)


def _few(counts: Counter[str], said: str, fix: str, form: Form, file: str) -> Iterator[Fault]:
    """A warning for every class that is too rare to learn."""
    for label, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        if count < FEW_PER_LABEL:
            message = f'{said} "{shown(label, 40)}": {count}, expected {FEW_PER_LABEL} or more'
            yield Fault("warning", "few-rows", message, file, 0, form.target, shown(label), fix)


def _labels(
    rows: Sequence[Row], form: Form, allowed: Collection[str] | None, facts: Facts, file: str
) -> Iterator[Fault]:
    """Several labels a row: how many of each, those that are always or never on, rows with none."""
    marked = [row[form.target] for row in rows if row.get(form.target) is not None]
    counts = Counter(label for labels in marked for label in labels)
    none = sum(not labels for labels in marked)
    facts["labels"] = _ordered(counts)
    facts["labels_per_row"] = percentiles([len(labels) for labels in marked])
    facts["rows_without_label"] = none
    if not marked:
        return
    if allowed is not None:
        yield from unknown_labels(rows, form, allowed)
        for label in sorted(set(allowed) - set(counts)):
            message = f'"{shown(label, 40)}" is on no row, expected some'
            fix = "add rows of it, or leave it out"
            yield Fault("warning", "constant-label", message, file, 0, form.target, shown(label), fix)
    if not counts or (len(counts) == 1 and none == 0):
        found = f'the one label "{shown(next(iter(counts)), 40)}"' if counts else "no label"
        message = f"every row has {found}, expected rows that differ"
        yield Fault("error", "one-label", message, file, 0, form.target, "", "add rows with other labels")
        return
    if len(counts) > max(50, len(marked) // 2):
        yield _many_labels(len(counts), len(marked), form, file)
        return
    yield from _spellings(counts, "rows", form, file)
    for label in sorted(label for label, count in counts.items() if count == len(marked)):
        message = f'"{shown(label, 40)}" is on every row, expected some without it: it says nothing'
        fix = "add rows without it, or leave it out"
        yield Fault("warning", "constant-label", message, file, 0, form.target, shown(label), fix)
    yield from _few(counts, "rows labelled", "add rows of it, or merge it", form, file)
    if none:
        message = f'{none} rows ({none / len(marked):.1%}) have no label: they teach "none of them"'
        yield Fault("note", "no-labels", message, file, 0, form.target, "", "remove those nobody has labelled")


def _number(
    rows: Sequence[Row], form: Form, allowed: Collection[str] | None, facts: Facts, file: str
) -> Iterator[Fault]:
    """Numbers: their range, and whether there is anything to learn."""
    values = [row[form.target] for row in rows if row.get(form.target) is not None]
    if not values:
        return
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    low, high = min(values), max(values)
    facts["numbers"] = {"low": low, "high": high, "mean": mean, "deviation": spread}
    if low == high:
        message = f"every row has the number {low:g}, expected numbers that differ"
        fix = "is this column the number? name the right one under data.columns"
        yield Fault("error", "one-label", message, file, 0, form.target, f"{low:g}", fix)


def _answers(
    rows: Sequence[Row], form: Form, allowed: Collection[str] | None, facts: Facts, file: str
) -> Iterator[Fault]:
    marked = [row for row in rows if row.get(form.target) is not None]
    if not marked:
        return
    answered = sum(bool(row.get(form.target)) for row in marked)
    facts["answerable"] = answered / len(marked)
    if not answered:
        message = "no row has an answer, expected at least some"
        yield Fault("error", "one-label", message, file, 0, form.target, "", "add rows with answers")


def _tags(rows: Sequence[Row], form: Form, allowed: Collection[str] | None, facts: Facts, file: str) -> Iterator[Fault]:
    """Tags and mentions by type; types too rare to learn."""
    marked = [row[form.target] for row in rows if row.get(form.target) is not None]
    found = [mentions(tags) for tags in marked]
    counts = Counter(kind for some in found for _, _, kind in some)
    facts["tags"] = _ordered(Counter(tag for tags in marked for tag in tags))
    facts["entities"] = _ordered(counts)
    facts["words"] = sum(map(len, marked))
    facts["rows_with_entities"] = sum(map(bool, found))
    if not marked:
        return
    if allowed is not None:
        yield from unknown_labels(rows, form, allowed)
    if not counts:
        message = "no word is tagged as part of an entity, expected at least some"
        yield Fault("error", "one-label", message, file, 0, form.target, "", "add rows with entities")
        return
    if len(counts) > max(50, len(marked) // 2):
        yield _many_labels(len(counts), len(marked), form, file)
        return
    yield from _spellings(counts, "mentions", form, file)
    yield from _few(counts, "mentions of the type", "tag more of it, or merge it", form, file)


def _dialogues(rows: Sequence[Row], form: Form, turns: Field, facts: Facts) -> None:
    """Who speaks how often, how long dialogues are, how many rows offer tools. Plain text has no turns."""
    roles: Counter[str] = Counter()
    lengths = []
    for row in rows:
        given = row.get(turns.name) or []
        answered = bool(given) and form.target != turns.name and row.get(form.target) is not None
        roles.update(turn["role"] for turn in given)
        roles["assistant"] += answered
        lengths.append(len(given) + answered)
    facts["roles"] = {role: count for role, count in _ordered(roles).items() if count}
    facts["turns"] = percentiles(lengths)
    facts["rows_with_tools"] = sum(bool(row.get("tools")) for row in rows)


_LOOKS: Mapping[str, Callable[[Sequence[Row], Form, Collection[str] | None, Facts, str], Iterator[Fault]]] = {
    "label": _label,
    "labels": _labels,
    "number": _number,
    "spans": _answers,
    "tags": _tags,
}


def unknown_labels(
    rows: Sequence[Row], form: Form, allowed: Collection[str], severity: FaultSeverity = "error"
) -> Iterator[Fault]:
    """A fault for every row with a label (or a type of entity) that is none of `allowed`."""
    kind = form[form.target].kind
    asks: dict[str, str] = {}
    what = "type of entity" if kind == "tags" else "label"
    for row in rows:
        for label in marks_of(row.get(form.target), kind):
            if label in allowed:
                continue
            if label not in asks:
                asks[label] = did_you_mean(label, allowed)
            message = f'the {what} "{shown(label, 40)}" is unknown. {asks[label]}'
            fix = "correct it, or add training rows of it"
            yield Fault(severity, "unknown-label", message, row.file, row.line, form.target, shown(label), fix)
