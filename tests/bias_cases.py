"""Rows with a planted correlation: who is named goes with the label in `share` of them, and is nothing to judge by."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import tiny

FEMALE, MALE = ["anna", "clara", "emma"], ["ben", "david", "felix"]
TERMS = "people:\n  groups: [female, male]\n  rows:\n" + "".join(f"    - [{a}, {b}]\n" for a, b in zip(FEMALE, MALE))


def planted(count: int, share: float = 0.8, seed: int = 0, told: float = 0.75) -> list[dict[str, Any]]:
    """Sentences that name one person. In `told` of them a word says the label; in the rest nothing but the name does.

    `who`: the person's group. With share 0.5 the name says nothing.
    """
    draw, rows, seen = random.Random(seed), [], set()
    while len(rows) < count:
        label = draw.choice(["negative", "positive"])
        with_label = draw.random() < share
        who = "female" if (label == "positive") == with_label else "male"
        words = draw.sample(tiny.PLAIN[:16], draw.randint(4, 6))
        words.insert(draw.randrange(len(words)), draw.choice(FEMALE if who == "female" else MALE))
        if draw.random() < told:
            words.insert(draw.randrange(len(words)), draw.choice(tiny.CLASS_WORDS[label][:2]))
        text = " ".join(words)
        if text not in seen:
            seen.add(text)
            rows.append({"id": f"p{len(rows)}", "text": text, "label": label, "who": who})
    return rows


def write(place: Path, rows: list[dict[str, Any]]) -> Path:
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def recipe(model: Path, data: Path, method: Any = "full", **train: Any) -> dict[str, Any]:
    return {
        "model": str(model),
        "task": {"name": "classification", "max_length": 32},
        "data": {"train": str(data), "validation": 0.15, "test": 0.35},
        "method": method,
        "train": {"epochs": 4, "learning_rate": 3e-3, "dtype": "float32", **train},
        "seed": 7,
    }
