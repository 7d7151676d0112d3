"""Language models that only count: how surprising each token is, by how often it was seen, alone and after another.

They say what a loss is worth: a neural model that does not beat them has learned no more than frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..batches import Examples

ADDED = 0.5
"""Added to each token's count, so that no token is impossible (Jeffreys' prior; Krichevsky & Trofimov 1981)."""

STRENGTHS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
"""Pseudo-counts to choose from: with how many counts of its own a context weighs as much as all contexts together."""


@dataclass(frozen=True)
class Pairs:
    """Tokens and what stands before each: ids, 1-d arrays of one length. `examples` says whose each token is,
    `weights` how much it counts.
    """

    before: np.ndarray
    tokens: np.ndarray
    examples: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, examples: Examples) -> Pairs:
        """Every token with a label, and the token that the model is given before it.

        A decoder's label at a place is the token of that place; where there are `decoder_input_ids`, they are what
        comes before.
        """
        columns = examples.columns
        given, shift = columns.get("decoder_input_ids"), 0
        if given is None:
            given, shift = columns["input_ids"], 1
        places = [np.flatnonzero(np.asarray(labels) != -100) for labels in columns["labels"]]
        return cls.at(given, columns["labels"], places, columns.get("loss_weight"), shift)

    @classmethod
    def at(
        cls,
        given: Sequence[Any],
        wanted: Sequence[Any],
        places: Sequence[np.ndarray],
        weights: Sequence[Any] | None = None,
        shift: int = 1,
    ) -> Pairs:
        """The tokens of `wanted` at `places`, and those of `given` so many places before; one array an example."""
        parts = []
        for i, where in enumerate(places):
            where = where[where >= shift]
            some = np.ones(len(where)) if weights is None else np.asarray(weights[i], dtype=np.float64)[where]
            before, tokens = np.asarray(given[i])[where - shift], np.asarray(wanted[i])[where]
            parts.append((before, tokens, np.full(len(where), i), some))
        return cls(*(np.concatenate(column) for column in zip(*parts)))


def priced(name: str, seen: Pairs, wanted: Pairs, owners: np.ndarray, rows: int, vocabulary: int) -> np.ndarray:
    """rows x 2: the loss of each row's wanted tokens, weighted and summed, and the sum of weights.

    `name`: trivial, by single tokens, or classical, by pairs. `owners` says which row an example is of.
    """
    size = max(vocabulary, *(int(ids.max(initial=0)) + 1 for p in (seen, wanted) for ids in (p.before, p.tokens)))
    counted = Counted(seen, size)
    losses = counted.unigram(wanted) if name == "trivial" else counted.bigram(wanted)
    out = np.zeros((rows, 2))
    np.add.at(out, owners[wanted.examples], np.stack([losses * wanted.weights, wanted.weights], 1))
    return out


class Counted:
    """Counts of single tokens and of pairs in training text over a vocabulary of `size` tokens."""

    def __init__(self, pairs: Pairs, size: int) -> None:
        self.size = size
        single = np.bincount(pairs.tokens, minlength=size).astype(np.float64)
        self.alone = (single + ADDED) / (len(pairs.tokens) + ADDED * size)
        self.contexts = np.bincount(pairs.before, minlength=size).astype(np.float64)
        keys, place, counts = np.unique(_keys(pairs, size), return_inverse=True, return_counts=True)
        self.keys, self.counts = keys, counts.astype(np.float64)
        self.strength = self._choose(pairs, place)

    def _choose(self, pairs: Pairs, place: np.ndarray) -> float:
        """The strength under which each training token is likeliest given the counts of all the others."""
        if not len(pairs.tokens):
            return STRENGTHS[0]
        mine, context = self.counts[place] - 1, self.contexts[pairs.before] - 1
        alone = self.alone[pairs.tokens]
        likely = [np.log((mine + s * alone) / (context + s)).sum() for s in STRENGTHS]
        return STRENGTHS[int(np.argmax(likely))]

    def unigram(self, pairs: Pairs) -> np.ndarray:
        """The loss of each token in nats, whatever stands before it."""
        return -np.log(self.alone[pairs.tokens])

    def bigram(self, pairs: Pairs) -> np.ndarray:
        """The loss of each token in nats after the one before it: that context's own counts, and those of single tokens
        as `strength` counts more (MacKay & Peto 1995, doi.org/10.1017/S1351324900000218).
        """
        wanted = _keys(pairs, self.size)
        place = np.searchsorted(self.keys, wanted)
        found = np.append(self.keys, -1)[place] == wanted
        seen = np.where(found, np.append(self.counts, 0.0)[place], 0.0)
        share = (seen + self.strength * self.alone[pairs.tokens]) / (self.contexts[pairs.before] + self.strength)
        return -np.log(share)


def _keys(pairs: Pairs, size: int) -> np.ndarray:
    """One number for each pair."""
    return pairs.before.astype(np.int64) * size + pairs.tokens
