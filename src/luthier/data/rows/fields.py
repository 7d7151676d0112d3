"""One record into one row: each field checked by its kind, every problem a fault with its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...records import Fault, FaultSeverity, Field, Form
from ..reading.raw import CELL_LIMIT, DOCUMENT_LIMIT, Raw, kind_of, shown, too_large, value_of
from .columns import Mapped
from .dialogue import dialogue_of
from .dialogue_row import read_dialogue
from .labels import read_label, read_labels, read_number
from .spans import Unreadable, collect, examine, truth, wrong_span
from .tagged import read_tags, read_tokens

_LONG = CELL_LIMIT // 4  # no text of fewer characters can be over the limit in UTF-8
# Spans come after the text they lie in, tags after their tokens.
_LATER = {"spans": 1, "tags": 1}

Reader = Callable[["RowMaker", Field, str, Raw, dict[str, Any]], bool]


class RowMaker:
    """Turns the records of one file into fields, and remembers what was wrong.

    `shared` maps equal long values (contexts, labels) to one object, so that a context of fifty questions is
    in memory once. `label_names` are what numbers in labels and tags stand for.
    """

    def __init__(
        self,
        form: Form,
        mapped: Mapped,
        file: str,
        labelled: bool,
        shared: dict[str, str],
        label_names: Sequence[str] = (),
    ) -> None:
        self.form, self.mapped, self.file, self.labelled, self.shared = form, mapped, file, labelled, shared
        self.label_names = list(label_names)
        self.faults: list[Fault] = []
        self.known_tags: set[str] = set()
        self.num_searched = 0  # answers without a start, found by searching
        self.num_ambiguous = 0  # those of them that stand in several places
        self.num_in_words = 0  # character spans that begin or end inside a word
        self.limit = DOCUMENT_LIMIT if form.inputs == (form[form.target],) else CELL_LIMIT
        self._used = mapped.used
        self._inner = [column for column in mapped.used if "." in column]
        self._both = dialogue_of(form)
        given = {self._both.messages.name, form.target} if self._both is not None else set()
        self._steps: list[tuple[Field, str, Reader]] = [
            (f, mapped.columns[f.name], READERS[f.kind])
            for f in sorted(form.fields, key=lambda f: _LATER.get(f.kind, 0))
            if f.name in mapped.columns and f.name not in given
        ]
        inputs = {f.name for f in form.inputs}
        needed = {f.name for f in form.fields if f.required}
        self._optional = {f.name for f in form.fields} - needed
        if not labelled:
            self._optional |= {form.target} - inputs

    def make(self, raw: Raw) -> dict[str, Any] | None:
        """The row's fields, extra columns under their own names; None where a fault forbids it."""
        assert raw.values is not None
        for column in self._inner:
            if column not in raw.values and (value := value_of(raw.values, column)) is not None:
                raw.values[column] = value
        fields: dict[str, Any] = {}
        good = read_dialogue(self, raw, fields) if self._both is not None else True
        for f, column, read in self._steps:
            good = read(self, f, column, raw, fields) and good
        if not good:
            return None
        if len(raw.values) > len(self._steps):
            self._extras(raw, fields)
        return fields

    def optional(self, f: Field) -> bool:
        """Whether a row may lack this field: it need not be there, or it is the target of rows without labels."""
        return f.name in self._optional

    def reject(self, code: str, message: str, raw: Raw, field: str, value: Any, fix: str) -> bool:
        """Report why the record is no row; always False."""
        self.remark("error", code, message, raw, field, value, fix)
        return False

    def remark(
        self, severity: FaultSeverity, code: str, message: str, raw: Raw, field: str, value: Any, fix: str
    ) -> None:
        """Say something about the record."""
        self.faults.append(Fault(severity, code, message, self.file, raw.line, field, shown(value), fix))

    def sound(self, value: str) -> bool:
        """Whether `clean` would find nothing."""
        return "\x00" not in value and len(value) <= _LONG and (value.isascii() or not _unencodable(value))

    def clean(self, value: str, column: str, raw: Raw) -> bool:
        """Whether a text can be learned from at all: no NUL, no half characters, not over the limit."""
        if "\x00" in value:
            message = f"the text holds a NUL byte at character {value.index(chr(0)) + 1}, expected text without it"
            return self.reject("nul-byte", message, raw, column, value, "remove it")
        if not value.isascii():
            try:
                size = len(value.encode("utf-8"))
            except UnicodeEncodeError as error:
                return self._half_character(value, error.start, column, raw)
        else:
            size = len(value)
        if size > self.limit:
            self.faults.append(too_large(self.file, raw.line, size, self.limit, column, value[:100]))
            return False
        return True

    def _half_character(self, value: str, at: int, column: str, raw: Raw) -> bool:
        code = ord(value[at])
        if 0xDC80 <= code <= 0xDCFF:  # Python's own escape for a byte that could not be decoded
            message = f"the byte 0x{code - 0xDC00:02X} at character {at + 1} is not UTF-8, expected UTF-8 text"
            return self.reject("bad-encoding", message, raw, column, value, "save the file as UTF-8")
        message = f"half a character (U+{code:04X}, a lone surrogate) at {at + 1}, expected whole characters"
        return self.reject("lone-surrogate", message, raw, column, value, "correct the text: an emoji was cut in two")

    def _extras(self, raw: Raw, fields: dict[str, Any]) -> None:
        """Columns the task does not ask for, kept for grouping and for audits."""
        assert raw.values is not None
        for name, value in raw.values.items():
            if name in self._used or name in fields or not isinstance(value, (str, int, float)):
                continue
            if isinstance(value, str):
                if len(value) > _LONG or (not value.isascii() and _unencodable(value)):
                    continue
                if len(value) < 64:
                    value = self.shared.setdefault(value, value)
            fields[name] = value

    def closing_notes(self) -> list[Fault]:
        """What is to be said of the file as a whole, once it is read: what was searched, split or cut."""
        notes = []
        if self.num_searched:
            message = f"{self.num_searched} answers have no answer_start and were found by searching the context"
            if self.num_ambiguous:
                message += f"; {self.num_ambiguous} of them stand in several places, and the first was taken"
            severity: FaultSeverity = "warning" if self.num_ambiguous else "note"
            notes.append(Fault(severity, "searched-answers", message, self.file, fix="add answer_start to be sure"))
        for name, mark in self.mapped.separators.items():
            message = f'the labels stand in one text, which was split at "{mark}"'
            fix = "write them as a JSON list if a label holds this sign"
            notes.append(Fault("note", "split-labels", message, self.file, 0, name, mark, fix))
        if self.num_in_words:
            message = f"spans that begin or end inside a word: {self.num_in_words}; the words were cut there"
            fix = "look at them: a border may have slipped"
            notes.append(Fault("note", "span-in-word", message, self.file, fix=fix))
        return notes


