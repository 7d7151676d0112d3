"""Rows to be answered, a few at a time: from a file of any format, from stdin, or typed at a terminal."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from luthier.errors import DataError, Interrupted, LuthierError, ModelError, NoColumn
from luthier.records import Fault, Form

from .arguments import writing
from .talk import talk

if TYPE_CHECKING:
    from luthier.data.reading.raw import Raw
    from luthier.serve import Tuned

BATCH = 256  # rows in memory at once
SAMPLE = 200  # records looked at to find the columns


@dataclass(slots=True)
class Asked:
    """One row: its id and its inputs, or why it cannot be answered."""

    id: str
    fields: dict[str, Any] | None
    error: str = ""


def opened_rows(source: str, form: Form, columns: Mapping[str, str]) -> Iterator[Asked]:
    """The rows of a file, a folder or a hub dataset, in order; one without an id is called by its number."""
    from luthier.data.reading.formats import open_file
    from luthier.data.reading.hub import open_hub, read_hub
    from luthier.data.reading.sources import resolve
    from luthier.data.rows.columns import known_names

    numbers = count(1)
    found, _ = resolve(source, None, None)
    for item in found:
        if item.hub is not None:
            records = read_hub(open_hub(item.hub, item.given))
        else:
            records = open_file(item.path, item.name, "auto", known_names(form, columns), None, item.whole).records()
        yield from asked_rows(records, form, columns, item.name, numbers)


def begun(rows: Iterator[Asked]) -> Iterator[Asked]:
    """The same rows, the first of them read by now: what is wrong with the file as a whole is raised here."""
    first = list(islice(rows, 1))
    return chain(first, rows)


def stdin_rows(stream: BinaryIO, form: Form, columns: Mapping[str, str]) -> Iterator[Asked]:
    """One row a line: JSON objects, or for tasks with one input the text itself; the first tells which.

    Of dialogs each line may be either, and an object laid out in its own way.
    """
    records, numbers = _stdin_records(stream, form), count(1)
    if form.inputs[0].kind != "messages":
        yield from asked_rows(records, form, columns, "stdin", numbers)
        return
    for raw in records:
        try:
            yield from asked_rows(iter([raw]), form, columns, "stdin", numbers)
        except DataError as error:
            yield Asked(str(next(numbers)), None, f"stdin:{raw.line}: {error.found}. Fix: {error.fix}")


def _stdin_records(stream: BinaryIO, form: Form) -> Iterator[Raw]:
    from luthier.data.reading.raw import Raw

    inputs = [field.name for field in form.inputs]
    in_turns = form.inputs[0].kind == "messages"
    as_json: bool | None = None
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError:
            yield Raw(number, None, [_fault(number, "the line is not UTF-8")])
            continue
        if not text.strip():
            continue
        if as_json is None:
            as_json = text.lstrip().startswith("{")
            if not as_json and len(inputs) > 1:
                raise DataError(
                    f"this task needs {' and '.join(inputs)}, and the line is plain text",
                    where=f"stdin:{number}",
                    fix=f"one JSON object a line: {json.dumps(dict.fromkeys(inputs, '...'))}",
                )
        if not as_json and not (in_turns and text.lstrip().startswith("{")):
            yield Raw(number, {inputs[0]: text})
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            if as_json:
                yield Raw(number, None, [_fault(number, f"the line is no JSON ({error})")])
            else:
                yield Raw(number, {inputs[0]: text})
            continue
        if not isinstance(value, dict):
            yield Raw(number, None, [_fault(number, "the line is no JSON object")])
            continue
        yield Raw(number, value)


def _fault(line: int, message: str) -> Fault:
    return Fault("error", "unreadable", message, "stdin", line)


def asked_rows(
    records: Iterator[Raw], form: Form, columns: Mapping[str, str], name: str, numbers: Iterator[int]
) -> Iterator[Asked]:
    """Records as rows to answer. Only inputs are read: a wrong label beside them changes nothing."""
    from luthier.data.rows.columns import columns_there, map_columns
    from luthier.data.rows.fields import RowMaker

    sample = list(islice(records, SAMPLE))
    wanted = columns_there(columns, sample)
    try:
        mapped = map_columns(form, sample, wanted, False, name)
    except NoColumn as error:
        raise (error.as_trained(columns) if form.inputs[0].kind != "messages" else error) from None
    inputs = [field.name for field in form.inputs]
    in_turns = form.inputs[0].kind == "messages"  # its columns are the parts of a layout: all but the answer's are read
    mapped.columns = {
        field: column
        for field, column in mapped.columns.items()
        if (field not in ("output", "completion") if in_turns else field in inputs)
    }
    mapped_words = form.inputs[0].kind == "tokens"  # cut from a text, perhaps: then where each stands goes along
    mapped.spans = {}
    shared: dict[str, str] = {}
    maker = RowMaker(form, mapped, name, False, shared)
    for raw in chain(sample, records):
        errors = [fault for fault in raw.faults if fault.severity == "error"]
        if raw.values is None and not errors:
            continue  # a word about the file, not a row
        number = next(numbers)
        own = (raw.values or {}).get(mapped.id) if mapped.id else None
        given = isinstance(own, (str, int)) and not isinstance(own, bool) and str(own).strip()
        fields = None
        if raw.values is not None and not errors:
            fields = maker.make(raw)
            errors, maker.faults = list(maker.faults), []
        shared.clear()  # nothing is kept from row to row: there may be millions
        id = str(own).strip() if given else str(number)
        if fields is None:
            why = errors[0].message if errors else "it cannot be read"
            yield Asked(id, None, f"{name}:{raw.line}: {why}")
        else:
            beside = ("text", "offsets") if mapped_words else ("tools",) if in_turns else ()
            yield Asked(id, {field: fields[field] for field in (*inputs, *beside) if field in fields})


def answered(tuned: Tuned, rows: Iterable[Asked], say: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """One line a row, in order. `say` is told how many are done."""
    from luthier.serve.predict import in_batches

    done = 0
    for batch in in_batches(rows, BATCH):
        good = [{"id": row.id, **row.fields} for row in batch if row.fields is not None]
        answers = iter(_predicted(tuned, good))
        for row in batch:
            if row.fields is None:
                yield {"id": row.id, "prediction": None, "confidence": None, "error": row.error}
            else:
                yield {**next(answers), "id": row.id}
        done += len(batch)
        say(done)


def _predicted(tuned: Tuned, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a row; where one of them cannot be put to the model at all, it alone gets an error."""
    try:
        return tuned.predict(rows)
    except (DataError, ModelError) as error:
        if len(rows) > 1:
            return [line for row in rows for line in _predicted(tuned, [row])]
        return [{"prediction": None, "confidence": None, "error": error.found}]


