"""`luthier demo sentiment`: is a sentence of a film review positive or negative?"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

from luthier.errors import DataError
from luthier.files import write_jsonl
from luthier.models import CATALOGUE

from .base import Demo

SOURCE = "rotten_tomatoes"
LABELS = {"0": "negative", "1": "positive"}
TEST, VALIDATION, TRAIN = 1_500, 500, 5_000


def select(
    reviews: Path, sizes: tuple[int, int, int] = (TEST, VALIDATION, TRAIN), source: str = SOURCE
) -> dict[str, list[dict[str, str]]]:
    """Split -> rows (id, text, label) of one source in the reviews' CSV: Rotten Tomatoes sentences, or IMDb.

    Copies are dropped, whatever their case and spacing, and a sentence under both labels with them. A row's
    place follows from its text's hash, so the choice is the same everywhere. DataError for too few.
    """
    found: dict[str, tuple[str, str]] = {}
    contradicted: set[str] = set()
    with reviews.open(encoding="utf-8-sig", newline="") as file:
        for line in csv.DictReader(file):
            if line.get("source") != source or line.get("label") not in LABELS or not (line["text"] or "").strip():
                continue
            text, label = line["text"].strip(), LABELS[line["label"]]
            key = hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()
            if found.setdefault(key, (text, label))[1] != label:
                contradicted.add(key)
    keys = sorted(found.keys() - contradicted)
    if len(keys) < sum(sizes):
        raise DataError(
            f"it holds {len(keys):,} different reviews from {source}, expected at least {sum(sizes):,}",
            where=str(reviews),
            fix="remove that file and fetch it again: luthier models get imdb",
        )
    splits, start = {}, 0
    for name, size in zip(("test", "validation", "train"), sizes):
        some = keys[start : start + size]
        splits[name] = [{"id": f"rt-{k[:12]}", "text": found[k][0], "label": found[k][1]} for k in some]
        start += size
    return splits


def prepare(folder: Path) -> dict[str, Any]:
    """Write train, validation and test into `folder`; the recipe that uses them."""
    files = {}
    for name, rows in select(CATALOGUE["imdb"].path).items():
        path = folder / f"{name}.jsonl"
        write_jsonl(path, rows)
        files[name] = str(path)
    return {
        "model": "minilm",
        "task": {"name": "classification", "max_length": 96},  # the longest sentence has about 80 tokens
        "data": {name: files[name] for name in ("train", "validation", "test")},
        "method": {"name": "full"},
        "train": {"epochs": 2, "batch_size": 16, "eval_steps": 125},
        "seed": 7,
    }


SENTIMENT = Demo(
    name="sentiment",
    before=(
        f"MiniLM (22.7 M parameters) learns from {TRAIN:,} sentences of film reviews (Rotten Tomatoes) "
        f"whether one is positive or negative. Choices are made on {VALIDATION:,} others; {TEST:,} more are "
        "scored once, at the end."
    ),
    after=(
        "The verdict is about sentences like these. On longer reviews or other subjects it may differ: label "
        "a few hundred rows of your own and ask again with `luthier evaluate RUN --data FILE`."
    ),
    needs=("minilm", "imdb"),
    prepare=prepare,
)
