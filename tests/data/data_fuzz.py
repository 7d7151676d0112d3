"""An import fuzzer: files with planted faults, and a ledger of where they are and what stands there.

Every builder of BUILDERS takes (folder, seed) and gives a Fuzzed: the file, a Plant for each broken row, and what
each of the other rows must be kept as. One broken row holds one fault.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from data_forms import prose

from luthier.records import Form
from luthier.tasks import TASKS

NUM = 130  # rows of a file
HUGE = 10_600_000  # characters: more than are held of any line
Place = tuple[int, int]  # line, and the number of the row where several share the line (else 0)


@dataclass(frozen=True)
class Plant:
    """A broken row: its place, field and code, the value that must be told, words that the remedy must offer."""

    line: int
    field: str
    code: str
    value: Any = None
    offers: str = ""
    row: int = 0

    @property
    def place(self) -> Place:
        return self.line, self.row


@dataclass
class Fuzzed:
    """A file for a task with these settings; `clean` has the fields that each good row must be kept with."""

    path: Path
    task: str
    settings: dict[str, Any] = field(default_factory=dict)
    plants: list[Plant] = field(default_factory=list)
    clean: dict[Place, dict[str, Any]] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        return form_of(self.task, tuple(self.settings.items()))


@cache
def form_of(task: str, settings: tuple[tuple[str, Any], ...]) -> Form:
    kind = TASKS[task]
    return kind(kind.Options(name=task, **dict(settings))).form


class Sheet:
    """A text file as it is put together, line by line; several lines may be one row."""

    def __init__(self, rng: random.Random, folder: Path, name: str, task: str, **settings: Any) -> None:
        self.rng, self.made = rng, Fuzzed(folder / name, task, settings)
        self.lines: list[str] = []
        self.next = 1  # the physical line that comes next
        self.stray = False  # whether there are bytes that are no UTF-8, as "\udcXX"

    def add(self, text: str) -> None:
        self.lines.append(text)
        self.next += 1 + len(re.findall(r"\r\n|\r|\n", text))

    def keep(self, text: str, /, **fields: Any) -> None:
        self.made.clean[self.next, 0] = fields
        self.add(text)

    def plant(self, text: str, field: str, code: str, value: Any, offers: str = "") -> None:
        self.made.plants.append(Plant(self.next, field, code, value, offers))
        self.stray = self.stray or any("\udc80" <= sign <= "\udcff" for sign in text)
        self.add(text)

    def written(self, ends: Sequence[str] = ("\n", "\r\n", "\r"), wide: bool = True) -> Fuzzed:
        """Line ends of one kind or mixed, with or without the last one, in any encoding that is read."""
        kinds = [self.rng.choice(ends)] if self.rng.random() < 0.5 else list(ends)
        parts: list[str] = []
        for line in self.lines:
            # Between "\r" and "\n" an empty line would be none: the two are one line end.
            follows = not line and parts and parts[-1] == "\r"
            parts += [line, "\r" if follows else self.rng.choice(kinds)]
        text = "".join(parts)
        if self.rng.random() < 0.5:
            text = text.removesuffix("\n").removesuffix("\r")
        encodings = ["utf-8", "utf-8-sig", *(["utf-16", "utf-16-le", "utf-16-be", "utf-32"] if wide else [])]
        encoding = self.rng.choice(encodings[:2] if self.stray else encodings)
        self.made.path.write_bytes(text.encode(encoding, "surrogateescape" if self.stray else "strict"))
        return self.made


# Values no text may have, as JSON writes them, with the code that must be reported.
BAD_TEXTS: list[tuple[str, str]] = [
    ("5", "wrong-type"),
    ("2.5", "wrong-type"),
    ("true", "wrong-type"),
    ("null", "wrong-type"),
    ('["a"]', "wrong-type"),
    ('{"a": 1}', "wrong-type"),
    ('""', "empty-text"),
    ('"  \\t "', "empty-text"),
    ('"a\\u0000b"', "nul-byte"),
    ('"half \\ud83d of it"', "lone-surrogate"),
    ('"caf\udce9 noir"', "bad-encoding"),
    ("NaN", "not-a-number"),
    ("-Infinity", "not-a-number"),
    ('"' + "x" * 300_000 + '"', "too-large"),
    ("[" * 33 + "]" * 33, "wrong-type"),
]
BAD_LABELS = [
    ("null", "missing-label"),
    ('""', "missing-label"),
    ('["a","b"]', "wrong-type"),
    ("0.5", "wrong-type"),
    ("Infinity", "not-a-number"),
    ('"\\u0000"', "nul-byte"),
]
# Whole lines that are no row: no field can be named.
BAD_LINES: list[tuple[str, str]] = [
    ('{"text": "cut off', "bad-json"),
    ('{"text": "a" "label": "pos"}', "bad-json"),
    ("not json at all", "bad-json"),
    ('{"text": "a", "label": "pos"} trailing', "bad-json"),
    ('{"text": "a", "label": "pos",}', "bad-json"),
    ("{'text': 'a', 'label': 'pos'}", "bad-json"),
    ('\ufeff{"text": "a", "label": "pos"}', "bad-json"),
    ("[1, 2]", "wrong-type"),
    ('"just text"', "wrong-type"),
    ('{"text": "' + "y" * 1_100_000 + '", "label": "pos"}', "too-large"),
    ('{"text": "' + "z" * HUGE + '", "label": "pos"}', "too-large"),
    ('{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": "pos"}', "too-deep"),
    ('{"text": "a", "label": ' + "1" * 5000 + "}", "bad-json"),
]


def clean_text(rng: random.Random) -> str:
    """Text with what trips importers: emoji, combining accents, right-to-left, quotes, U+2028."""
    extras = [
        "",
        " 👩‍👩‍👧",
        " e\u0301te\u0301",
        " \u202bשלום\u202c",
        ' "quoted"',
        "\u2028next",
        " a, b; c",
        " naïve café",
        " | x",
    ]
    return prose(rng, rng.randrange(4, 9)) + rng.choice(extras)


def dumps(rng: random.Random, value: Any) -> str:
    """JSON, escaped or not; half characters can only stand escaped in a file."""
    plain = json.dumps(value, ensure_ascii=False)
    return plain if rng.random() < 0.5 and not re.search("[\ud800-\udfff]", plain) else json.dumps(value)


def places(rng: random.Random, num: int, plants: Sequence[Any], first: int = 8) -> dict[int, Any]:
    """Which rows are broken, and how; the first ones stay clean, so that the format can be told."""
    return dict(zip(rng.sample(range(first, num), len(plants)), plants))


def _plants(rng: random.Random) -> dict[int, tuple[str, tuple[str, str]]]:
    plants: list[tuple[str, tuple[str, str]]] = [("text", bad) for bad in BAD_TEXTS]
    plants += [("label", bad) for bad in BAD_LABELS] + [("line", bad) for bad in BAD_LINES]
    plants += [("key", ("label", "duplicate-key")), ("lost", ("text", "missing-field"))]
    plants += [("lost", ("label", "missing-label"))]
    return places(rng, NUM, plants)


def _broken(kind: str, value: str, code: str, text: str) -> tuple[str, str, Any]:
    """(the row, the field, the value) of a plant of `_plants`."""
    rest = {"text": text, "label": '"pos"'}
    if kind == "line":
        return value, "", value
    if kind == "key":
        return f'{{"text": {text}, "label": "pos", "label": "neg"}}', "label", "label"
    if kind == "lost":
        del rest[value]
        return "{" + ", ".join(f'"{k}": {v}' for k, v in rest.items()) + "}", value, None
    rest[kind] = value
    return "{" + ", ".join(f'"{k}": {v}' for k, v in rest.items()) + "}", kind, json.loads(value)


def json_lines(folder: Path, seed: int) -> Fuzzed:
    rng = random.Random(seed)
    sheet = Sheet(rng, folder, f"fuzz{seed}.jsonl", "classification")
    plants = _plants(rng)
    for i in range(NUM):
        if rng.random() < 0.1:
            sheet.add(rng.choice(["", "  ", "\t"]))
        text, label = clean_text(rng), rng.choice(["pos", "neg"])
        if i not in plants:
            written = dumps(rng, text)
            sheet.keep(f'{{"text": {written}, "label": "{label}", "n": {i}}}', text=text, label=label, n=i)
            continue
        kind, (value, code) = plants[i]
        row, name, told = _broken(kind, value, code, dumps(rng, text))
        sheet.plant(row, name, code, told)
    return sheet.written()


def json_array(folder: Path, seed: int) -> Fuzzed:
    """An array with a row on each line, some rows spread over several."""
    rng = random.Random(seed)
    sheet = Sheet(rng, folder, f"fuzz{seed}.json", "classification")
    plants = _plants(rng)
    sheet.add("[")
    for i in range(NUM):
        comma = "," if i < NUM - 1 else ""
        text, label = clean_text(rng), rng.choice(["pos", "neg"])
        written = dumps(rng, text)
        if i not in plants:
            row = f'  {{"text": {written}, "label": "{label}"}}'
            if seed % 2 and rng.random() < 0.3:
                row = f'  {{\n    "text": {written},\n    "label": "{label}"\n  }}'
            sheet.keep(row + comma, text=text, label=label)
            continue
        kind, (value, code) = plants[i]
        row, name, told = _broken(kind, value, code, written)
        sheet.plant(f"  {row}{comma}", name, code, told)
    sheet.add("]")
    return sheet.written(ends=("\n", "\r\n"))


def one_line(folder: Path, seed: int) -> Fuzzed:
    """JSON without line breaks: a row is known by its number alone."""
    rng = random.Random(seed)
    made = Fuzzed(folder / f"line{seed}.json", "classification")
    bad = [("text", value) for value in BAD_TEXTS if "\udce9" not in value[0]] + [("label", v) for v in BAD_LABELS]
    plants = places(rng, NUM, bad)
    rows = []
    for i in range(NUM):
        text, label = clean_text(rng), rng.choice(["pos", "neg"])
        if i in plants:
            kind, (value, code) = plants[i]
            row, name, told = _broken(kind, value, code, dumps(rng, text))
            made.plants.append(Plant(1, name, code, told, row=i + 1))
        else:
            row = json.dumps({"text": text, "label": label}, ensure_ascii=False)
            made.clean[1, i + 1] = {"text": text, "label": label}
        rows.append(row)
    whole = "[" + ",".join(rows) + "]"
    if seed % 2:
        whole = '{"version": 1, "data": ' + whole + "}"
    made.path.write_text(whole, "utf-8")
    return made


def table(folder: Path, seed: int) -> Fuzzed:
    rng = random.Random(seed)
    cut = rng.choice([",", ";", "\t", "|"])
    sheet = Sheet(rng, folder, f"fuzz{seed}.{'tsv' if cut == chr(9) else 'csv'}", "classification")
    sheet.add(cut.join(["id", "text", "label"]))
    kinds = ["short", "long", "empty", "nul", "label", "quote", "junk", "large", "stray"] * 3 + ["huge"]
    plants = places(rng, NUM - 1, kinds)
    for i in range(NUM):
        text, label = clean_text(rng), rng.choice(["pos", "neg"])
        if rng.random() < 0.2:
            text += rng.choice(["\nsecond line\n\nfourth", "\r\nsecond", "\rthird"])
        cells = [str(i), text, label]
        kind = plants.get(i)
        if kind is None:
            sheet.keep(_cells(cells, cut), id=str(i), text=text, label=label)
        else:
            _spoil(sheet, kind, cells, cut)
        if rng.random() < 0.05:
            sheet.add("")
    return sheet.written()


def _spoil(sheet: Sheet, kind: str, cells: list[str], cut: str) -> None:
    """A broken record of a table."""
    if kind in ("short", "long"):
        cells = cells[:2] if kind == "short" else [*cells, "more", "and more"]
        sheet.plant(_cells(cells, cut), "", "ragged-row", " | ".join(cells))
    elif kind in ("quote", "junk"):
        line = f'{cells[0]}{cut}"never closed {cut}pos' if kind == "quote" else f'{cells[0]}{cut}"all" said{cut}pos'
        sheet.plant(line, "", "unclosed-quote", line)
    elif kind == "label":
        sheet.plant(_cells([*cells[:2], ""], cut), "label", "missing-label", "")
    elif kind == "huge":
        line = _cells([cells[0], "z" * HUGE, "pos"], cut)
        sheet.plant(line, "", "too-large", line)
    else:
        bad = {"empty": "   ", "nul": "a\x00b", "large": "z" * 300_000, "stray": "caf\udce9 noir"}[kind]
        code = {"empty": "empty-text", "nul": "nul-byte", "large": "too-large", "stray": "bad-encoding"}[kind]
        sheet.plant(_cells([cells[0], bad, cells[2]], cut), "text", code, bad)


def _cells(cells: list[str], delimiter: str) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return out.getvalue().removesuffix("\r\n")


def parquet(folder: Path, seed: int) -> Fuzzed:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(seed)
    made = Fuzzed(folder / f"fuzz{seed}.parquet", "classification")
    bad: list[tuple[str, Any, str]] = [
        ("text", None, "wrong-type"),
        ("text", " \n", "empty-text"),
        ("text", "", "empty-text"),
        ("text", "a\x00", "nul-byte"),
        ("text", "w" * 300_000, "too-large"),
        ("text", "w" * HUGE, "too-large"),
        ("label", None, "missing-label"),
        ("label", " ", "missing-label"),
        ("label", "\x00", "nul-byte"),
    ]
    plants = places(rng, NUM, bad * 2, first=0)
    rows: list[dict[str, Any]] = []
    for i in range(NUM):
        rows.append({"text": clean_text(rng), "label": rng.choice(["pos", "neg"]), "n": i})
        if i in plants:
            name, value, code = plants[i]
            rows[-1][name] = value
            made.plants.append(Plant(i + 1, name, code, value))
        else:
            made.clean[i + 1, 0] = dict(rows[-1])
    pq.write_table(pa.Table.from_pylist(rows), made.path, row_group_size=rng.choice([7, 50, 1000]))
    return made


Builder = Callable[[Path, int], Fuzzed]
BUILDERS: dict[str, Builder] = {
    "jsonl": json_lines,
    "json": json_array,
    "json-one-line": one_line,
    "table": table,
    "parquet": parquet,
}
