"""Files in, rows out: every record is either kept as a Row or reported as a Fault; none disappears."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..records import Fault, Field, Form, Row
from .pulse import Pulse, Say
from .reading.formats import open_file
from .reading.hub import open_hub, read_hub
from .reading.raw import Raw
from .reading.sources import Found, resolve
from .rows import dialogue, tagged
from .rows.columns import Mapped, columns_there, known_names, map_columns
from .rows.fields import RowMaker
from .rows.tags import Scheme, detect
from .splitting.content import hasher, names_of
from .uncollected import uncollected

_SAMPLE = 200  # records looked at to find the columns


_MADE_ID = re.compile(r"r[0-9a-f]{12}(-\d+)?")


def made_id(id: str) -> bool:
    """Whether an id follows from its row's content, since the file gave none."""
    return _MADE_ID.fullmatch(id) is not None


@dataclass(slots=True)
class Loaded:
    """Rows that can be learned from, and everything said about the rest.

    `read` is how many records the files hold: the rows kept plus the distinct records rejected. `files` has
    one entry a file: path (as given), sha256, bytes, encoding, format, rows kept.
    """

    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    format: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    read: int = 0

    @property
    def errors(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.severity == "error"]


@uncollected()
def load(
    source: str | list[str],
    form: Form,
    *,
    columns: Mapping[str, str] | None = None,
    format: str = "auto",
    base: Path | None = None,
    labelled: bool = True,
    split: str | None = None,
    label_names: Sequence[str] = (),
    lenient: bool = False,
    say: Say | None = None,
) -> Loaded:
    """Read `source` as rows of `form`.

    Relative paths are looked for in `base`, then in the working directory. With `labelled=False` a row may
    lack its target. `split` picks one of train, validation, test from a hub dataset or a folder that keeps
    them apart. `format` is that of the files, or the layout of the dialogues in them. `label_names` are what
    numbers stand for in columns of labels or tags. With `lenient` a field whose column in `columns` the file lacks is
    looked for by name. `say` is told what is being done, and how many records are read.
    Raises DataError where nothing can be read or a required field is in no column; a bad row is a fault in the
    result, never an exception.
    """
    reader = _Loader(form, columns or {}, format, labelled, split, label_names, lenient, say)
    found, notes = resolve(source, base, split)
    reader.loaded.faults += notes
    if found and all(item.whole and item.label is not None for item in found) and not _documents(form):
        reader.add_folders(found)
    else:
        for item in found:
            reader.add(item)
    return reader.loaded


def _documents(form: Form) -> bool:
    """Whether texts are learned for themselves, so that a folder's name says nothing about the files in it."""
    target = form[form.target]
    return form.inputs == (target,) or dialogue.dialogue_of(form) is not None


def _layout_and_format(wanted: str, form: Form) -> tuple[str, str]:
    """(layout a dialogue must have or "", file format) of a recipe's `data.format`."""
    of_dialogue = wanted in dialogue.LAYOUTS
    if dialogue.dialogue_of(form) is not None and of_dialogue:
        return wanted, "auto"
    if of_dialogue and wanted != "text":
        raise DataError(
            f'data.format: "{wanted}" is a layout of dialogues, and this task has none',
            fix="leave data.format out",
        )
    return "", wanted


@dataclass(slots=True)
class _Waiting:
    """A row whose tags are read when the whole file has told their scheme."""

    fields: dict[str, Any]
    own: Any
    raw: Raw


