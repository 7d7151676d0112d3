"""From files to splits that can be trusted: load -> check -> split -> leakage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data import (
    Loaded,
    apply,
    check,
    check_splits,
    distinct_ids,
    is_elsewhere,
    load,
    marks_of,
    split,
    unknown_labels,
)
from luthier.data.options import NO_GROUPS, DataOptions
from luthier.data.uncollected import uncollected
from luthier.errors import DataError
from luthier.records import SPLITS, Fault, Finding, Form, Row, content_hash
from luthier.tasks import Task
from luthier.training.events import Event, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AT_ONCE = 1000  # rows that are tokenised
SHOWN = 8  # faults in an error message; all of them are in data.json


@dataclass
class Prepared:
    """Rows by split, and everything that was found on the way."""

    splits: dict[str, list[Row]]
    faults: list[Fault]
    facts: dict[str, Any]
    files: list[dict[str, Any]]
    format: str
    columns: dict[str, str]
    read: int
    moves: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    refusal: DataError | None = None  # why the rows could not be split; among the faults, too

    @property
    def errors(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.severity == "error"]

    def as_json(self) -> dict[str, Any]:
        """data.json."""
        counts = Counter((f.severity, f.code) for f in self.faults)
        return {
            "files": self.files,
            "format": self.format,
            "columns": self.columns,
            "read": self.read,
            "kept": sum(len(rows) for rows in self.splits.values()),
            "splits": {name: len(rows) for name, rows in self.splits.items()},
            "facts": self.facts,
            "faults": [f.as_json() for f in self.faults[:10_000]],
            "fault_counts": [{"severity": s, "code": c, "count": n} for (s, c), n in counts.items()],
            "moves": self.moves,
            "findings": [f.as_json() for f in self.findings],
        }


def group_field(options: DataOptions, task: Task, rows: Iterable[Row]) -> str | None:
    """The field whose equal values make rows one unit: the recipe's, else the task's own; None if no row has it."""
    if options.group_by == NO_GROUPS:
        return None
    name = options.group_by or task.form.group_by
    return name if any(name in row.fields for row in rows) else None


def prepare(
    options: DataOptions,
    task: Task,
    base: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    emit: Callable[[Event], None],
) -> Prepared:
    """Every row read, checked, and in exactly one split.

    Never raises for faults in rows, for splits that cannot be filled, or for a test that shares too many rows with
    training (they are in `faults`); DataError where a file cannot be read.
    """
    form = task.form

    sources = {"train": options.train, "validation": options.validation, "test": options.test}
    given: dict[str, Any] = {name: s for name, s in sources.items() if not isinstance(s, (int, float))}
    loaded = {}
    for name, source in given.items():
        emit(Phase(f"reading the {name} rows"))
        loaded[name] = load(
            source,
            form,
            columns=options.columns,
            format=options.format,
            base=base,
            label_names=options.label_names,
            say=lambda what, done: emit(Phase(what, done)),
        )
    distinct_ids(loaded)
    train = loaded["train"]
    faults = [fault for part in loaded.values() for fault in part.faults]
    rows = [row for part in loaded.values() for row in part.rows]
    tell = partial(_tell, emit, len(rows))
    measuring = _Measuring(task, rows, tokenizer, tell) if tokenizer is not None and rows else None
    checked = check(
        rows,
        form,
        count_tokens=None if measuring is None else measuring.lengths,
        max_length=task.options.max_length,
        say=tell,
    )
    faults += checked.faults
    if measuring is not None:
        faults += measuring.faults(rows)
    prepared = Prepared(
        splits={name: [] for name in SPLITS},
        faults=faults,
        facts=checked.facts,
        files=[file for part in loaded.values() for file in part.files],
        format=train.format,
        columns=train.columns,
        read=sum(part.read for part in loaded.values()),
    )
    prepared.faults += _unknown_labels(loaded, form)
    if prepared.errors and not train.rows:
        return prepared
    try:
        _divide(prepared, options, form, loaded, emit)
    except DataError as error:
        prepared.refusal, prepared.splits["train"] = error, train.rows
        code = "leak" if error.where.startswith("data.") else "splits"
        if code == "leak":  # which tells of these copies, too
            own = {file["path"] for name in ("validation", "test") if name in loaded for file in loaded[name].files}
            prepared.faults = [fault for fault in faults if not (is_elsewhere(fault) and fault.file in own)]
        prepared.faults.append(Fault("error", code, error.found, error.where, fix=error.fix))
        return prepared
    prepared.faults += _shared(prepared.splits, [name for name in ("validation", "test") if name in loaded], form, tell)
    if all(fault.code != "one-label" for fault in prepared.faults):
        prepared.faults += _one_sided(prepared.splits["train"], form)
    return prepared


class _Measuring:
    """Rows in tokens, some at a time: a million must not be held twice, and somebody waits for a sign of life."""

    def __init__(
        self, task: Task, rows: list[Row], tokenizer: PreTrainedTokenizerBase, tell: Callable[[str, int], None]
    ) -> None:
        self.task, self.tokenizer, self.tell = task.measuring(rows), tokenizer, tell

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        parts = self._parts(rows, "counting tokens")
        return [length for part in parts for length in self.task.lengths(part, self.tokenizer)]

    def faults(self, rows: Sequence[Row]) -> list[Fault]:
        parts = self._parts(rows, "looking at the rows as the model sees them")
        return [fault for part in parts for fault in self.task.faults(part, self.tokenizer)]

    def _parts(self, rows: Sequence[Row], what: str) -> Iterator[Sequence[Row]]:
        for start in range(0, len(rows), AT_ONCE):
            self.tell(what, start)
            yield rows[start : start + AT_ONCE]


def _tell(emit: Callable[[Event], None], total: int, what: str, done: int) -> None:
    emit(Phase(what, done, total))


@uncollected()
def _divide(
    prepared: Prepared,
    options: DataOptions,
    form: Form,
    loaded: Mapping[str, Loaded],
    emit: Callable[[Event], None],
) -> None:
    """Fill the splits. What the user's own files share with data.train is judged before it is split, so that no
    split made of it holds such rows either. DataError where that, or splitting, is refused.
    """
    rows = loaded["train"].rows
    tell = partial(_tell, emit, len(rows))
    for name in ("validation", "test"):
        if name in loaded:
            others = loaded[name].rows
            by = options.group_by
            rows, finding = apply(options.leakage, rows, others, form, name=name, group_by=by, say=tell)
            prepared.findings += [finding] if finding is not None else []
    if {"validation", "test"} <= loaded.keys():
        chosen_by, others = loaded["validation"].rows, loaded["test"].rows
        by = options.group_by
        kept, finding = apply(options.leakage, chosen_by, others, form, of="validation", group_by=by, say=tell)
        loaded["validation"].rows = kept
        prepared.findings += [finding] if finding is not None else []
    shares = {
        name: float(share)
        for name, share in (("validation", options.validation), ("test", options.test))
        if not isinstance(share, str)
    }
    divided = split(
        rows,
        form,
        validation=shares.get("validation", 0.0),
        test=shares.get("test", 0.0),
        group_by=options.group_by,
        say=tell,
    )
    prepared.moves = divided.moves
    prepared.splits = divided.parts(rows, tell)
    prepared.splits |= {name: part.rows for name, part in loaded.items() if name != "train"}


def _unknown_labels(loaded: Mapping[str, Loaded], form: Form) -> list[Fault]:
    """Rows of the user's own validation and test whose label training has not: they can only be answered wrongly.

    An error where none of a file's labels is known, since then the labels are written in another way.
    """
    kind = form[form.target].kind
    known = {mark for row in loaded["train"].rows for mark in marks_of(row.get(form.target), kind)}
    if not known:
        return []
    faults: list[Fault] = []
    for name, part in loaded.items():
        if name != "train":
            some = any(mark in known for row in part.rows for mark in marks_of(row.get(form.target), kind))
            faults += unknown_labels(part.rows, form, known, "warning" if some else "error")
    return faults


def _one_sided(rows: list[Row], form: Form) -> list[Fault]:
    """An error where the training split holds one label alone, or no answer: nothing can be learned from it."""
    kind, found = form[form.target].kind, None
    if kind == "label" and len({row.get(form.target) for row in rows}) == 1:
        found = f'every training row is labelled "{rows[0][form.target]}", expected at least two different labels'
    elif kind == "spans" and rows and not any(row.get(form.target) for row in rows):
        found = "no training row has an answer, expected at least some"
    elif kind in ("labels", "tags") and rows and not any(marks_of(row.get(form.target), kind) for row in rows):
        found = f"no training row has {'a label' if kind == 'labels' else 'an entity'}, expected at least some"
    elif kind == "number" and rows and len({row.get(form.target) for row in rows}) == 1:
        found = f"every training row has the number {rows[0][form.target]:g}, expected numbers that differ"
    fix = "add rows of the other kind to data.train, or leave more of them in it"
    return [Fault("error", "one-label", found, rows[0].file, field=form.target, fix=fix)] if found else []


def _shared(
    splits: Mapping[str, list[Row]], given: list[str], form: Form, tell: Callable[[str, int], None]
) -> list[Fault]:
    """A fault for each row of the user's own files that stands in two splits.

    What is shared `data.leakage` has judged by now: it is said, and stops nothing.
    """
    between = check_splits({name: splits[name] for name in given}, form, tell)
    faults = [replace(fault, severity="warning") for fault in between]
    for name in given:
        between = check_splits({"train": splits["train"], name: splits[name]}, form, tell)
        faults += [replace(fault, severity="warning") for fault in between]
    return faults


def refuse_errors(prepared: Prepared) -> None:
    """DataError listing the first errors, if there are any, or if there is nothing to train on."""
    errors = prepared.errors
    if prepared.refusal is not None and len(errors) == 1:
        raise prepared.refusal
    if errors:
        shown = "\n".join(f"  {sentence(fault)}" for fault in errors[:SHOWN])
        more = f"\n  and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise DataError(
            f"the data has {len(errors)} error{'s' * (len(errors) != 1)}:\n{shown}{more}",
            fix="`luthier check RECIPE` lists all of them; correct the rows, or take them out, and train again",
        )
    if not prepared.splits["train"]:
        raise DataError("no row is left to train on", where="data.train", fix="look at `luthier check RECIPE`")


def sentence(fault: Fault) -> str:
    """A fault on one line: where, what, and what to do."""
    where = f"{fault.file}:{fault.line}" if fault.line else fault.file
    name = f' field "{fault.field}"' if fault.field else ""
    fix = f" Fix: {fault.fix}" if fault.fix else ""
    return f"{where}{name}: {fault.message}.{fix}".replace("..", ".").lstrip(": ")


def test_key(rows: list[Row], task: Task) -> str:
    """One hash for a set of test rows, whatever their order, ids and files."""
    import hashlib

    names = [f.name for f in task.form.fields if f.required]
    return hashlib.sha256("\n".join(sorted(content_hash(row, names) for row in rows)).encode()).hexdigest()


def split_lines(prepared: Prepared) -> list[Mapping[str, Any]]:
    """splits.jsonl: one line a row, with the reason where it was moved."""
    why = {row: move["why"] for move in prepared.moves for row in move["rows"]}
    return [
        {
            "id": row.id,
            "split": name,
            **({"moved": why[row.id]} if row.id in why else {}),
            **{key: row[key] for key in ("made_by", "made_from") if key in row.fields},
        }
        for name in SPLITS
        for row in prepared.splits[name]
    ]
