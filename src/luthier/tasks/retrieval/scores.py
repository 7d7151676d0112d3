"""How well texts are found, and how well likeness is ordered: numbers per row that may be summed.

Retrieval: every distinct anchor of the rows is a query, every distinct positive and negative a candidate. Right for a
query are the positives of all rows that share its anchor. Texts count as the same where only case, white space and
punctuation differ. Ranks are taken once, among all candidates of the rows scored.

A rank among equal likenesses is the mean of all orders they could stand in, so that a model that finds everything
alike gets what chance gets, to the digit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from luthier.data.splitting.content import plain
from luthier.records import Answer, Row

Array = NDArray[np.float64]
Likeness = Callable[[int, int], NDArray[np.floating]]
"""(start, end) of some queries -> likeness of each to every candidate, queries x candidates."""

FIRST = 10  # candidates that recall_at_10 looks at
_HELD = 8_000_000  # likenesses in memory at once


def text_id(text: str) -> int:
    """A number above 0 for a text, the same for texts that differ in case, white space and punctuation alone."""
    digest = blake2b(plain(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 1) or 1


@dataclass(frozen=True)
class Found:
    """Of one query: mean of one over the first right rank, share of right texts among the first ten, what stood first
    and the share of trust it has among all candidates (softmax of the scaled likenesses), and its likeness.
    """

    reciprocal_rank: float
    recall: float
    first: int
    confidence: float
    likeness: float


@dataclass(frozen=True)
class Collection:
    """The distinct queries and candidates of some rows.

    `queries[q]` is the row whose anchor is query q, `query_of[r]` the query of row r, `candidates[c]` the row and the
    field that hold candidate c, `right[q]` the candidates that are right for query q.
    """

    queries: list[int]
    query_of: NDArray[np.int64]
    candidates: list[tuple[int, str]]
    right: list[NDArray[np.int64]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Collection:
        """Rows with `anchor`, `positive` and perhaps `negative`."""
        queries: dict[int, int] = {}
        places: dict[int, int] = {}
        candidates: list[tuple[int, str]] = []
        asked: list[int] = []
        right: dict[int, set[int]] = {}
        for r, row in enumerate(rows):
            query = queries.setdefault(text_id(str(row["anchor"])), r)
            asked.append(query)
            for name in ("positive", "negative"):
                text = row.get(name)
                if text is None:
                    continue
                place = places.setdefault(text_id(str(text)), len(candidates))
                if place == len(candidates):
                    candidates.append((r, name))
                if name == "positive":
                    right.setdefault(query, set()).add(place)
        number = {r: q for q, r in enumerate(queries.values())}
        return cls(
            list(queries.values()),
            np.array([number[r] for r in asked], dtype=np.int64),
            candidates,
            [np.array(sorted(right[r]), dtype=np.int64) for r in queries.values()],
        )

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """The candidates' texts, where these are the rows it was made of."""
        return [str(rows[r][name]) for r, name in self.candidates]

    def answers(self, rows: Sequence[Row], found: Sequence[Found]) -> list[Answer]:
        """What each row's anchor found (an entry a query): the text that stood first, and what scores are made of."""
        texts, out = self.texts(rows), []
        for one in (found[query] for query in self.query_of):
            detail = {
                "reciprocal_rank": one.reciprocal_rank,
                "recall_at_10": one.recall,
                "likeness": one.likeness,
            }
            out.append(Answer(texts[one.first], one.confidence, detail))
        return out


def rank(collection: Collection, likeness: Likeness, scale: float = 1.0) -> list[Found]:
    """What each query finds. `scale` multiplies likenesses before they are turned into shares of trust."""
    found: list[Found] = []
    step = max(1, _HELD // max(1, len(collection.candidates)))
    for start in range(0, len(collection.queries), step):
        end = min(start + step, len(collection.queries))
        for query, line in enumerate(np.asarray(likeness(start, end)), start):
            found.append(_found(line, collection.right[query], scale))
    return found


def _found(line: NDArray[np.floating], right: NDArray[np.int64], scale: float) -> Found:
    hits = line[right]
    best = hits.max()
    better, level, level_right = (
        int((line > best).sum()),
        int((line == best).sum()),
        int((hits == best).sum()),
    )
    # Of the candidates as like as the last of the first ten, as many as there is room for are among these.
    last = np.partition(line, len(line) - FIRST)[len(line) - FIRST] if len(line) > FIRST else line.min()
    above, at = int((line > last).sum()), int((line == last).sum())
    room = min(1.0, (FIRST - above) / at)
    recall = float(((hits > last).sum() + room * (hits == last).sum()) / len(right))
    first = int(line.argmax())
    trust = np.exp(scale * (line.astype(np.float64) - float(line[first])))
    return Found(
        _mean_reciprocal(better, level, level_right),
        recall,
        first,
        float(1 / trust.sum()),
        float(line[first]),
    )


def _mean_reciprocal(better: int, level: int, right: int) -> float:
    """Mean of 1 / rank of the first of `right` among `level` in any order, `better` others before them all."""
    if level == right:
        return 1 / (better + 1)
    places = np.arange(1, level - right + 2)
    # The first right one stands at place k: none before it is, and it is.
    missed = (level - places[:-1] - right + 1) / (level - places[:-1] + 1)
    chances = right / (level - places + 1) * np.concatenate([[1.0], missed.cumprod()])
    return float((chances / (better + places)).sum())


def query_weights(rows: Sequence[Row]) -> Array:
    """One over the number of rows that share the row's anchor: every query counts once."""
    ids = np.array([text_id(str(row["anchor"])) for row in rows], dtype=np.int64)
    _, where, count = np.unique(ids, return_inverse=True, return_counts=True)
    return 1.0 / count[where]


def centred_ranks(values: Sequence[float]) -> Array:
    """Ranks between -1/2 and 1/2, equal values sharing their mean rank; 0 where all are equal."""
    from scipy.stats import rankdata

    numbers = np.asarray(values, dtype=np.float64)
    return (rankdata(numbers) - 0.5) / max(1, len(numbers)) - 0.5


def rank_counts(given: Sequence[float], expected: Sequence[float]) -> Array:
    """rows x 6: 1, both ranks, both squares, their product; ranks are taken once, among all these rows."""
    x, y = centred_ranks(given), centred_ranks(expected)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1)


def rank_correlation(sums: Array) -> Array:
    """Spearman's correlation (Spearman 1904) from sums (... x 6) of `rank_counts`.

    Over the rows that were ranked it is exact, ties included. Over a part of them it is Pearson's correlation of the
    ranks they have among all, so that a bootstrap draw costs six sums; drawn rows keep their ranks, which is what
    Spearman's correlation is in the limit of many rows. A constant answer orders nothing: 0. A single row has no
    correlation; what it adds to that of all stands in its place, so that rows in which two models differ can be told.
    """
    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        joint, own, other = xy / n - x * y / n**2, xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        spread = np.sqrt(np.clip(own, 0, None) * np.clip(other, 0, None))
        value = np.where(spread > 1e-12, joint / spread, 0.0)
    return np.where(n == 0, np.nan, np.where(n == 1, 4 * xy, np.clip(value, -1, 1)))
