"""An import fuzzer: files with planted faults, and a ledger of where they are.

Every builder returns (file, ledger, clean, form): the ledger has (physical line, field, code) for each
planted fault, `clean` is the number of rows that must be kept.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_forms import CLASSIFICATION, QA, prose

from luthier.records import Form

Ledger = list[tuple[int, str, str]]
Planted = tuple[Path, Ledger, int, Form]

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
]
# Whole lines that are no row: no field can be named.
BAD_LINES: list[tuple[str, str]] = [
    ('{"text": "cut off', "bad-json"),
    ('{"text": "a" "label": "pos"}', "bad-json"),
    ("not json at all", "bad-json"),
    ('{"text": "a", "label": "pos"} trailing', "bad-json"),
    ("[1, 2]", "wrong-type"),
    ('"just text"', "wrong-type"),
    ('{"text": "' + "y" * 1_100_000 + '", "label": "pos"}', "too-large"),
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


def json_lines(folder: Path, seed: int, num: int = 240) -> Planted:
    rng = random.Random(seed)
    lines: list[str] = []
    ledger: Ledger = []
    clean = 0
    plants = _shuffled(rng, num)
    for i in range(num):
        if rng.random() < 0.1:
            lines.append(rng.choice(["", "  ", "\t"]))
        line, text = len(lines) + 1, json.dumps(clean_text(rng), ensure_ascii=rng.random() < 0.5)
        plant = plants.get(i)
        if plant is None:
            lines.append(f'{{"text": {text}, "label": "{rng.choice(["pos", "neg"])}", "n": {i}}}')
            clean += 1
            continue
        kind, (value, code) = plant
        if kind == "text":
            lines.append(f'{{"text": {value}, "label": "pos"}}')
            ledger.append((line, "text", code))
        elif kind == "label":
            lines.append(f'{{"text": {text}, "label": {value}}}')
            ledger.append((line, "label", code))
        elif kind == "key":
            lines.append(f'{{"text": {text}, "label": "pos", "label": "neg"}}')
            ledger.append((line, "label", "duplicate-key"))
        else:
            lines.append(value)
            ledger.append((line, "", code))
    end = rng.choice(["\n", "\r\n"])
    path = folder / f"fuzz{seed}.jsonl"
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    path.write_bytes((end.join(lines) + rng.choice(["", end])).encode(encoding))
    return path, ledger, clean, CLASSIFICATION


def _shuffled(rng: random.Random, num: int) -> dict[int, tuple[str, tuple[str, str]]]:
    plants: list[tuple[str, tuple[str, str]]] = [("text", bad) for bad in BAD_TEXTS]
    plants += [("label", bad) for bad in BAD_LABELS] + [("line", bad) for bad in BAD_LINES] + [("key", ("", ""))]
    # The first rows stay clean, so that the format can be told.
    return dict(zip(rng.sample(range(8, num), len(plants)), plants))


def json_array(folder: Path, seed: int, num: int = 200) -> Planted:
    """An array with a row on each line, some rows spread over several."""
    rng = random.Random(seed)
    out, ledger, clean, line = ["["], [], 0, 2
    plants = _shuffled(rng, num)
    for i in range(num):
        comma = "," if i < num - 1 else ""
        text = json.dumps(clean_text(rng))
        plant = plants.get(i)
        row = f'{{"text": {text}, "label": "pos"}}'
        if plant is None:
            clean += 1
            if seed % 2 and rng.random() < 0.3:
                row = f'{{\n    "text": {text},\n    "label": "neg"\n  }}'
        else:
            kind, (value, code) = plant
            field = kind if kind in ("text", "label") else ""
            if kind == "text":
                row = f'{{"text": {value}, "label": "pos"}}'
            elif kind == "label":
                row = f'{{"text": {text}, "label": {value}}}'
            elif kind == "key":
                row, field, code = f'{{"text": {text}, "label": 1, "label": 2}}', "label", "duplicate-key"
            else:
                row = value
            ledger.append((line, field, code))
        out.append(f"  {row}{comma}")
        line += row.count("\n") + 1
    out.append("]")
    path = folder / f"fuzz{seed}.json"
    path.write_bytes("\n".join(out).encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"])))
    return path, ledger, clean, CLASSIFICATION


def table(folder: Path, seed: int, num: int = 240) -> Planted:
    rng = random.Random(seed)
    delimiter = rng.choice([",", ";", "\t", "|"])
    end = rng.choice(["\n", "\r\n"])
    ledger: Ledger = []
    clean, line = 0, 2
    out = [delimiter.join(["id", "text", "label"]) + end]
    kinds = ["short", "long", "empty", "nul", "label", "quote", "large"] * 3
    plants = dict(zip(rng.sample(range(6, num - 1), len(kinds)), kinds))
    for i in range(num):
        text = clean_text(rng)
        if rng.random() < 0.2:
            text += "\nsecond line\n\nfourth"
        kind = plants.get(i)
        cells = [str(i), text, rng.choice(["pos", "neg"])]
        if kind is None:
            clean += 1
        elif kind == "short":
            cells = cells[:2]
            ledger.append((line, "", "ragged-row"))
        elif kind == "long":
            cells += ["more", "and more"]
            ledger.append((line, "", "ragged-row"))
        elif kind == "empty":
            cells[1] = rng.choice(["", "   "])
            ledger.append((line, "text", "empty-text"))
        elif kind == "nul":
            cells[1] = "a\x00b"
            ledger.append((line, "text", "nul-byte"))
        elif kind == "large":
            cells[1] = "z" * 300_000
            ledger.append((line, "text", "too-large"))
        elif kind == "label":
            cells[2] = ""
            ledger.append((line, "label", "missing-label"))
        written = _cells(cells, delimiter, end)
        if kind == "quote":
            written = f'{i}{delimiter}"never closed {delimiter}pos{end}'
            ledger.append((line, "", "unclosed-quote"))
        out.append(written)
        line += len(written.splitlines()) if "\u2028" not in written else written.count("\n")
        if rng.random() < 0.05:
            out.append(end)
            line += 1
    path = folder / f"fuzz{seed}.{'tsv' if delimiter == chr(9) else 'csv'}"
    path.write_bytes("".join(out).encode(rng.choice(["utf-8", "utf-8-sig", "utf-16-le"])))
    return path, ledger, clean, CLASSIFICATION


def _cells(cells: list[str], delimiter: str, end: str) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerow(cells)
    return out.getvalue()


def parquet(folder: Path, seed: int, num: int = 240) -> Planted:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(seed)
    texts: list[str | None] = [clean_text(rng) for _ in range(num)]
    labels: list[str | None] = [rng.choice(["pos", "neg"]) for _ in range(num)]
    ledger: Ledger = []
    places = rng.sample(range(num), 24)
    for i, place in enumerate(places):
        if i % 4 == 0:
            texts[place] = None
            ledger.append((place + 1, "text", "wrong-type"))
        elif i % 4 == 1:
            texts[place] = " \n"
            ledger.append((place + 1, "text", "empty-text"))
        elif i % 4 == 2:
            labels[place] = None
            ledger.append((place + 1, "label", "missing-label"))
        else:
            texts[place] = "a\x00"
            ledger.append((place + 1, "text", "nul-byte"))
    path = folder / f"fuzz{seed}.parquet"
    pq.write_table(pa.table({"text": texts, "label": labels}), path)
    return path, ledger, num - len(places), CLASSIFICATION


def squad(folder: Path, seed: int, num_paragraphs: int = 30) -> Planted:
    """A pretty-printed nested file; every question is broken in one of eight ways or not at all."""
    rng = random.Random(seed)
    ledger: Ledger = []
    paragraphs = []
    broken: dict[str, tuple[str, str]] = {}
    clean = 0
    for p in range(num_paragraphs):
        words = [clean_text(rng) for _ in range(5)] + [f"unique{p}x{q}" for q in range(8)]
        rng.shuffle(words)
        context = " ".join(words) + "."
        questions = []
        for q in range(8):
            answer = f"unique{p}x{q}"
            row: dict[str, Any] = {
                "id": f"{p}-{q}",
                "question": f"which is {q} of {p}?",
                "answers": [{"text": answer, "answer_start": context.index(answer)}],
                "is_impossible": False,
            }
            if rng.random() < 0.2:
                kind = rng.randrange(len(SPAN_FAULTS))
                broken[row["id"]] = SPAN_FAULTS[kind](row, context)
            else:
                clean += 1
            questions.append(row)
        paragraphs.append({"context": context, "qas": questions})
    data = {"version": "v2.0", "data": [{"title": "T", "paragraphs": paragraphs}]}
    text = json.dumps(data, indent=1, ensure_ascii=False)
    for i, line in enumerate(text.split("\n"), 1):
        if '"id": "' in line:
            plant = broken.get(line.split('"')[3])
            if plant:
                ledger.append((i - 1, *plant))  # the question's object begins on the line above its id
    path = folder / f"squad{seed}.json"
    path.write_text(text, "utf-8")
    assert len(broken) == len(ledger) > 10
    return path, ledger, clean, QA


def _set(path: str, value: Any, code: str) -> Callable[[dict[str, Any], str], tuple[str, str]]:
    def plant(row: dict[str, Any], context: str) -> tuple[str, str]:
        row["answers"][0][path] = value(row["answers"][0]) if callable(value) else value
        return f"answers[0].{path}", code

    return plant


def _impossible(row: dict[str, Any], context: str) -> tuple[str, str]:
    row["is_impossible"] = True
    return "is_impossible", "impossible-with-answers"


def _no_question(row: dict[str, Any], context: str) -> tuple[str, str]:
    row["question"] = None
    return "question", "wrong-type"


SPAN_FAULTS: list[Callable[[dict[str, Any], str], tuple[str, str]]] = [
    _set("answer_start", lambda a: a["answer_start"] + 1, "offset"),
    _set("answer_start", lambda a: -1, "offset"),
    _set("answer_start", lambda a: a["answer_start"] + 0.5, "offset"),
    _set("answer_start", lambda a: 10**9, "offset"),
    _set("answer_start", lambda a: str(a["answer_start"]), "wrong-type"),
    _set("text", lambda a: a["text"].upper(), "answer-not-in-context"),
    _set("text", "nowhere to be found", "answer-not-in-context"),
    _set("text", 7, "wrong-type"),
    _impossible,
    _no_question,
]
BUILDERS = {"jsonl": json_lines, "json": json_array, "table": table, "parquet": parquet, "squad": squad}
