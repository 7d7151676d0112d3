"""How varied rows are: their topics, how often they repeat themselves, their scripts, and the ones like no other.

Topics are clusters (k-means) of TF-IDF vectors in a space of few dimensions (latent semantic analysis, Deerwester et
al. 1990); a topic is called by the words that set it apart. A row like no other has a local density far below that of
its neighbours (local outlier factor, Breunig et al. 2000).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...records import Finding, Form, Row
from ..baselines.bag_of_words import features
from ..baselines.sentences import words

FEWEST = 100  # rows
MOST = 2_000  # rows that are looked at
LONG = 2_000  # characters of each
DIMENSIONS = 50
TOPICS = 8
NAMES = 4  # words of a topic
NEIGHBOURS = 20
FAR = 2.0  # local outlier factor from which a row is told
NAMED = 20
ALONE = 0.6  # share of one topic beyond which the rows are said to be of one kind


@dataclass(frozen=True, slots=True)
class Variety:
    """`topics`: (words, rows). `distinct`: the share of word pairs that are new, of the first 20,000 words. `scripts`:
    name -> rows. `outliers`: ids, the furthest first.
    """

    rows: int
    topics: tuple[tuple[tuple[str, ...], int], ...]
    distinct: float
    scripts: dict[str, int]
    outliers: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        topics = [{"words": list(names), "rows": count} for names, count in self.topics]
        known = {"rows": self.rows, "topics": topics, "distinct_pairs": self.distinct, "scripts": self.scripts}
        return {**known, "outliers": list(self.outliers)}

    def findings(self) -> list[Finding]:
        out = []
        if self.topics and self.topics[0][1] > ALONE * self.rows:
            share, names = self.topics[0][1] / self.rows, ", ".join(self.topics[0][0])
            said = f"{100 * share:.0f} % of the rows are of one kind ({names}); a model learns little of the others."
            numbers = {"share": share, "words": list(self.topics[0][0])}
            remedy = "Add rows of the other kinds, if they matter."
            out.append(Finding("one-topic", "note", said, numbers, remedy=remedy))
        if len(self.scripts) > 1:
            common, rest = next(iter(self.scripts)), list(self.scripts.items())[1:]
            told = ", ".join(f"{count:,} {name}" for name, count in rest)
            said = f"Most rows are written in {common} letters, others in another script ({told})."
            remedy = "See whether the model's vocabulary knows that script, and whether the rows belong here."
            out.append(Finding("scripts", "note", said, dict(self.scripts), remedy=remedy))
        if self.outliers:
            said = f"{len(self.outliers)} rows are like no other: another subject, another language, or not text."
            remedy = "Read them, and take out what does not belong."
            out.append(Finding("outliers", "note", said, {"rows": len(self.outliers)}, self.outliers[:NAMED], remedy))
        return out


def variety(form: Form, rows: Sequence[Row], seed: int = 0) -> Variety | None:
    """Topics, repetition, scripts and outliers; None with few rows or without words. Of many rows MOST are taken."""
    names = [field.name for field in form.inputs if field.kind in ("text", "tokens")]
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int)] if rows else []
    if len(chosen) < FEWEST or not names:
        return None
    texts = ["\n".join(text_of(row.get(name)) for name in names)[:LONG] for row in chosen]
    found = features(texts, texts[:1])
    if found is None or min(found[0].shape) <= DIMENSIONS:
        return None
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.preprocessing import normalize

    matrix = found[0].tocsr()
    space = normalize(TruncatedSVD(DIMENSIONS, random_state=seed).fit_transform(matrix))
    topic = KMeans(TOPICS, n_init=3, random_state=seed).fit_predict(space)
    factor = -LocalOutlierFactor(NEIGHBOURS).fit(space).negative_outlier_factor_
    far = [int(i) for i in np.argsort(-factor, kind="stable") if factor[i] > FAR]
    return Variety(
        len(rows),
        _topics(topic, texts, len(rows)),
        _distinct(texts),
        dict(Counter(script_of(text) for text in texts).most_common()),
        tuple(chosen[i].id for i in far),
    )


def text_of(value: Any) -> str:
    """A text, or the words of a sentence with blanks between."""
    return " ".join(value) if isinstance(value, list) else str(value or "")


def _topics(topic: Any, texts: Sequence[str], rows: int) -> tuple[tuple[tuple[str, ...], int], ...]:
    """The topics' words and sizes, the largest first. Words set a topic apart if they stand in many of its texts and in
    few others (difference of the two shares).
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    held = [set(words(text)) for text in texts]
    whole = Counter(word for some in held for word in some)
    out = []
    for number in range(TOPICS):
        own = [some for some, place in zip(held, topic) if place == number]
        if not own:
            continue
        here = Counter(word for some in own for word in some)
        rest = max(1, len(held) - len(own))
        apart = {
            word: count / len(own) - (whole[word] - count) / rest
            for word, count in here.items()
            if len(word) > 2 and word not in ENGLISH_STOP_WORDS
        }
        best = sorted(apart, key=lambda word: (-apart[word], word))[:NAMES]
        out.append((tuple(best), round(len(own) * rows / len(held))))
    return tuple(sorted(out, key=lambda one: -one[1]))


def _distinct(texts: Sequence[str]) -> float:
    """Distinct pairs among all of the first 20,000 words (distinct-2: Li et al. 2016, arxiv.org/abs/1510.03055)."""
    flow: list[str] = []
    for text in texts:
        flow += words(text)
        if len(flow) >= 20_000:
            break
    pairs = list(pairwise(flow[:20_000]))
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def script_of(text: str) -> str:
    """What most of a text's first letters are written in: "Latin", "Cyrillic", "Han" ("CJK" in Unicode's names)."""
    counts = Counter(unicodedata.name(letter, "unknown").partition(" ")[0] for letter in text[:200] if letter.isalpha())
    name = counts.most_common(1)[0][0].capitalize() if counts else "no"
    return "Han" if name == "Cjk" else name