class _Loader:
    """What is kept from file to file: ids already given, shared strings, the result so far."""

    def __init__(
        self,
        form: Form,
        columns: Mapping[str, str],
        format: str,
        labelled: bool,
        split: str | None,
        label_names: Sequence[str],
        lenient: bool,
        say: Say | None,
    ) -> None:
        self.form, self.columns, self.labelled, self.split = form, columns, labelled, split
        self.layout, self.format = _layout_and_format(format, form)
        self.label_names, self.lenient = label_names, lenient
        self.loaded = Loaded()
        self._pulse = Pulse(say, "reading rows")
        self._ids: set[str] = set()
        self._repeats: dict[str, int] = {}
        self._shared: dict[str, str] = {}
        self._digest = hasher(names_of(form))
        self._known = known_names(form, columns)
        self._tags: Field | None = next((f for f in form.fields if f.kind == "tags"), None)
        self._waiting: list[_Waiting] = []

    def add(self, item: Found) -> None:
        """Read one file or hub dataset into the result."""
        if item.hub is not None:
            dataset = open_hub(item.hub, item.given, self.split)
            about: dict[str, Any] = {
                "path": item.given,
                "sha256": "",
                "bytes": 0,
                "encoding": "",
                "format": "hub",
            }
            start = len(self.loaded.rows)
            self._records(read_hub(dataset), item.name, about)
            about["sha256"] = self._hash_of_rows(start)
            return
        opened = open_file(item.path, item.name, self.format, self._known, self.split, item.whole, self._pulse)
        self.loaded.faults += opened.notes()
        about = {
            "path": item.given,
            "sha256": opened.probe.sha256,
            "bytes": opened.probe.size,
            "encoding": "" if opened.format == "parquet" else opened.probe.encoding,
            "format": opened.format,
        }
        self._records(opened.records(), item.name, about)

    def add_folders(self, items: list[Found]) -> None:
        """Read a folder whose sub-folders are labels: each file is one row."""
        text = next((f.name for f in self.form.fields if f.kind == "text" and f.required), None)
        if text is None or self.form[self.form.target].kind != "label":
            where = str(Path(items[0].given).parent.parent)
            raise DataError("its sub-folders are labels, and this task has none", where=where, fix="name data files")
        mapped = Mapped({text: text, self.form.target: self.form.target})
        for item in items:
            opened = open_file(item.path, item.name, "auto", (), None, whole=True)
            self.loaded.faults += opened.notes()
            maker = RowMaker(self.form, mapped, item.name, self.labelled, self._shared)
            before = len(self.loaded.rows)
            for raw in opened.records():
                if raw.values is not None:
                    raw.values = {text: raw.values["text"], self.form.target: item.label}
                self._keep(raw, maker, item.name)
            self.loaded.faults += maker.faults
            self._about(
                {
                    "path": item.given,
                    "sha256": opened.probe.sha256,
                    "bytes": opened.probe.size,
                    "encoding": opened.probe.encoding,
                    "format": "text",
                },
                before,
                mapped,
            )

    def _records(self, records: Iterator[Raw], name: str, about: dict[str, Any]) -> None:
        sample = _sample(records)
        if not sample:
            raise DataError("it holds no rows", where=name, fix="name a file with at least one row under its header")
        wanted = columns_there(self.columns, sample) if self.lenient else self.columns
        mapped = map_columns(self.form, sample, wanted, self.labelled, name, self.layout)
        self.loaded.faults += mapped.notes
        maker = RowMaker(self.form, mapped, name, self.labelled, self._shared, self.label_names)
        before, said = len(self.loaded.rows), len(self.loaded.faults)
        stream: Iterable[Raw] = chain(sample, records)
        del sample
        for raw in stream:
            self._keep(raw, maker, name)
        layout = mapped.layout
        if self._waiting:
            layout = ", ".join(part for part in (layout, self._settle(maker, name, about["format"])) if part)
            self.loaded.faults[said:] = sorted(self.loaded.faults[said:], key=lambda fault: fault.line)
        self.loaded.faults += maker.closing_notes()
        if about["format"] == "conll":
            layout = layout.removeprefix(f"{tagged.TOKENS}, ")
        if layout and layout != about["format"]:
            about["format"] += f" ({layout})"
        self._about(about, before, mapped)

    def _settle(self, maker: RowMaker, name: str, format: str) -> str:
        """Keep the rows whose tags are sound under the file's scheme; its name, where there are tags."""
        assert self._tags is not None
        field = self._tags
        waiting, self._waiting = self._waiting, []
        told = [item.fields[field.name] for item in waiting if field.name in item.fields]
        scheme = detect(told)
        for item in waiting:
            sound = field.name not in item.fields or tagged.settle(
                maker, field, scheme, item.raw, item.fields, format in tagged.MENDABLE
            )
            self.loaded.faults += maker.faults
            maker.faults = []
            if sound:
                self._add(item.fields, item.own, item.raw, name)
        if told and (scheme.name != "BIO" or not scheme.typed):
            self.loaded.faults.append(_scheme_note(scheme, name))
        return scheme.name if told else ""

    def _about(self, about: dict[str, Any], before: int, mapped: Mapped) -> None:
        loaded = self.loaded
        about["rows"] = len(loaded.rows) - before
        loaded.files.append(about)
        loaded.columns = loaded.columns or dict(mapped.columns)
        if about["format"] not in loaded.format.split(" + "):
            loaded.format = f"{loaded.format} + {about['format']}" if loaded.format else about["format"]

    def _keep(self, raw: Raw, maker: RowMaker, name: str) -> None:
        """Count one record, and keep it as a row or report why not."""
        loaded = self.loaded
        if raw.values is None and all(fault.severity != "error" for fault in raw.faults):
            loaded.faults += raw.faults  # a word about the file, not a row
            return
        loaded.read += 1
        self._pulse(loaded.read)
        if raw.faults:
            loaded.faults += raw.faults
        if raw.values is None:
            return
        fields = maker.make(raw)
        if maker.faults:
            loaded.faults += maker.faults
            maker.faults = []
        if fields is None:
            return
        own = raw.values.get(maker.mapped.id) if maker.mapped.id else None
        if self._tags is not None and maker.mapped.layout == tagged.TOKENS:
            self._waiting.append(_Waiting(fields, own, Raw(raw.line, None, (), raw.lines)))
        else:
            self._add(fields, own, raw, name)

    def _add(self, fields: dict[str, Any], own: Any, raw: Raw, name: str) -> None:
        self.loaded.rows.append(Row(self._id(own, fields, raw, name), fields, name, raw.line))

    def _id(self, own: Any, fields: dict[str, Any], raw: Raw, name: str) -> str:
        """The file's own id, or one that follows from the row's content alone; made distinct by a suffix."""
        given = isinstance(own, (str, int)) and not isinstance(own, bool) and str(own).strip() != ""
        wanted = str(own).strip() if given else "r" + self._digest(fields)[:12]
        if given and not wanted.isascii():
            wanted = wanted.encode("utf-8", "replace").decode("utf-8")
        made, number = wanted, 1
        if made in self._ids:
            number = self._repeats.get(wanted, 1)  # counted on: a thousand equal rows must not be a million tries
            while made in self._ids:
                number += 1
                made = f"{wanted}-{number}"
            self._repeats[wanted] = number
        if given and number > 1:
            message = f'the id "{wanted}" stands on an earlier row, too, expected once; this row becomes "{made}"'
            fault = Fault(
                "warning",
                "duplicate-id",
                message,
                name,
                raw.line,
                "id",
                wanted,
                "make ids distinct",
            )
            self.loaded.faults.append(fault)
        self._ids.add(made)
        return made

    def _hash_of_rows(self, start: int) -> str:
        """A hub dataset has no file to hash: its rows' ids and contents stand for it."""
        digest = hashlib.sha256()
        for row in self.loaded.rows[start:]:
            digest.update(self._digest(dict(row.fields)).encode("ascii"))
        return digest.hexdigest()


def _sample(records: Iterator[Raw]) -> list[Raw]:
    """The first records, with enough readable ones among them to find the columns."""
    sample: list[Raw] = []
    readable = 0
    for raw in records:
        sample.append(raw)
        readable += raw.values is not None
        if readable >= _SAMPLE:
            break
    return sample


def _scheme_note(scheme: Scheme, name: str) -> Fault:
    """That tags were written anew, and how they were read."""
    message = f"the tags are {scheme.name}; they were read as BIO"
    if scheme.name == "IO":
        message += ": neighbouring words of one type as one mention"
    if not scheme.typed:
        message += '; they name no type, so every mention is called "entity"'
    return Fault("note", "tag-scheme", message, name, fix="none needed")