def read_text(maker: RowMaker, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
    """Text that is more than white space."""
    assert raw.values is not None
    value = raw.values.get(column)
    if type(value) is str and value and not value.isspace():
        if not maker.clean(value, column, raw):
            return False
        fields[f.name] = maker.shared.setdefault(value, value) if f.name == maker.form.group_by else value
        return True
    if maker.optional(f):
        if value is None or isinstance(value, str):
            return True
    elif column not in raw.values:
        code = "missing-label" if f.name == maker.form.target else "missing-field"
        message = f'the field "{column}" is missing, expected text'
        return maker.reject(code, message, raw, column, None, "add it")
    elif isinstance(value, str):
        message = "the text is empty, expected at least one character that is not white space"
        return maker.reject("empty-text", message, raw, column, value, "fill it in, or remove the row")
    message = f"{kind_of(value)} ({shown(value, 40)}), expected text"
    return maker.reject("wrong-type", message, raw, column, value, "write it as text, in quotes")


def read_spans(maker: RowMaker, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
    """Answers with their starts, or that there is none."""
    assert raw.values is not None
    columns = maker.mapped.spans[f.name]
    impossible = truth(raw.values.get(columns.impossible)) if columns.impossible else None
    value = raw.values.get(column)
    if value is None or (value == "" and impossible is None):
        start = raw.values.get(columns.start) if columns.start else None
        if impossible or (value == "" and start in (-1, "-1", "-1.0", -1.0)):
            fields[f.name] = []
            return True
        if not f.required or not maker.labelled:
            return True
        message = 'there are no answers, expected a list (an empty one, or is_impossible, for "no answer")'
        return maker.reject("missing-label", message, raw, column, value, "add answers, or an empty list")
    try:
        spans = collect(raw.values, columns)
    except Unreadable as error:
        fault = wrong_span(maker.file, raw.line, error.field, error.value, error.expected)
        maker.faults.append(fault)
        return False
    if impossible and spans:
        message = f"is_impossible is true, yet it has answers ({len(spans)}), expected none"
        fix = "set is_impossible to false, or remove the answers"
        place = columns.impossible or "is_impossible"
        return maker.reject("impossible-with-answers", message, raw, place, True, fix)
    if impossible is False and not spans and maker.labelled:
        message = "is_impossible is false, yet there is no answer, expected at least one"
        fix = "set is_impossible to true, or add the answer"
        return maker.reject("missing-label", message, raw, column, value, fix)
    return _located(maker, f, spans, raw, fields)


def _located(maker: RowMaker, f: Field, spans: list[Any], raw: Raw, fields: dict[str, Any]) -> bool:
    """Check every span against its text, if that text is itself sound."""
    context = fields.get(f.within or "")
    if not isinstance(context, str):
        return f.within is None or f.within not in maker.mapped.columns
    good, made = True, []
    for span in spans:
        repair, fault = examine(span, context, maker.file, raw.line)
        if fault is not None:
            maker.faults.append(fault)
            good = False
        elif repair is not None:
            maker.num_searched += 1
            maker.num_ambiguous += context.find(repair.text, repair.start + 1) >= 0
            made.append({"text": repair.text, "start": repair.start})
        else:
            made.append({"text": span.text, "start": span.start})
    if good:
        fields[f.name] = made
    return good


def _unencodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _nothing(maker: RowMaker, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
    return True  # a dialogue is read as a whole, from several columns


READERS: dict[str, Reader] = {
    "text": read_text,
    "label": read_label,
    "labels": read_labels,
    "number": read_number,
    "spans": read_spans,
    "tokens": read_tokens,
    "tags": read_tags,
    "messages": _nothing,
}
