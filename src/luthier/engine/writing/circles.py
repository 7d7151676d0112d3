"""Answers that go round in circles until they are cut off, as small models' do, written again and kept from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from .generation import Written, write

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CIRCLE = 16  # so many tokens twice in one answer are a circle
STRICTER = (16, 8, 6, 4, 3)  # sizes of runs that may not stand twice, tried in turn


def write_without_circles(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[np.ndarray], **settings: Any
) -> list[Written]:
    """As `write` with these settings; an answer that goes round in circles is written again until it ends.

    Each time a shorter run of tokens may not stand twice (`no_repeat_ngram_size`). What ends by itself, or is cut off
    without a circle, stays as it is, and so does what never ends.
    """
    out = write(model, tokenizer, prompts, **settings)
    left = [i for i, one in enumerate(out) if not one.ended and circles(one.ids)]
    for size in STRICTER:
        if not left:
            break
        again = write(model, tokenizer, [prompts[i] for i in left], **{**settings, "no_repeat_ngram_size": size})
        for i, one in zip(left, again):
            if one.ended:
                out[i] = replace(one, without_repeats_of=size)
        left = [i for i, one in zip(left, again) if not one.ended]
    return out


def circles(ids: Sequence[int]) -> bool:
    """Whether `CIRCLE` tokens in a row stand twice."""
    runs = [tuple(ids[i : i + CIRCLE]) for i in range(len(ids) - CIRCLE + 1)]
    return len(set(runs)) < len(runs)


# The same in a model card's lines: `generate(size)` gives the ids of an answer, the one that ends it included.
CARD = f"""

def circles(ids):
    runs = [tuple(ids[i : i + {CIRCLE}]) for i in range(len(ids) - {CIRCLE - 1})]
    return len(set(runs)) < len(runs)


def write(generate):
    ends = set(model.generation_config.eos_token_id or [])
    first = generate(0)
    if ends & set(first) or not circles(first):
        return first
    for size in {STRICTER}:  # it goes round in circles: again, so many tokens never twice
        ids = generate(size)
        if ends & set(ids):
            return ids
    return first
"""
