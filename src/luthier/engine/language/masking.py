"""Masked language modelling: which tokens are hidden, how, and where a stock class keeps its head.

As in BERT (Devlin et al. 2019, arxiv.org/abs/1810.04805): a share of the tokens of a text is to be found again, of
which 80 % are replaced by the mask token, 10 % by a random one, and 10 % stay. A text of n tokens always has the same
number to find, as in BERT's own code, so that its weight in the loss is known before it is drawn. In training they are
drawn anew each time (Liu et al. 2019, arxiv.org/abs/1907.11692), by torch's randomness; in evaluation they follow from
the text alone, so that losses can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batches import Batch
from .model import NO_LABEL

MASKED, RANDOM = 0.8, 0.9  # below the first a token is masked, below the second a random one, else as it is
_DRAWS = 3  # uniform numbers a token: whether it is chosen, what is done with it, which token replaces it


def aim(candidates: int, probability: float) -> int:
    """How many of so many tokens are to be found again: at least one, where there is one."""
    return min(candidates, max(1, round(probability * candidates)))


def seed_of(ids: np.ndarray) -> int:
    """A number that follows from the tokens of a text alone."""
    return int.from_bytes(hashlib.sha256(ids.astype("<i4").tobytes()).digest()[:7], "little")


def hide(batch: Batch, mask_id: int, vocabulary: int, whole_word: bool, fixed: bool) -> Batch:
    """The batch with some of its tokens hidden: `input_ids` changed, `labels` and `loss_weight` added.

    It has, rows x length: `input_ids`; `words`, the number of each token's word, -1 where it may not be hidden; and for
    each row: `aims`, how many tokens to hide; `seeds`, for `fixed` choices. With `whole_word` a word is hidden with all
    its tokens or not at all, as long as they fit (the first drawn always does); weights make up for the difference.
    """
    ids, words = batch["input_ids"], batch["words"]
    rows, length = ids.shape
    draws = _fixed(batch["seeds"].tolist(), length) if fixed else torch.rand(rows, _DRAWS, length)
    choice, way, which = draws.to(ids.device).unbind(1)
    chosen = _choose(choice, words, batch["aims"], whole_word)
    hidden = torch.where(way < MASKED, mask_id, (which * vocabulary).long())
    found = chosen.sum(1, keepdim=True).clamp(min=1)
    return {
        **{name: value for name, value in batch.items() if name not in ("words", "aims", "seeds")},
        "input_ids": torch.where(chosen & (way < RANDOM), hidden, ids),
        "labels": torch.where(chosen, ids, NO_LABEL),
        "loss_weight": chosen * (batch["aims"][:, None] / found),
    }


def _fixed(seeds: Sequence[int], length: int) -> Tensor:
    """Draws that follow from a row's seed and a token's place, whatever the row is padded to."""
    out = torch.empty(len(seeds), length, _DRAWS)
    generator = torch.Generator()
    for row, seed in zip(out, seeds):
        torch.rand(length, _DRAWS, generator=generator.manual_seed(seed), out=row)
    return out.transpose(1, 2)


def _choose(draws: Tensor, words: Tensor, aims: Tensor, whole_word: bool) -> Tensor:
    """rows x length, true for the tokens to hide: those, or the words, that drew the smallest numbers."""
    open_ = words >= 0
    if whole_word:
        draws = draws.gather(1, words.clamp(min=0))  # a word draws once
    rank = draws.masked_fill(~open_, 2.0).argsort(dim=1, stable=True).argsort(1)
    if whole_word:  # a token stands where the last token of its word stands
        last = torch.zeros_like(rank).scatter_reduce(1, words.clamp(min=0), rank.masked_fill(~open_, 0), "amax")
        own = last.gather(1, words.clamp(min=0))
        first = own.masked_fill(~open_, words.shape[1]).amin(1, keepdim=True)
        return open_ & ((own < aims[:, None]) | (own == first))
    return open_ & (rank < aims[:, None])


def masked_head(folder: Path) -> list[str]:
    """The modules in which the stock class for masked tokens has its head: all but the backbone."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    safe: dict[str, Any] = {"trust_remote_code": False}
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, **safe)
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(config, **safe)
    named = [name for name, child in model.named_children() if any(True for _ in child.parameters())]
    return [name for name in named if name != model.base_model_prefix]


def holds_head(folder: Path, head: Sequence[str]) -> bool:
    """Whether any tensor of these modules (`masked_head`) is among the folder's weights."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if any(f".{part}." in f".{name}." for name in file.keys() for part in head):  # noqa: SIM118, no mapping
                return True
    return False
