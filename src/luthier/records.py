"""The words every room shares: what a row is, what a task asks of it, what was found, what was answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

FieldKind = Literal["text", "label", "labels", "number", "spans", "tokens", "tags", "messages"]
FaultSeverity = Literal["error", "warning", "note"]
FindingSeverity = Literal["blocker", "warning", "note"]
SPLITS = ("train", "validation", "test")


class Line(int):
    """A physical line that several rows share, and which of the file's rows (1-based) this is.

    It prints as "1 (row 318)", with the row's own id as `1 (row 318, id "q7")`, so that every "file:line" tells rows
    apart; it counts, compares and is stored as the plain number.
    """

    row: int
    own: str

    def __new__(cls, line: int, row: int, own: str = "") -> Self:
        made = super().__new__(cls, line)
        made.row, made.own = row, own
        return made

    def __str__(self) -> str:
        own = f', id "{self.own}"' if self.own else ""
        return f"{int(self)} (row {self.row}{own})"

    def __getnewargs__(self) -> tuple[int, int, str]:  # type: ignore[override]
        return int(self), self.row, self.own  # what copying and pickling make it from


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled example, with where it came from.

    `fields` holds what the task's Form names. Kinds of value:

    - text, label: `str`
    - labels: a sorted list of distinct `str`, empty for "none of them"
    - number: `float`, finite
    - spans: a list of `{"text": str, "start": int}` where `start` counts Unicode code points in the field they
      lie in; an empty list means "there is no answer"
    - tokens: a list of non-empty `str`, the words of a sentence
    - tags: a list of `str`, one a token, in BIO form ("O", "B-person", "I-person")
    - messages: a list of turns `{"role": str, "content": str}`, oldest first, perhaps with `weight` (0: the loss
      passes over it), `tool_calls` or `name`, as chat templates take them

    `line` is the physical line (1-based) in `file`, a `Line` where other rows stand on it, too, or the row number
    for formats without lines.
    """

    id: str
    fields: Mapping[str, Any]
    file: str = ""
    line: int = 0

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)


@dataclass(frozen=True, slots=True)
class Field:
    """One thing a row holds.

    `aliases` are the column names other tools use for it, most usual first. A `spans` field lies `within`
    a text field of the same form, `tags` within a `tokens` field.
    """

    name: str
    kind: FieldKind
    help: str
    required: bool = True
    aliases: tuple[str, ...] = ()
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What a row of a task must hold, and what an annotator would fill in.

    `target` is the field that is learned; every other required field is given to the model. `group_by` is
    the field whose equal values never cross a split unless the recipe says otherwise (None: each row alone).
    `several`: one input may rightly have several targets, each in a row of its own.
    """

    fields: tuple[Field, ...]
    target: str
    group_by: str | None = None
    several: bool = False

    def __getitem__(self, name: str) -> Field:
        return next(f for f in self.fields if f.name == name)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """What the model is given: every required field but the target; the target where it stands alone."""
        given = tuple(f for f in self.fields if f.required and f.name != self.target)
        return given or (self[self.target],)


def content_hash(row: Row, names: Iterable[str]) -> str:
    """sha256 (hex) of the named fields' values, whatever the row's id, file or place."""
    values = [[name, row.get(name)] for name in names]
    text = json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the data: where, what was found, what to do. The shape `check --json` prints, with the
    number of the `row` where the line alone does not tell which.
    """

    severity: FaultSeverity
    code: str
    message: str
    file: str = ""
    line: int = 0
    field: str = ""
    value: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        shared = {"row": self.line.row} if isinstance(self.line, Line) else {}
        return {**asdict(self), **shared}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered for one row.

    `prediction` is of the target's kind: the label or the answer's text ("" stands for "no answer"), a list of
    labels or tags, a number; `confidence` is a probability in 0..1; `detail` holds what else the task knows
    (probabilities by label, start, margin).
    """

    prediction: Any
    confidence: float
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence about a run: a plain sentence, its numbers, the rows it rests on, a remedy."""

    id: str
    severity: FindingSeverity
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "severity": self.severity,
            "sentence": self.sentence,
            "numbers": dict(self.numbers),
            "rows": list(self.rows),
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Table:
    """A table a task wants in the report, and how to draw it: not at all, as shaded cells, or as bars.

    `bars` draws the last column (numbers 0..1) by the first.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""
    plot: Literal["none", "heat", "bars"] = "none"
