"""B7: every planted fault of a file is told with its place and value, and no other row is lost or changed."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from bars import Bar, Trial
from data_fuzz import BUILDERS, Fuzzed, Place, Plant, form_of
from data_fuzz_answers import ANSWERS
from data_fuzz_kinds import KINDS
from data_fuzz_texts import TEXTS, folder_of_texts, wholes

from luthier.data import Loaded, check, load
from luthier.errors import DataError
from luthier.records import Fault, Line, Row
from measure import peak_memory

FILES = {"jsonl": BUILDERS["jsonl"], **ANSWERS, **BUILDERS, **KINDS, **TEXTS}
LONGEST = 5.0  # seconds of the processor for one file; those of the clock say how busy a machine is
GROWTH = 500e6  # bytes over what was held before
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_WINDOW = 8  # characters of what was told that must stand in the broken line


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """One trial a row, or a file that is broken as a whole. Rounds of every kind of file, until there are enough."""
    with _put_in(twin), tempfile.TemporaryDirectory() as folder:
        yield from itertools.islice(_all(Path(folder), seed), count)


def _all(folder: Path, seed: int) -> Iterator[Trial]:
    for number in itertools.count(seed * 1000):
        for kind, build in FILES.items():
            made = build(folder, number)
            yield from _file(f"{kind} {number}", made, by_command=(number + len(kind)) % 3 == 0)
            made.path.unlink()
        yield from _folder(folder, number)
        for name, content, task, words in wholes(number):
            path = folder / name
            path.write_bytes(content)
            yield Trial(f"{name} {number}", _refusal(path, task, words))
            path.unlink()


class Hang(Exception):
    pass


@contextlib.contextmanager
def _bounded() -> Iterator[list[str]]:
    """What went beyond the time or the memory that a file may take, in the list once the block has ended."""
    broken: list[str] = []

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang("".join(traceback.format_stack(frame, 3)))

    before = _memory_now()
    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        yield broken
    except Hang as hang:
        broken.append(f"still reading after {LONGEST:.0f} s: {hang}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
    if (grown := peak_memory() - before) > GROWTH:
        broken.append(f"held {grown / 1e6:.0f} MB more than before")


def _memory_now() -> int:
    """Bytes held now; the peak is counted from here on."""
    with contextlib.suppress(OSError):  # elsewhere than on Linux what is held beyond any earlier peak is seen
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


# Rows


def _file(name: str, made: Fuzzed, *, by_command: bool) -> Iterator[Trial]:
    """A trial for every row of a file; what concerns the file as a whole is the first row's fault."""
    loaded, whole = Loaded(), ""
    try:
        with _bounded() as broken:
            loaded, faults = _looked_at(made)
        whole = "; ".join(broken)
    except Exception:
        whole = traceback.format_exc(limit=-3)
    if not whole:
        whole = _sums(made, loaded)
    if not whole and by_command:
        whole = _commanded(made, faults)
    told, kept = _by_place(loaded)
    expected: dict[Place, Any] = {**made.clean, **{plant.place: plant for plant in made.plants}}
    for place in sorted(expected):
        what, errors, rows = expected[place], told.get(place, []), kept.get(place, [])
        fault = _planted(what, made, errors, rows) if isinstance(what, Plant) else _clean(what, errors, rows)
        yield Trial(f"{name}, {place}", whole or fault)
        whole = ""


def _looked_at(made: Fuzzed) -> tuple[Loaded, list[Fault]]:
    loaded = load(str(made.path), made.form)
    return loaded, [*loaded.faults, *check(loaded.rows, made.form).faults]


def _by_place(loaded: Loaded) -> tuple[dict[Place, list[Fault]], dict[Place, list[Row]]]:
    told: dict[Place, list[Fault]] = {}
    kept: dict[Place, list[Row]] = {}
    for fault in loaded.errors:
        told.setdefault(_place(fault.line), []).append(fault)
    for row in loaded.rows:
        kept.setdefault(_place(row.line), []).append(row)
    return told, kept


def _place(line: int) -> Place:
    return int(line), line.row if isinstance(line, Line) else 0


def _sums(made: Fuzzed, loaded: Loaded) -> str:
    """Rows in = rows kept + rows reported, and nothing was told of a row that is not there."""
    rows = len(made.clean) + len(made.plants)
    told = {_place(fault.line) for fault in loaded.errors}
    if not loaded.read == rows == len(loaded.rows) + len(told):
        return f"{rows} rows stand in the file: {loaded.read} read, {len(loaded.rows)} kept, {len(told)} told of"
    if odd := [f for f in loaded.errors if _place(f.line) not in {p.place for p in made.plants} | made.clean.keys()]:
        return f"an error where no row is: {odd[0]}"
    return ""


