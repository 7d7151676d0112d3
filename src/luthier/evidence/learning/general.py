"""What tuning has done to a model's general language: short plain texts that luthier ships, before and after.

A model that writes is asked how likely it finds them (loss a token). An encoder whose file has no language head cannot
be asked that, and a head at random would answer nonsense: there, texts that lay near each other should still do so. The
share of each text's ten nearest that are its nearest afterwards is what representation studies call neighbourhood
agreement (Hamilton, Leskovec & Jurafsky 2016, aclanthology.org/D16-1229).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np

from ...records import Finding
from ..scores.intervals import Array, percentile

NEAREST = 10
WORSE = 0.2  # of perplexity: a rise beyond which it is a warning
STRANGE = 0.3  # agreement under which the old neighbourhoods are gone
_DRAWS = 2_000


def general_texts() -> list[str]:
    """Short texts about everyday things."""
    return resources.files(__package__).joinpath("general.txt").read_text("utf-8").splitlines()


@dataclass(frozen=True, slots=True)
class State:
    """What a model makes of the texts: summed loss and tokens of each (`loss`), or a vector of each (`vectors`)."""

    kind: Literal["loss", "vectors"]
    values: Array  # loss: [texts x 2]; vectors: [texts x size]


@dataclass(frozen=True, slots=True)
class Change:
    """`before` and `after` are perplexities, with the ratio's interval; or 1 and the agreement, with its interval."""

    kind: Literal["loss", "vectors"]
    texts: int
    before: float
    after: float
    interval: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        what = "perplexity" if self.kind == "loss" else "neighbour_agreement"
        return {
            "measured": what,
            "texts": self.texts,
            "before": self.before,
            "after": self.after,
            "interval": list(self.interval),
        }

    def finding(self) -> Finding:
        low, high = self.interval
        if self.kind == "loss":
            lost = low > 1 and self.after > (1 + WORSE) * self.before
            said = (
                f"On {self.texts} everyday sentences its perplexity (less is better) is {self.after:.1f}; before this "
                f"tuning it was {self.before:.1f} ({self.after / self.before:.2f} times as high, {low:.2f} to "
                f"{high:.2f})."
            )
        else:
            lost = high < STRANGE
            said = (
                "Where the model is used for more than this task: of the "
                f"{NEAREST} everyday sentences that it found most alike to a given one before this tuning, "
                f"{100 * self.after:.0f} % ({100 * low:.0f} to {100 * high:.0f} %) are among its {NEAREST} most alike "
                f"now, on average; by chance it would be {100 * NEAREST / max(1, self.texts - 1):.0f} %."
            )
        if not lost:
            return Finding(
                "general-language",
                "note",
                f"Everyday language is not lost. {said}" if self.kind == "loss" else said,
                self.as_json(),
            )
        remedy = (
            "If it is also to be used for anything else, lower train.learning_rate, train for fewer epochs, or set "
            "method: lora."
        )
        return Finding(
            "forgot-general", "warning", f"It has lost general language. {said}", self.as_json(), remedy=remedy
        )


def change(before: State, after: State, seed: int = 0) -> Change:
    """What lies between two states of one model; intervals by drawing the texts again."""
    texts = len(before.values)
    random = np.random.default_rng(seed)
    picks = random.integers(0, texts, size=(_DRAWS, texts))
    if before.kind == "loss":
        old, new = (state.values for state in (before, after))
        mean = lambda table: table[..., 0].sum(-1) / table[..., 1].sum(-1)
        ratios = np.exp(mean(new[picks]) - mean(old[picks]))
        return Change("loss", texts, _perplexity(old), _perplexity(new), percentile(ratios, texts))
    kept = _kept(before.values, after.values)
    return Change("vectors", texts, 1.0, float(kept.mean()), percentile(kept[picks].mean(axis=1), texts))


def _perplexity(table: Array) -> float:
    return math.exp(min(50.0, float(table[:, 0].sum() / table[:, 1].sum())))


def _kept(before: Array, after: Array) -> Array:
    """The share of each text's nearest that stay its nearest, [texts]."""
    old, new = _nearest(before), _nearest(after)
    return np.array([len(old[i] & new[i]) / NEAREST for i in range(len(old))])


def _nearest(vectors: Array) -> Sequence[frozenset[int]]:
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(size > 0, size, 1.0)
    like = unit @ unit.T
    np.fill_diagonal(like, -np.inf)
    return [frozenset(map(int, row)) for row in np.argsort(-like, axis=1, kind="stable")[:, :NEAREST]]
