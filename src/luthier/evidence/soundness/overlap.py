"""Rows that also stand in a public benchmark: a model that has trained on them must not be scored by it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...data.splitting.content import text_of
from ...data.splitting.near import near_duplicates
from ...errors import DataError
from ...records import Finding, Form, Row

SHORT = 5  # words: shorter texts are alike by chance
NAMED = 50


def read_benchmark(path: Path) -> list[str]:
    """Texts of five words and more in a JSON, JSONL, CSV, TSV or Parquet file, or the lines of any other, each once.

    DataError where the file cannot be read.
    """
    try:
        texts = list(dict.fromkeys(_texts_of(path)))
    except (OSError, ValueError, csv.Error, RecursionError) as error:  # a nest of lists without end
        raise DataError(
            f"it cannot be read ({error})", where=str(path), fix="name a JSON, JSONL, CSV, TSV, Parquet or text file"
        ) from None
    return [text for text in texts if len(text.split()) >= SHORT]


def _texts_of(path: Path) -> Iterator[str]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from _strings(batch.to_pylist())
        return
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        if suffix == ".json":
            yield from _strings(json.load(lines))
        elif suffix in (".jsonl", ".ndjson"):
            for line in lines:
                if line.strip():
                    yield from _strings(json.loads(line))
        elif suffix in (".csv", ".tsv"):
            for cells in csv.reader(lines, delimiter="\t" if suffix == ".tsv" else ","):
                yield from cells
        else:
            yield from (line.strip() for line in lines)


def _strings(value: Any) -> Iterator[str]:
    """Every text in a nest of lists and objects, without recursion: nests may be deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def overlaps(form: Form, rows: Sequence[Row], benchmark: Sequence[str], name: str) -> Finding:
    """What the rows share with a benchmark's texts: copies and near copies of a whole input."""
    texts, whose = list(benchmark), [""] * len(benchmark)
    for row in rows:
        for one in form.inputs:
            text = text_of(row.get(one.name))
            if text and len(text.split()) >= SHORT:
                texts.append(text)
                whose.append(row.id)
    # Copies are joined to their first occurrence, near copies along a chain: what hangs together is one group.
    group = list(range(len(texts)))

    def top(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, j, _ in near_duplicates(texts):
        group[top(j)] = top(i)
    known = {top(i) for i in range(len(benchmark))}
    shared = list(dict.fromkeys(whose[i] for i in range(len(benchmark), len(texts)) if top(i) in known))
    numbers = {"benchmark": name, "texts": len(benchmark), "rows": len(shared)}
    if not shared:
        return Finding("benchmark-overlap", "note", f"No row stands in {name} ({len(benchmark):,} texts).", numbers)
    said = f"{len(shared):,} rows also stand in {name}, word for word or nearly."
    remedy = f"Take them out, or score no model that has trained on them by {name}."
    return Finding("benchmark-overlap", "warning", said, numbers, tuple(shared[:NAMED]), remedy)
