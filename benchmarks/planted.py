"""Faults planted in real data for soundness.py: labels turned, answers misplaced, rows copied. A seed says which."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import measure
from luthier.records import Row
from measure import Settings

WRONG = 0.05  # of the labels, or answers


def flipped(settings: Settings) -> tuple[list[Row], set[str]]:
    """IMDb reviews with WRONG of the labels turned, and the ids of those."""
    rows, _ = measure.imdb(settings["imdb"], settings["rows"], 0, settings["seed"])
    draw = random.Random(f"flip {settings['seed']}")
    wrong = {row.id for row in draw.sample(rows, round(WRONG * len(rows)))}
    names = sorted({row["label"] for row in rows})
    other = dict(zip(names, reversed(names)))
    return [
        replace(row, fields={**row.fields, "label": other[row["label"]]}) if row.id in wrong else row for row in rows
    ], wrong


def misplaced(settings: Settings) -> tuple[list[Row], set[str]]:
    """Questions with an answer, WRONG of them with that of another question on the passage, from another sentence."""
    from luthier.evidence.baselines.sentences import sentences

    rows = measure.joined(measure.squad(settings["squad"]))[: settings["rows"] or None]
    draw, wrong, out = random.Random(f"answers {settings['seed']}"), set[str](), []
    of_passage: dict[str, list[Row]] = {}
    for row in rows:
        of_passage.setdefault(row["context"], []).append(row)
    cut = {text: sentences(text) for text in of_passage}

    def sentence(row: Row) -> int | None:
        start = row["answers"][0]["start"]
        return next((i for i, (low, high) in enumerate(cut[row["context"]]) if low <= start < high), None)

    others = {row.id: [o for o in of_passage[row["context"]] if sentence(o) != sentence(row)] for row in rows}
    chosen = set(draw.sample(sorted(id for id, some in others.items() if some), round(WRONG * len(rows))))
    for row in rows:
        if row.id in chosen:
            row = replace(row, fields={**row.fields, "answers": draw.choice(others[row.id])["answers"]})
            wrong.add(row.id)
        out.append(row)
    return out, wrong


def word_pairs(text: str) -> set[tuple[str, str]]:
    """The word pairs of a text, edges among them: written apart from luthier's own, which is under test."""
    found = re.findall(r"\w+", text.casefold())
    return set(zip(["", *found], [*found, ""]))


def _alike(texts: Sequence[str], share: float = 0.5) -> set[int]:
    """Texts that share that much with an earlier one: every pair is compared."""
    import numpy as np
    from scipy.sparse import csr_matrix

    number: dict[tuple[str, str], int] = {}
    columns, starts = list[int](), [0]
    for text in texts:
        columns += [number.setdefault(pair, len(number)) for pair in word_pairs(text)]
        starts.append(len(columns))
    matrix = csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(texts), len(number)))
    sizes, turned, out = np.diff(starts), matrix.T.tocsc(), set[int]()
    for start in range(0, len(texts), 250):
        common = (matrix[start : start + 250] @ turned).toarray()
        whole = sizes[start : start + 250, None] + sizes[None, :] - common
        near = np.argwhere(common >= share * whole)
        out |= {start + int(i) for i, j in near if j < start + i}
    return out


def unlike_reviews(settings: Settings) -> list[Row]:
    """Reviews of which no two are alike, with some to spare."""
    count = settings["rows"]
    rows, _ = measure.imdb(settings["imdb"], count + count // 20 + 10, 0, settings["seed"])
    again = _alike([row["text"] for row in rows])
    kept = [row for i, row in enumerate(rows) if i not in again]
    assert len(kept) >= count
    return kept


def others_for_words(text: str, share: float, draw: random.Random, words: Sequence[str]) -> str:
    parts = text.split(" ")
    for place in draw.sample(range(len(parts)), max(1, round(share * len(parts)))):
        parts[place] = draw.choice(words)
    return " ".join(parts)


def misspelt(text: str, draw: random.Random) -> str:
    parts = text.split(" ")
    long = [i for i, part in enumerate(parts) if len(part) > 3]
    for place in draw.sample(long, max(1, round(0.05 * len(long)))):
        at = draw.randrange(len(parts[place]) - 1)
        part = parts[place]
        parts[place] = f"{part[:at]}{part[at + 1]}{part[at]}{part[at + 2 :]}"
    return " ".join(parts)


def shorter(text: str, draw: random.Random) -> str:
    """A tenth of the words less, at one end."""
    parts = text.split(" ")
    less = max(1, len(parts) // 10)
    return " ".join(parts[less:] if draw.random() < 0.5 else parts[:-less])


def longer(text: str, draw: random.Random, words: Sequence[str]) -> str:
    """A tenth of the words more, at one end."""
    parts = text.split(" ")
    more = draw.choices(words, k=max(1, len(parts) // 10))
    return " ".join([*more, *parts] if draw.random() < 0.5 else [*parts, *more])


def near_copies(rows: Sequence[Row], draw: random.Random, words: Sequence[str]) -> list[Row]:
    ways: list[Callable[[str], str]] = [
        lambda text: misspelt(text, draw),
        lambda text: shorter(text, draw),
        lambda text: longer(text, draw, words),
        lambda text: others_for_words(text.upper().replace(",", ""), 0.05, draw, words),
    ]
    return [copied(row, ways[i % len(ways)](row["text"])) for i, row in enumerate(rows)]


def copied(row: Row, text: str) -> Row:
    return Row(f"copy of {row.id}", {**row.fields, "text": text})
