"""Cheap ways to find texts and to judge likeness, to hold a tuned model against. They look at no right answer.

| what is asked   | trivial                               | classical                                              |
|-----------------|---------------------------------------|--------------------------------------------------------|
| find a text     | any order: what chance gives, exactly | BM25 over the candidates (Robertson & Zaragoza 2009)   |
| judge likeness  | always the mean training score        | cosine of TF-IDF vectors, rarity from training texts   |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from luthier.data.splitting.content import words
from luthier.records import Answer, Row

from .scores import Collection, rank

RETRIEVAL_RIVALS = {"trivial": "any order", "classical": "BM25"}
SCORED_RIVALS = {"trivial": "always the mean score", "classical": "TF-IDF cosine"}
K1, B = 1.2, 0.75  # how soon a repeated word counts no more, and how much a long text is held against it


def retrieval_rival(name: str, train: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """What the baseline finds first for each row's anchor among all positives and negatives of `rows`."""
    if not rows:
        return []
    kept = Collection.of(rows)
    asked = [str(rows[r]["anchor"]) for r in kept.queries]
    parts = bm25(asked, kept.texts(rows)) if name == "classical" else None
    if parts is None:
        return kept.answers(rows, rank(kept, lambda start, end: np.zeros((end - start, len(kept.candidates)))))
    counts, weights = parts
    return kept.answers(rows, rank(kept, lambda start, end: (counts[start:end] @ weights).toarray()))


def bm25(queries: Sequence[str], texts: Sequence[str]) -> tuple[Any, Any] | None:
    """Two sparse matrices, queries x words and words x texts, whose product is BM25; None where no text has a word.

    A word's weight is ln(1 + (n - d + 0.5) / (d + 0.5)), d of n texts holding it, which is never negative.
    """
    import scipy.sparse as sparse
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer=words)
    try:
        counts = counter.fit_transform(texts).tocoo()
    except ValueError:  # no word in any text
        return None
    lengths = np.bincount(counts.row, weights=counts.data, minlength=len(texts))
    holding = np.bincount(counts.col, minlength=counts.shape[1])
    rarity = np.log1p((len(texts) - holding + 0.5) / (holding + 0.5))
    damped = K1 * (1 - B + B * lengths / lengths.mean())
    weight = rarity[counts.col] * counts.data * (K1 + 1) / (counts.data + damped[counts.row])
    by_word = sparse.csr_matrix((weight, (counts.col, counts.row)), shape=(counts.shape[1], len(texts)))
    return counter.transform(queries).astype(np.float64), by_word


def scored_rival(name: str, train: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """What the baseline takes for the score of each row's two texts."""
    scores = [float(row["score"]) for row in train]
    if name == "trivial":
        return [Answer(sum(scores) / len(scores), 1.0)] * len(rows)
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True)
    vectorizer.fit([str(row[field]) for row in train for field in ("anchor", "positive")])
    one, other = (vectorizer.transform([str(row[field]) for row in rows]) for field in ("anchor", "positive"))
    low, high = min(scores), max(scores)
    return [Answer(low + (high - low) * float(x), 1.0) for x in np.asarray(one.multiply(other).sum(1)).ravel()]
