"""Near duplicates: texts that share most of their word pairs, found without comparing every pair of texts.

MinHash signatures (Broder 1997) are cut into bands (Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", chapter 3); texts that agree on a whole band are candidates, and every candidate is verified by the
exact share of word pairs, so that a reported pair is never an estimate. Signatures come from rensa.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from ..pulse import Pulse, Say
from ..uncollected import uncollected
from .content import plain, words

NUM_PERM = 128
ROWS_A_BAND = 4  # 32 bands of 4: a pair with likeness 0.6 is a candidate with probability 0.99, one of 0.2 with 0.05
MIN_WORDS = 5  # shorter texts are compared exactly: one word changed makes them another text
_SEED = 7
_CHUNK = 2048
_KNOWN_WORDS = 300_000  # whose hashes are kept: the usual ones, which make up most of any text
_REFUSED = 1_000_000  # candidates that are remembered as not alike, so that the next band need not compare them
_LEADERS = 10  # how many texts a crowded band is compared with, so that a million like texts stay linear


@uncollected()
def near_duplicates(
    texts: Sequence[str], threshold: float = 0.6, say: Say | None = None
) -> list[tuple[int, int, float]]:
    """Pairs (i, j, likeness) of texts that are copies or near copies, i < j.

    Likeness is the share of neighbouring word pairs that two texts have in common, case and punctuation
    aside; 1.0 are copies. Long texts (30 words and more) need `threshold`, which three changed words in
    thirty reach; shorter ones need up to 0.8; under five words only copies count. Not every pair of a cluster
    is listed, but enough to connect it. Memory: about 300 bytes a text. `say` is told what is being done, and
    with how many of the texts.
    """
    pairs: list[tuple[int, int, float]] = []
    distinct = _copies(texts, pairs, say)
    if len(distinct) > 1:
        bands, long = _bands(texts, distinct, say)
        pairs += _verified(texts, long, bands, threshold, say)
    return sorted(pairs)


def _copies(texts: Sequence[str], pairs: list[tuple[int, int, float]], say: Say | None) -> list[int]:
    """Add each copy with its first occurrence to `pairs`; the indices of the first occurrences."""
    first: dict[bytes, int] = {}
    distinct: list[int] = []
    for i, text in enumerate(Pulse(say, "looking for copies").over(texts)):
        key = blake2b(plain(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        j = first.setdefault(key, i)
        if j == i:
            distinct.append(i)
        else:
            pairs.append((j, i, 1.0))
    return distinct


def _bands(texts: Sequence[str], distinct: list[int], say: Say | None) -> tuple[Any, list[int]]:
    """The bands (texts x bands, uint32) of every text long enough, and which texts those are."""
    import numpy as np

    bands = np.empty((len(distinct), NUM_PERM // ROWS_A_BAND), np.uint32)
    long: list[int] = []
    known: dict[str, int] = {}
    pulse = Pulse(say, "looking for near copies")
    for start in range(0, len(distinct), _CHUNK):
        chunk = []
        for i in distinct[start : start + _CHUNK]:
            found = words(texts[i])
            if len(found) >= MIN_WORDS:
                chunk.append(found)
                long.append(i)
        if chunk:
            bands[len(long) - len(chunk) : len(long)] = _band_hashes(_signatures(chunk, known))
        if len(known) > _KNOWN_WORDS:
            known.clear()
        pulse(start)
    return bands[: len(long)], long


def _signatures(chunk: list[list[str]], known: dict[str, int]) -> Any:
    """MinHash signatures (texts x NUM_PERM, uint32). `known` keeps the stable hash of each word seen."""
    import numpy as np
    from rensa import RMinHash

    flat: list[int] = []
    lengths = np.empty(len(chunk), np.uint64)
    for row, found in enumerate(chunk):
        flat.append(1)  # a mark for the text's edges, so that its first and last word count like the others
        for word in found:
            code = known.get(word)
            if code is None:
                digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                code = known[word] = int.from_bytes(digest, "little")
            flat.append(code)
        flat.append(1)
        lengths[row] = len(found) + 1
    codes = np.array(flat, np.uint64)
    both = codes[:-1] * np.uint64(0x9E3779B97F4A7C15) + codes[1:]
    both ^= both >> np.uint64(29)
    # Each text gives one pair more than it has words; the pair that joins two texts lies between and is
    # left out.
    keep = np.ones(len(both), bool)
    ends = np.cumsum(lengths + np.uint64(1)).astype(np.int64)
    keep[ends[:-1] - 1] = False
    offsets = np.concatenate([np.zeros(1, np.uint64), np.cumsum(lengths)])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(both[keep], offsets, NUM_PERM, _SEED)
    return np.array(matrix.to_rows(), np.uint32)


def _band_hashes(signatures: Any) -> Any:
    """Each run of ROWS_A_BAND signature values as one number."""
    import numpy as np

    bands = signatures.reshape(len(signatures), -1, ROWS_A_BAND).astype(np.uint64)
    mixed = np.zeros(bands.shape[:2], np.uint64)
    for k in range(ROWS_A_BAND):
        mixed = (mixed ^ bands[:, :, k]) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(16)).astype(np.uint32)


def _crowds(column: Any) -> Iterator[tuple[float, Any]]:
    """Runs of two or more texts that agree on one band, as arrays of positions in rising order; and how many of the
    texts, as a fraction, lie before each.
    """
    import numpy as np

    order = np.argsort(column, kind="stable")
    values = column[order]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    ends = np.concatenate([starts[1:], [len(values)]])
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1]):
        yield start / len(values), order[start:end]


def _verified(
    texts: Sequence[str], long: list[int], bands: Any, threshold: float, say: Say | None
) -> Iterator[tuple[int, int, float]]:
    """Candidates that pass the exact test, those that are already connected left out."""
    joined = Joined(len(long))
    refused: set[int] = set()
    pulse = Pulse(say, "comparing near copies")
    for band in range(bands.shape[1]):
        if len(refused) > _REFUSED:
            refused.clear()
        for share, crowd in _crowds(bands[:, band]):
            done = int((band + share) / bands.shape[1] * len(texts))
            leaders: list[int] = []
            for position in crowd.tolist():
                pulse(done)  # a crowd may be all texts
                for leader in leaders:
                    if joined.find(leader) == joined.find(position):
                        break
                    code = leader * len(long) + position
                    if code in refused:
                        continue
                    likeness = likeness_of(texts[long[leader]], texts[long[position]], threshold)
                    if likeness is not None:
                        joined.join(leader, position)
                        first, second = sorted((long[leader], long[position]))
                        yield first, second, likeness
                        break
                    refused.add(code)
                else:
                    if len(leaders) < _LEADERS:
                        leaders.append(position)


def likeness_of(a: str, b: str, threshold: float = 0.6) -> float | None:
    """The share of word pairs two texts have in common (Jaccard), or None if it is not enough to be near."""
    first, second = words(a), words(b)
    shorter = min(len(first), len(second))
    if shorter < MIN_WORDS:
        return 1.0 if first == second else None
    pairs, others = _pairs(first), _pairs(second)
    common = len(pairs & others)
    likeness = common / (len(pairs) + len(others) - common)
    return likeness if likeness >= _needed(shorter, threshold) else None


def _pairs(found: list[str]) -> set[tuple[str, str]]:
    return set(zip(["", *found], [*found, ""]))


def _needed(num_words: int, threshold: float) -> float:
    """How alike two texts must be: a changed word says more in a short text ("to Paris", "to Rome")."""
    short = max(threshold, 0.8)
    share = min(1.0, max(0.0, (num_words - 15) / 15))
    return short + (threshold - short) * share


class Joined:
    """Union-find: which of `size` things belong together."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        """The lower index becomes the root, so that the result does not depend on the order of joins."""
        i, j = self.find(i), self.find(j)
        if i != j:
            self.parent[max(i, j)] = min(i, j)
