"""One record into one row: each field checked by its kind, every problem a fault with its place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..records import Fault, FaultSeverity, Field, Form
from .columns import Mapped
from .raw import CELL_LIMIT, Raw, kind_of, shown, too_large
from .spans import Unreadable, collect, examine, truth, wrong_span

# What spreadsheets and pandas write into an empty cell.
_EMPTY_LABELS = frozenset({"", "nan", "NaN", "<NA>", "#N/A", "null", "NULL"})
_LONG = CELL_LIMIT // 4  # no text of fewer characters can be over the limit in UTF-8


class RowMaker:
    """Turns the records of one file into fields, and remembers what was wrong.

    `shared` maps equal long values (contexts, labels) to one object, so that a context of fifty questions is
    in memory once.
    """

    def __init__(self, form: Form, mapped: Mapped, file: str, labelled: bool, shared: dict[str, str]) -> None:
        self.form, self.mapped, self.file, self.labelled, self.shared = form, mapped, file, labelled, shared
        self.faults: list[Fault] = []
        self.num_searched = 0  # answers without a start, found by searching
        self.num_ambiguous = 0  # those of them that stand in several places
        self._used = mapped.used
        self._steps: list[tuple[Field, str, Callable[[Field, str, Raw, dict[str, Any]], bool]]] = []
        readers = {"text": self._text, "label": self._label, "spans": self._spans}
        # Spans come last: they are checked against the text they lie in.
        for f in sorted(form.fields, key=lambda f: f.kind == "spans"):
            if f.name in mapped.columns:
                self._steps.append((f, mapped.columns[f.name], readers[f.kind]))

    def make(self, raw: Raw) -> dict[str, Any] | None:
        """The row's fields, extra columns under their own names; None where a fault forbids it."""
        assert raw.values is not None
        fields: dict[str, Any] = {}
        good = True
        for f, column, read in self._steps:
            good = read(f, column, raw, fields) and good
        if not good:
            return None
        if len(raw.values) > len(self._steps):
            self._extras(raw, fields)
        return fields

    def _say(self, code: str, message: str, raw: Raw, field: str, value: Any, fix: str) -> bool:
        self.faults.append(
            Fault("error", code, message + raw.place, self.file, raw.line, field, shown(value), fix)
        )
        return False

    def _text(self, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
        assert raw.values is not None
        value = raw.values.get(column)
        is_target = f.name == self.form.target
        if type(value) is str and value and not value.isspace():
            if not self._clean(value, column, raw):
                return False
            fields[f.name] = self.shared.setdefault(value, value) if f.name == self.form.group_by else value
            return True
        if not f.required or (is_target and not self.labelled):
            if value is None or isinstance(value, str):
                return True
        elif column not in raw.values:
            code = "missing-label" if is_target else "missing-field"
            return self._say(
                code, f'the field "{column}" is missing, expected text', raw, column, None, "add it"
            )
        elif isinstance(value, str):
            message = "the text is empty, expected at least one character that is not white space"
            return self._say("empty-text", message, raw, column, value, "fill it in, or remove the row")
        message = f"{kind_of(value)} ({shown(value, 40)}), expected text"
        return self._say("wrong-type", message, raw, column, value, "write it as text, in quotes")

    def _clean(self, value: str, column: str, raw: Raw) -> bool:
        """Whether a text can be learned from at all: no NUL, no half characters, not over the limit."""
        if "\x00" in value:
            message = (
                f"the text holds a NUL byte at character {value.index(chr(0)) + 1}, expected text without it"
            )
            return self._say("nul-byte", message, raw, column, value, "remove it")
        if not value.isascii():
            try:
                size = len(value.encode("utf-8"))
            except UnicodeEncodeError as error:
                return self._half_character(value, error.start, column, raw)
        else:
            size = len(value)
        if size > CELL_LIMIT:
            fault = too_large(self.file, raw.line, size, CELL_LIMIT, column, value[:100])
            self.faults.append(fault)
            return False
        return True

    def _half_character(self, value: str, at: int, column: str, raw: Raw) -> bool:
        code = ord(value[at])
        if 0xDC80 <= code <= 0xDCFF:  # Python's own escape for a byte that could not be decoded
            message = (
                f"the byte 0x{code - 0xDC00:02X} at character {at + 1} is not UTF-8, expected UTF-8 text"
            )
            return self._say("bad-encoding", message, raw, column, value, "save the file as UTF-8")
        message = f"half a character (U+{code:04X}, a lone surrogate) at {at + 1}, expected whole characters"
        return self._say(
            "lone-surrogate", message, raw, column, value, "correct the text: an emoji was cut in two"
        )

    def _label(self, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
        assert raw.values is not None
        value = raw.values.get(column)
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, int):
            value = str(value)
        elif isinstance(value, float):
            if value != value:
                value = None
            elif value.is_integer() and abs(value) < 1e15:  # pandas turns whole numbers with gaps into floats
                value = str(int(value))
        if isinstance(value, str):
            value = value.strip()
            if value not in _EMPTY_LABELS:
                if not self._clean(value, column, raw):
                    return False
                fields[f.name] = sys.intern(value)
                return True
            value = raw.values.get(column)
        elif value is not None:
            message = f"{kind_of(value)} ({shown(value, 40)}), expected one label: text or a whole number"
            return self._say("wrong-type", message, raw, column, value, "write one label a row")
        if not f.required or (f.name == self.form.target and not self.labelled):
            return True
        message = "the label is missing, expected text or a whole number"
        return self._say("missing-label", message, raw, column, value, "fill it in, or remove the row")

    def _spans(self, f: Field, column: str, raw: Raw, fields: dict[str, Any]) -> bool:
        assert raw.values is not None
        columns = self.mapped.spans[f.name]
        impossible = truth(raw.values.get(columns.impossible)) if columns.impossible else None
        value = raw.values.get(column)
        if value is None or (value == "" and impossible is None):
            if impossible:
                fields[f.name] = []
                return True
            start = raw.values.get(columns.start) if columns.start else None
            if value == "" and start in (-1, "-1", "-1.0", -1.0):
                fields[f.name] = []
                return True
            if not f.required or not self.labelled:
                return True
            message = (
                'there are no answers, expected a list (an empty one, or is_impossible, for "no answer")'
            )
            return self._say("missing-label", message, raw, column, value, "add answers, or an empty list")
        try:
            spans = collect(raw.values, columns)
        except Unreadable as error:
            fault = wrong_span(self.file, raw.line, error.field, error.value, error.expected, raw.place)
            self.faults.append(fault)
            return False
        if impossible and spans:
            message = f"is_impossible is true, yet there are {len(spans)} answers, expected none"
            fix = "set is_impossible to false, or remove the answers"
            return self._say(
                "impossible-with-answers", message, raw, columns.impossible or "is_impossible", True, fix
            )
        if impossible is False and not spans and self.labelled:
            message = "is_impossible is false, yet there is no answer, expected at least one"
            return self._say(
                "missing-label", message, raw, column, value, "set is_impossible to true, or add the answer"
            )
        return self._located(f, spans, raw, fields)

    def _located(self, f: Field, spans: list[Any], raw: Raw, fields: dict[str, Any]) -> bool:
        """Check every span against its text, if that text is itself sound."""
        context = fields.get(f.within or "")
        if not isinstance(context, str):
            return f.within is None or f.within not in self.mapped.columns
        good, made = True, []
        for span in spans:
            repair, fault = examine(span, context, self.file, raw.line, raw.place)
            if fault is not None:
                self.faults.append(fault)
                good = False
            elif repair is not None:
                self.num_searched += 1
                self.num_ambiguous += context.find(repair.text, repair.start + 1) >= 0
                made.append({"text": repair.text, "start": repair.start})
            else:
                made.append({"text": span.text, "start": span.start})
        if good:
            fields[f.name] = made
        return good

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

    def searched_note(self) -> Fault | None:
        """That answers came without a start, and what was done about it."""
        if not self.num_searched:
            return None
        message = f"{self.num_searched} answers have no answer_start and were found by searching the context"
        if self.num_ambiguous:
            message += f"; {self.num_ambiguous} of them stand in several places, and the first was taken"
        severity: FaultSeverity = "warning" if self.num_ambiguous else "note"
        return Fault(severity, "searched-answers", message, self.file, fix="add answer_start to be sure")


def _unencodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