def _planted(plant: Plant, made: Fuzzed, told: list[Fault], kept: list[Row]) -> str:
    """What is missing in the report of a planted fault."""
    if not told or kept:
        return f"{plant.code} at {plant.field!r} was {'kept' if kept else 'not reported'}"
    fault = told[0]
    what = f"{fault.code} {fault.field!r}: {fault.message}"
    if len(told) > 1:
        return f"{len(told)} errors for one fault: {what}; {told[1].code} {told[1].field!r}: {told[1].message}"
    if (fault.code, fault.field) != (plant.code, plant.field):
        return f"reported as {what}, planted was {plant.code} {plant.field!r}"
    if fault.file != str(made.path):
        return f"the file is called {fault.file!r}"
    if not _shows(fault.value, plant.value):
        return f"the value is told as {fault.value!r}, it is {str(plant.value)[:60]!r}"
    if "expected" not in fault.message or not fault.fix:
        return f"it does not say what was expected, or what to do: {what}"
    if plant.offers not in fault.message:
        return f"{plant.offers!r} was not offered: {what}"
    try:
        f"{fault.message}{fault.value}{fault.fix}".encode()
    except UnicodeEncodeError:
        return f"half a character in the report: {what!r}"
    return ""


def _shows(told: str, value: Any) -> bool:
    """Whether a report shows the value that stands there, cut and escaped as it may be."""
    whole = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    whole = _UNSEEN.sub(lambda m: m.group().encode("unicode_escape", "surrogatepass").decode(), whole)
    told = told.removesuffix("…").strip()
    if not told:
        return value is None or not whole.strip()
    windows = range(max(1, len(told) - _WINDOW + 1))
    return any(told[at : at + _WINDOW] in whole for at in windows)


def _clean(expected: dict[str, Any], told: list[Fault], kept: list[Row]) -> str:
    """What became of a good row."""
    if told:
        return f"a good row, and {told[0].code} {told[0].field!r}: {told[0].message}"
    if len(kept) != 1:
        return f"a good row, kept {len(kept)} times"
    for name, value in expected.items():
        read = _READ[name](kept[0]) if name in _READ else kept[0].get(name)
        if read != value:
            return f"{name} is {value!r:.200} in the file and was read as {read!r:.200}"
    return ""


def _turns(row: Row) -> list[tuple[str, str]]:
    return [*((turn["role"], turn["content"]) for turn in row["messages"]), ("assistant", row["answer"])]


def _spans(row: Row) -> list[tuple[int, int, str]]:
    """The mentions as characters."""
    found: list[tuple[int, int, str]] = []
    for tag, (start, end) in zip(row["tags"], row["offsets"], strict=True):
        if tag.startswith("I-"):
            found[-1] = (found[-1][0], end, tag[2:])
        elif tag != "O":
            found.append((start, end, tag[2:]))
    return found


_READ: dict[str, Callable[[Row], Any]] = {"turns": _turns, "spans": _spans, "id": lambda row: row.id}


# The command line, folders, whole files


def _commanded(made: Fuzzed, faults: list[Fault]) -> str:
    """`luthier check FILE --task TASK --json` tells the same; it cannot be given a task's settings."""
    if made.settings:
        return ""
    code, out, err = _command(made.path, made.task)
    if "Traceback" in err or code != 1:
        return f"luthier check left with {code}: {err[-300:]}"
    report = json.loads(out)
    ours = Counter(json.dumps(fault.as_json()) for fault in faults)
    if ours != Counter(json.dumps(fault) for fault in report["faults"]):
        return "luthier check --json tells other faults"
    if (report["rows"], report["kept"]) != (len(made.clean) + len(made.plants), len(made.clean)):
        return f"luthier check counts {report['kept']} of {report['rows']} rows"
    return ""


def _command(path: Path, task: str) -> tuple[int, str, str]:
    from luthier.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["check", str(path), "--task", task, "--json"])
    return code, out.getvalue(), err.getvalue()


def _folder(folder: Path, seed: int) -> Iterator[Trial]:
    """A file in a folder of texts is a row."""
    root, kept, broken = folder_of_texts(folder, seed)
    try:
        loaded = load(str(root), form_of("classification", ()))
    except Exception:
        yield Trial(f"folder {seed}", traceback.format_exc(limit=-3))
        return
    rows = {row.file: row for row in loaded.rows}
    told = {fault.file: fault for fault in loaded.errors}
    sums = loaded.read == len(kept) + len(broken) == len(loaded.rows) + len(told)
    yield Trial(f"folder {seed}", "" if sums else f"{loaded.read} read, {len(loaded.rows)} kept, {len(told)} told of")
    for path, text in kept.items():
        row = rows.get(path)
        whole = row is not None and row["text"] == text.strip() and row["label"] == Path(path).parent.name
        yield Trial(f"folder {seed}, {path}", "" if whole else f"a good text became {row}")
    for path, (code, value) in broken.items():
        fault = told.get(path)
        good = fault is not None and fault.code == code and value in fault.value and "expected" in fault.message
        yield Trial(f"folder {seed}, {path}", "" if good else f"{code} was reported as {fault}")


