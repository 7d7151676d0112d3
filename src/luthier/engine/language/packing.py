"""Documents put together into rows, so that no row is padding, and none sees another.

A step still takes the same documents and its loss is the same sum: packing is a shape, not another mathematics. Each
document's positions begin at 0, by which transformers keeps its attention to itself, and its first token is no label,
for it would be answered by the end of another document. Whether a model does keep them apart is measured
(`luthier.engine.language.model.packed_isolation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..batches import Batch, Examples, epoch_plan, micro_batches
from .model import NO_LABEL

PADDING_BORNE = 0.2
"""Rows of like length go together, so there is little to save; a mask that keeps documents apart costs speed."""


@dataclass
class Packed(Examples):
    """Examples of a decoder whose batches are packs: rows of up to `room` tokens, several examples in each.

    Beside the columns a batch has `position_ids` (from 0 in each document) and `documents` (the place of a token's
    document among the batch's indices).
    """

    room: int = 0

    def only(self, indices: np.ndarray) -> Packed:
        return pack(super().only(indices), self.room)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        packs = best_fit([len(self.columns["input_ids"][i]) for i in indices], self.room)
        made: dict[str, list[np.ndarray]] = {name: [] for name in self.columns}
        made |= {"position_ids": [], "documents": []}
        for places in packs:
            documents = [indices[place] for place in places]
            for name, column in self.columns.items():
                parts = [np.array(column[i]) for i in documents]
                if name == "labels":
                    for part in parts:
                        part[:1] = NO_LABEL
                made[name].append(np.concatenate(parts))
            lengths = [len(self.columns["input_ids"][i]) for i in documents]
            made["position_ids"].append(np.concatenate([np.arange(n) for n in lengths]))
            made["documents"].append(np.repeat(np.array(places), lengths))
        return _batch(made, {**self.padding, "position_ids": 0, "documents": 0}, self.limit)


def pack(examples: Examples, room: int) -> Packed:
    """`examples` (of a decoder) whose batches are packed into rows of at most `room` tokens; one longer goes alone."""
    e = examples
    return Packed(e.columns, e.padding, e.rows, e.lengths, e.notes, e.limit, max(room, 1))


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which documents share a row: longest first, each into the fullest row that still has room for it."""
    packs: list[list[int]] = []
    left: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [(room_left, p) for p, room_left in enumerate(left) if room_left >= lengths[i]]
        if fitting:
            place = min(fitting)[1]
            packs[place].append(i)
            left[place] -= lengths[i]
        else:
            packs.append([i])
            left.append(room - lengths[i])
    return packs


def pays(lengths: np.ndarray, batch_size: int, token_budget: int) -> bool:
    """Whether packing saves more than it costs: padding above PADDING_BORNE of what goes through the model."""
    cuts = [cut for step in epoch_plan(lengths, batch_size, 0, 0) for cut in micro_batches(step, lengths, token_budget)]
    whole = sum(len(cut) * int(lengths[cut].max()) for cut in cuts if len(cut))
    return 1 - float(lengths.sum()) / max(1, whole) > PADDING_BORNE


def _batch(columns: dict[str, list[np.ndarray]], padding: dict[str, float], limit: int) -> Batch:
    """Packs as tensors. No attention mask: it would keep transformers from looking at the positions."""
    count = len(columns["input_ids"])
    lengths = np.array([len(row) for row in columns["input_ids"]])
    made = Examples(dict(columns), padding, np.arange(count), lengths, (), limit).batch(range(count))
    made.pop("attention_mask", None)
    return {name: value if name == "loss_weight" else value.to(torch.int64) for name, value in made.items()}
