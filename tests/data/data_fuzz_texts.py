"""The import fuzzer for texts: pairs of them, plain text files, folders; and files that are broken as a whole."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

from data_forms import prose
from data_fuzz import BAD_TEXTS, HUGE, NUM, Builder, Fuzzed, Plant, Sheet, clean_text, dumps, places

# Task, settings and columns of rows that are texts.
PAIRS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("seq2seq", {}, ("source", "target")),
    ("embedding", {}, ("anchor", "positive")),
    ("embedding", {"loss": "triplet"}, ("anchor", "positive", "negative")),
    ("pretraining", {}, ("text",)),
    ("generation", {}, ("text",)),
]


def texts(folder: Path, seed: int) -> Fuzzed:
    """Rows of one to three texts, each of which may be broken."""
    rng = random.Random(seed)
    task, about, names = PAIRS[seed % len(PAIRS)]
    sheet = Sheet(rng, folder, f"texts{seed}.jsonl", task, **about)
    lone = sheet.made.form.inputs == (sheet.made.form[sheet.made.form.target],)
    bad = [(name, *value) for name in names for value in BAD_TEXTS if not (lone and value[1] == "too-large")]
    plants = places(rng, NUM, bad)
    for i in range(NUM):
        row = {name: clean_text(rng) for name in names}
        written = {name: dumps(rng, text) for name, text in row.items()}
        told: tuple[str, str, Any] | None = None
        if i in plants:
            name, value, code = plants[i]
            written[name] = value
            told = name, code, json.loads(value)
        line = "{" + ", ".join(f'"{name}": {value}' for name, value in written.items()) + "}"
        if told is not None:
            sheet.plant(line, *told)
        elif task == "generation":
            sheet.keep(line, turns=[("assistant", row["text"])])
        else:
            sheet.keep(line, **row)
    return sheet.written()


def text_lines(folder: Path, seed: int) -> Fuzzed:
    """A plain text, a row a line."""
    rng = random.Random(seed)
    sheet = Sheet(rng, folder, f"lines{seed}.txt", "pretraining")
    bad: list[tuple[str, str, str]] = [
        ("a\x00b", "text", "nul-byte"),
        ("caf\udce9 noir", "text", "bad-encoding"),
        ("x" * 1_100_000, "", "too-large"),
        ("x" * HUGE, "", "too-large"),
    ]
    plants = places(rng, NUM, bad * 2)
    for i in range(NUM):
        text = clean_text(rng)
        if rng.random() < 0.1:
            sheet.add(rng.choice(["", "  ", "\t"]))
        if i in plants:
            value, name, code = plants[i]
            sheet.plant(value, name, code, value)
        else:
            sheet.keep(text, text=text)
    return sheet.written()


# A whole file: its name and bytes, for which task, and what the one sentence about it must say.
Whole = tuple[str, bytes, str, str]


def wholes(seed: int) -> list[Whole]:
    """Files that are no data, or of which nothing can be read."""
    rng = random.Random(seed)
    rows = "".join(json.dumps({"text": prose(rng, 6), "label": "a"}) + "\n" for _ in range(60)).encode()
    packed = gzip.compress(rows)
    noise = rng.randbytes(4000)
    task = "classification"
    return [
        ("empty.jsonl", b"", task, "empty"),
        ("empty.csv", b"", task, "empty"),
        ("blank.json", b" \n\t\r\n ", task, "empty"),
        ("mark.jsonl", b"\xef\xbb\xbf", task, "empty"),
        ("nul.txt", b"\x00" * 5000, "pretraining", "empty"),
        ("rows.jsonl", packed, task, "gzip"),
        ("cut.jsonl.gz", packed[: len(packed) // 2], task, "gzip"),
        ("noise.csv", b"\x01" + noise, task, "control signs"),
        ("rows.parquet", b"PAR1" + noise, task, "Parquet"),
        ("rows.arrow", b"ARROW1\x00\x00" + noise, task, "Arrow"),
        ("rows.xlsx", b"PK\x03\x04" + noise, task, "Excel"),
        ("rows.db", b"SQLite format 3\x00" + noise, task, "SQLite"),
        ("page.html", b"<!DOCTYPE html><html>", task, "web page"),
        ("rows.pdf", b"%PDF-1.7\n" + noise, task, "PDF"),
        ("pointer.jsonl", b"version https://git-lfs.github.com/spec/v1\n", task, "Git LFS"),
        ("header.csv", b"text,label\n", task, "no rows"),
        ("none.json", b"[]", task, "no rows"),
        ("other.jsonl", b'{"a": "x", "b": "y"}\n' * 3, task, "text"),
        ("lists.json", b'{"a": [{"text": "x"}], "b": [{"text": "y"}]}', task, "several lists"),
        ("number.jsonl", b"5\n6\n", task, "expected an object"),
        ("deep.json", b"[" * 100_000, task, "too deeply"),
        ("utf32.jsonl", rows.decode().encode("utf-32")[:-30] + b"\xff\xff\xff\xff", task, ""),
    ]


def cut_off(folder: Path, seed: int) -> Fuzzed:
    """A JSON list that ends in the middle of a row, as a download does that broke."""
    rng = random.Random(seed)
    made = Fuzzed(folder / f"cut{seed}.json", "classification")
    out = ["["]
    for i in range(NUM - 1):
        text = clean_text(rng)
        out.append(json.dumps({"text": text, "label": "a"}) + ",")
        made.clean[i + 2, 0] = {"text": text}
    out.append('{"text": "' + prose(rng, 6))
    made.plants.append(Plant(NUM + 1, "", "truncated", out[-1]))
    made.path.write_text("\n".join(out), "utf-8")
    return made


def folder_of_texts(folder: Path, seed: int) -> tuple[Path, dict[str, str], dict[str, tuple[str, str]]]:
    """A folder whose sub-folders are labels; (folder, path -> text of the good files, path -> code and value)."""
    rng = random.Random(seed)
    root = folder / f"folder{seed}"
    kept: dict[str, str] = {}
    broken: dict[str, tuple[str, str]] = {}
    bad: list[tuple[bytes, str, str]] = [
        (b"", "empty-text", ""),
        (b" \n", "empty-text", ""),
        (b"a\x00b", "nul-byte", "a\\x00b"),
        (b"y" * 9_000_000, "too-large", "yyyyyyyy"),
        (b"\x01\x02\x03\x04" * 90, "bad-encoding", "\\x01\\x02"),
        (b"%PDF-1.7 " + b"z" * 90, "bad-encoding", "%PDF-1.7"),
        ("été ".encode() * 3 + b"caf\xe9", "bad-encoding", "caf"),
    ]
    plants = places(rng, 40, bad)
    for i in range(40):
        path = root / rng.choice(["pos", "neg"]) / f"{i}.txt" if i > 1 else root / ("pos", "neg")[i] / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = clean_text(rng)
        if i in plants:
            content, code, value = plants[i]
            path.write_bytes(content)
            broken[str(path)] = code, value
        else:
            path.write_bytes(text.encode(rng.choice(["utf-8", "utf-8-sig"])))
            kept[str(path)] = text
    return root, kept, broken


TEXTS: dict[str, Builder] = {"texts": texts, "text-lines": text_lines, "cut-off": cut_off}