def _refusal(path: Path, task: str, words: str) -> str:
    """A file that is no data at all: one sentence that names it, or a fault for each row."""
    form = form_of(task, ())
    said = ""
    try:
        with _bounded() as broken:
            loaded = load(str(path), form)
            said = " ".join(f"{fault.file} {fault.message}" for fault in loaded.errors)
            if len(loaded.rows) + len({_place(f.line) for f in loaded.errors}) != loaded.read:
                return f"{loaded.read} read, {len(loaded.rows)} kept, {len(loaded.errors)} told of"
        if broken:
            return broken[0]
    except DataError as error:
        said = str(error)
        if not error.fix:
            return f"nothing is said to do: {error}"
    except Exception:
        return traceback.format_exc(limit=-3)
    if str(path) not in said or words not in said:
        return f"{words!r} is not in what was said: {said[:300]}"
    code, _, err = _command(path, task)
    return "" if code in (1, 2) and "Traceback" not in err else f"luthier check left with {code}: {err[-300:]}"


# Bugs

TWINS = {
    "blank-lines-not-counted": "lines are numbered without the blank ones",
    "bad-rows-skipped": "a row that cannot be read is passed over",
    "clean-rows-dropped": "a row in fifty is lost",
    "value-not-told": "a fault does not show the value",
    "wrong-field": "a fault of one answer names the column alone",
    "white-space-stripped": "texts lose the white space at their ends",
    "bytes-dropped": "what is no UTF-8 is left out in silence",
    "last-key-wins": "of two equal keys the last one is taken",
    "no-repair": "the place where an answer stands is not said",
    "slow": "reading a file takes 1.5 seconds more, and the limit is 1",
    "hungry": "reading a file takes 250 MB more, and the limit is 200",
}


@contextlib.contextmanager
def _put_in(twin: str) -> Iterator[None]:
    """The bug while the block runs."""
    with contextlib.ExitStack() as stack:
        for target, attribute, bug in _bugs(twin):
            stack.enter_context(patch.object(target, attribute, bug))
        yield


def _bugs(twin: str) -> list[tuple[Any, str, Any]]:
    """What is replaced by what: (module or class, attribute, the bug)."""
    if twin and twin not in TWINS:
        raise ValueError(twin)
    here, bugs = sys.modules[__name__], _bugs_of_rows() | _bugs_of_values()

    def wasteful(*args: Any, **more: Any) -> Loaded:
        end = time.process_time() + 1.5 * (twin == "slow")
        while time.process_time() < end:
            pass
        bytearray(250 * 10**6 * (twin == "hungry"))
        return load(*args, **more)

    if twin in ("slow", "hungry"):
        return [(here, "load", wasteful), (here, "LONGEST", 1.0), (here, "GROWTH", 200e6)]
    return [bugs[twin]] if twin else []


def _bugs_of_rows() -> dict[str, tuple[Any, str, Any]]:
    """Rows that are lost or counted wrongly."""
    from luthier.data.reading import encoding, json_lines, strict_json

    loader = importlib.import_module("luthier.data.load")._Loader  # the package's `load` is the function
    keep = loader._keep

    def unblank(path: Path, found: Any) -> Iterator[tuple[int, str, int]]:
        lines = ((line, left) for _, line, left in encoding.lines(path, found) if line.strip())
        yield from ((number, line, left) for number, (line, left) in enumerate(lines, 1))

    def only_readable(self: Any, raw: Any, maker: Any, name: str) -> None:
        if raw.values is not None:
            keep(self, raw, maker, name)

    def most(self: Any, raw: Any, maker: Any, name: str) -> None:
        if raw.line % 50:
            keep(self, raw, maker, name)

    return {
        "blank-lines-not-counted": (json_lines, "lines", unblank),
        "bad-rows-skipped": (loader, "_keep", only_readable),
        "clean-rows-dropped": (loader, "_keep", most),
        "bytes-dropped": (encoding.Probe, "errors", property(lambda self: "ignore")),
        "last-key-wins": (strict_json.StrictDecoder, "_object_of", lambda self, pairs: dict(pairs)),
    }


def _bugs_of_values() -> dict[str, tuple[Any, str, Any]]:
    """Values that are changed or not told."""
    from luthier.data.rows import fields, spans

    remark, read = fields.RowMaker.remark, fields.READERS["text"]

    def blunt(self: Any, severity: Any, code: str, message: str, raw: Any, field: str, *rest: Any) -> None:
        remark(self, severity, code, message, raw, field.partition("[")[0], *rest)

    def stripped(maker: Any, f: Any, column: str, raw: Any, made: dict[str, Any]) -> bool:
        good = read(maker, f, column, raw, made)
        if f.name in made:
            made[f.name] = " ".join(made[f.name].split())
        return good

    return {
        "value-not-told": (fields, "shown", lambda value, limit=80: ""),
        "wrong-field": (fields.RowMaker, "remark", blunt),
        "white-space-stripped": (fields, "READERS", {**fields.READERS, "text": stripped}),
        "no-repair": (spans, "find", lambda context, text, start: None),
    }


BAR = Bar(
    "imports",
    "Every planted fault is told with file, line, field, value and what was expected; no other row is lost or changed.",
    10_000,
    trials,
    TWINS,
)
