"""Encoded examples, and the order and company in which they pass through a model.

Three rules make a batch here. Rows of like length go together, so that little is padding. An optimizer step
always takes `batch_size` examples, cut into micro-batches that stay under a budget of tokens, so that the
hardware decides the speed and never the mathematics. And the order follows from seed and epoch alone, so that
a run can be carried on in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, Tensor]
ROUND = 16
"""Batches are padded to a multiple of this: few shapes, whose memory and compiled kernels are used again."""

MEGABATCH = 32  # batches that are shuffled together and then sorted by length


@dataclass
class Examples:
    """Model inputs, one entry an example, unpadded.

    `columns[name][i]` is an array whose first axis is a sequence (padded with `padding[name]` to the longest of
    that column in a batch), or a scalar. `rows[i]` is the index of the row that example i was made from: one row
    may make several (windows). `lengths[i]` is what it costs, in tokens: its sequence, or all of several.
    """

    columns: dict[str, Sequence[Any]]
    padding: Mapping[str, float]
    rows: np.ndarray
    lengths: np.ndarray
    notes: Sequence[Any] = ()  # per example, what the task needs to turn logits into answers
    limit: int = 0  # longest a batch may be padded to; 0: only to its longest example

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, indices: np.ndarray) -> Examples:
        """These examples alone."""
        columns: dict[str, Sequence[Any]] = {
            name: [column[i] for i in indices] for name, column in self.columns.items()
        }
        notes = [self.notes[i] for i in indices] if len(self.notes) else ()
        return Examples(columns, self.padding, self.rows[indices], self.lengths[indices], notes, self.limit)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The examples as padded tensors. Unless nothing is padded `input_ids` come with their `attention_mask`
        (1: token, 0: padding), and a column `x_input_ids` with `x_attention_mask`.
        """
        out: Batch = {}
        for name, column in self.columns.items():
            values = [column[i] for i in indices]
            if name not in self.padding:
                out[name] = (
                    torch.stack(values) if isinstance(values[0], Tensor) else torch.as_tensor(np.asarray(values))
                )
                continue
            lengths = torch.as_tensor([len(value) for value in values])
            longest = int(lengths.max())
            longest = max(longest, min(self.limit, -(-longest // ROUND) * ROUND))
            first = torch.as_tensor(values[0])
            padded = torch.full((len(values), longest, *first.shape[1:]), self.padding[name], dtype=_wide(first.dtype))
            for i, value in enumerate(values):
                padded[i, : len(value)] = torch.as_tensor(value)
            out[name] = padded
            if name.endswith("input_ids") and int(lengths.min()) < longest:
                mask = name.removesuffix("input_ids") + "attention_mask"
                out[mask] = (torch.arange(longest) < lengths[:, None]).long()
        return out


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Token ids are kept in 32 bits and used in 64, which is what embedding layers take."""
    return torch.int64 if dtype in (torch.int32, torch.int16, torch.uint8) else dtype


def epoch_plan(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The optimizer steps of one epoch: arrays of example indices, every example exactly once.

    Examples are shuffled, sorted by length inside runs of MEGABATCH batches, cut, and the cuts shuffled. Only
    the last cut may be smaller than `batch_size`.
    """
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(len(lengths))
    span = batch_size * MEGABATCH
    cuts: list[np.ndarray] = []
    for start in range(0, len(order), span):
        run = order[start : start + span]
        run = run[np.argsort(-lengths[run], kind="stable")]
        cuts += [run[i : i + batch_size] for i in range(0, len(run), batch_size)]
    return [cuts[i] for i in draw.permutation(len(cuts))]


def micro_batches(indices: np.ndarray, lengths: np.ndarray, token_budget: int, share: int = 1) -> list[np.ndarray]:
    """`indices` cut so that rows x longest stays under `token_budget` (a row above it goes alone).

    `share` processes divide the result: it has a multiple of `share` entries, of which the last may be empty,
    so that every process runs the same number.
    """
    order = indices[np.argsort(-lengths[indices], kind="stable")]
    cuts: list[np.ndarray] = []
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = max(1, token_budget // longest)
        cuts.append(order[start : start + size])
        start += size
    while len(cuts) % share:
        largest = max(range(len(cuts)), key=lambda i: len(cuts[i]))
        if len(cuts[largest]) < 2:
            cuts.append(order[:0])
            continue
        whole = cuts.pop(largest)
        cuts += [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    return cuts


def by_length(lengths: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """All examples once, longest first, in batches under the budget: the order for inference.

    Longest first, so that a batch too large for the memory fails at once and not at the end.
    """
    yield from micro_batches(np.arange(len(lengths)), lengths, token_budget)
