"""Entities as tags, one a word, and the likeliest tags that make sense together.

"B-type" begins an entity, "I-type" goes on with it, "O" stands outside: IOB2 (Tjong Kim Sang and Veenstra 1999,
aclanthology.org/E99-1023). An "I-type" after anything but "B-type" or "I-type" of the same type begins nothing and
counts for nothing, as in seqeval's strict mode.

A model judges each word for itself. Among all sequences of tags that make sense the likeliest is found by dynamic
programming (Viterbi 1967), and the same pass in sums instead of maxima gives the probability of the whole sequence
and of each entity in it (Rabiner 1989). Only what may follow what is known, nothing is learned, so a step costs as
much as there are tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Entity = tuple[int, int, str]
"""First word, the word after the last, type."""

CELLS = 2_000_000  # words x tags that are worked on at once


def tag_set(types: Iterable[str]) -> list[str]:
    """Every tag of these types in a fixed order: "O", then "B-" and "I-" of each."""
    return ["O", *(f"{place}-{kind}" for kind in sorted(set(types)) for place in "BI")]


def type_of(tag: str) -> str:
    """The type in a tag; "" for "O"."""
    return tag.partition("-")[2]


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that tags spell out, in order."""
    found: list[Entity] = []
    begin, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        if kind and not (tag.startswith("I") and type_of(tag) == kind):
            found.append((begin, place, kind))
            kind = ""
        if tag.startswith("B"):
            begin, kind = place, type_of(tag)
    return found


def spelled(found: Iterable[Entity], length: int) -> list[str]:
    """The tags of `length` words with these entities, which may not overlap."""
    tags = ["O"] * length
    for begin, end, kind in found:
        tags[begin:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - begin - 1)]
    return tags


@dataclass(frozen=True)
class Decoded:
    """The likeliest tags of a row, as places in its tag set.

    `probability` is that of exactly these tags among all that make sense; `entities` are (first, after the last,
    number of the type, probability that just this entity is there); `margin` is what the best tags lead by, in
    log-probability, over the best with any one word tagged otherwise (inf where nothing else is possible).
    """

    tags: np.ndarray
    probability: float
    entities: list[tuple[int, int, int, float]]
    margin: float


def decode(rows: Sequence[np.ndarray]) -> list[Decoded]:
    """The likeliest tags of each row; a row is words x tags of log-probabilities in the order of `tag_set`."""
    out: list[Decoded | None] = [None] * len(rows)
    for places in _chunks(rows):
        longest, num_tags = max(1, len(rows[places[0]])), rows[places[0]].shape[1]
        # Behind a row's end stands "O" for certain, which may follow anything: it changes nothing.
        scores = np.full((len(places), longest, num_tags), -np.inf)
        scores[:, :, 0] = 0.0
        for i, place in enumerate(places):
            scores[i, : len(rows[place])] = rows[place]
        lengths = [len(rows[place]) for place in places]
        for place, one in zip(places, _decode(scores, lengths)):
            out[place] = one
    return [one for one in out if one is not None]


def _chunks(rows: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Rows of like length together, the longest first."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    start = 0
    while start < len(order):
        size = max(1, CELLS // max(1, rows[order[start]].size))
        yield order[start : start + size]
        start += size


def _decode(scores: np.ndarray, lengths: Sequence[int]) -> Iterator[Decoded]:
    """`scores`: rows x words x tags."""
    ahead, came = _forward(scores, np.maximum, keep=True)
    behind, _ = _backward(scores, np.maximum)
    best = _trace(ahead, came)
    ordered = np.sort(ahead + behind, -1)
    with np.errstate(invalid="ignore"):
        lead = ordered[..., -1] - ordered[..., -2] if scores.shape[-1] > 1 else np.full(scores.shape[:2], np.inf)
    total_ahead, _ = _forward(scores, np.logaddexp)
    _, ending = _backward(scores, np.logaddexp)
    whole = np.logaddexp.reduce(total_ahead[:, -1], -1)
    path = np.take_along_axis(scores, best[..., None], 2)[..., 0].sum(1)
    for i, length in enumerate(lengths):
        tags = best[i, :length]
        found = []
        for begin, end, kind in _spans(tags):
            inside = scores[i, begin + 1 : end, 2 + 2 * kind].sum()
            after = ending[i, end] if end < scores.shape[1] else 0.0
            chance = total_ahead[i, begin, 1 + 2 * kind] + inside + after - whole[i]
            found.append((begin, end, kind, float(min(1.0, np.exp(chance)))))
        margin = float(lead[i, :length].min()) if length else np.inf
        yield Decoded(tags, float(min(1.0, np.exp(path[i] - whole[i]))), found, margin)


def _forward(scores: np.ndarray, join: np.ufunc, keep: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """rows x words x tags: everything up to a word that ends in a tag, joined; and where the best came from."""
    out = np.empty_like(scores)
    came = np.zeros(scores.shape if keep else (0,), dtype=np.int32)
    now = scores[:, 0].copy()
    now[:, 2::2] = -np.inf  # nothing goes on at the beginning
    out[:, 0] = now
    kinds = np.arange((scores.shape[2] - 1) // 2)
    for t in range(1, scores.shape[1]):
        begun, gone_on = now[:, 1::2], now[:, 2::2]
        if keep:
            came[:, t] = now.argmax(1)[:, None]
            came[:, t, 2::2] = np.where(begun >= gone_on, 1, 2) + 2 * kinds
        following = np.repeat(join.reduce(now, 1)[:, None], scores.shape[2], 1)
        following[:, 2::2] = join(begun, gone_on)
        now = out[:, t] = following + scores[:, t]
    return out, came


def _backward(scores: np.ndarray, join: np.ufunc) -> tuple[np.ndarray, np.ndarray]:
    """rows x words x tags: everything after a word of a tag, joined; rows x words: a word and all after it, where it
    goes on with nothing."""
    out, ending = np.zeros_like(scores), np.zeros(scores.shape[:2])
    for t in range(scores.shape[1] - 1, -1, -1):
        here = scores[:, t] + out[:, t]
        ending[:, t] = join.reduce(np.concatenate([here[:, :1], here[:, 1::2]], 1), 1)
        if t:
            out[:, t - 1, 0] = ending[:, t]
            out[:, t - 1, 1::2] = out[:, t - 1, 2::2] = join(ending[:, t, None], here[:, 2::2])
    return out, ending


def _trace(ahead: np.ndarray, came: np.ndarray) -> np.ndarray:
    """rows x words: the best sequence, from its last word back."""
    every = np.arange(len(ahead))
    best = np.zeros(ahead.shape[:2], dtype=np.int32)
    best[:, -1] = ahead[:, -1].argmax(1)
    for t in range(ahead.shape[1] - 1, 0, -1):
        best[:, t - 1] = came[every, t, best[:, t]]
    return best


def _spans(tags: np.ndarray) -> list[tuple[int, int, int]]:
    """Entities in valid tag numbers: first word, the one after the last, number of the type."""
    begins = np.flatnonzero((tags > 0) & (tags % 2 == 1))
    out = []
    for begin in begins:
        end = int(begin) + 1
        while end < len(tags) and tags[end] > 0 and tags[end] % 2 == 0:
            end += 1
        out.append((int(begin), end, int(tags[begin] - 1) // 2))
    return out