def written(lines: Iterable[Mapping[str, Any]], output: Path | None) -> tuple[int, int]:
    """Write JSON lines to stdout, or to a file that appears whole or not at all: (lines, of them errors)."""
    from luthier.files import disk_errors
    from luthier.terminal.streams import as_json

    done = failed = 0
    if output is None:
        for line in lines:
            print(as_json(line))
            done, failed = done + 1, failed + ("error" in line)
        sys.stdout.flush()
        return done, failed
    # A device or a pipe is written to as it is: a rename would put a file in its place.
    whole = not output.exists() or output.is_file()
    output = output.resolve()  # a link stays one
    part = output.with_name(f".{output.name}.{os.getpid()}.part") if whole else output
    with writing(output, "--output"):
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        file = part.open("w", encoding="utf-8", errors="surrogatepass", newline="\n")
    try:
        with disk_errors(output, fix="make room, or name another file with --output"), file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                done, failed = done + 1, failed + ("error" in line)
            if whole:
                file.flush()
                os.fsync(file.fileno())
                part.replace(output)
    except KeyboardInterrupt:
        kept = "nothing is kept, since the file appears whole or not at all" if whole else "these are written"
        raise Interrupted(
            f"stopped after {done:,} row{'s' * (done != 1)}; {kept}",
            signal=signal.SIGINT,
            where=str(output),
            fix="start it again, or leave --output out: lines then go to stdout as they are answered",
        ) from None
    finally:
        if whole:
            part.unlink(missing_ok=True)
    return done, failed


def ask(tuned: Tuned, form: Form) -> int:
    """Ask for each input at the terminal and answer, until an empty line or the end of input.

    Of several inputs, the first ones are kept when left empty (the same passage, another question).
    """
    from luthier.terminal.streams import say

    if form.inputs[0].kind == "messages":
        return talk(tuned)
    inputs = [field.name for field in reversed(form.inputs)]  # the passage first, then questions about it
    kept: dict[str, str] = {}
    say(
        "An empty line ends it."
        if len(inputs) == 1
        else f"An empty {inputs[-1]} ends it; an empty {inputs[0]} keeps the last."
    )
    with contextlib.suppress(EOFError):
        while True:
            for name in inputs:
                said = input(f"{name}> ").strip()
                if said:
                    kept[name] = said
                elif name == inputs[-1]:
                    return 0
            try:
                answer = tuned.predict([kept])[0]
            except LuthierError as error:
                say(f"{error}")
                continue
            print(f"{_said(answer)}  (confidence {answer['confidence']:.0%})", flush=True)
    return 0


def _said(answer: Mapping[str, Any]) -> str:
    """A prediction in words: of tags the entities, of several labels all of them."""
    if "refused" in answer:
        return f"(refused by a rule: {answer['refused']})"
    if "entities" in answer:
        return "; ".join(f"{one['label']}: {one['text']}" for one in answer["entities"]) or "(no entity)"
    given = answer["prediction"]
    if isinstance(given, list):
        return ", ".join(map(str, given)) or "(no label)"
    return f"{given:g}" if isinstance(given, float) else str(given or "(no answer)")
