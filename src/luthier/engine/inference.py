"""From examples to logits, features or losses: the same pass for training's scores, evidence and serving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .batches import Batch, Examples, by_length
from .device import Machine
from .heads import FeatureModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "hidden")
"""What goes into a model; every other column of a batch is a label or a mask for the task."""

Progress = Callable[[int, int], None]


def model_inputs(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name in INPUTS}


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """The model's logits in fp32."""
    out = model(**model_inputs(batch))
    if hasattr(out, "start_logits"):  # question answering's stock classes give the two columns apart
        return torch.stack([out.start_logits, out.end_logits], -1).float()
    return out.logits.float()


def to_device(batch: Batch, device: str) -> Batch:
    return (
        batch
        if device == "cpu"
        else {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    )


def run(
    model: nn.Module,
    examples: Examples,
    machine: Machine,
    token_budget: int,
    progress: Progress | None = None,
) -> Iterator[tuple[np.ndarray, Batch, Tensor]]:
    """(indices, batch, logits) for every example once, rows of like length together. Nothing is kept here."""
    model.eval()
    done = 0
    for indices in by_length(examples.lengths, token_budget):
        batch = to_device(examples.batch(indices), machine.device)
        with torch.inference_mode(), machine.autocast():
            logits = logits_of(model, batch)
        done += len(indices)
        if progress is not None:
            progress(done, len(examples))
        yield indices, batch, logits


def keep_features(
    model: FeatureModel,
    examples: Examples,
    machine: Machine,
    token_budget: int,
    progress: Progress | None = None,
) -> Examples:
    """The examples with what the frozen backbone makes of them in place of their tokens.

    One vector an example (pooled) or one a token, in fp32 or, where the machine computes in it, bf16.
    """
    model.eval()
    kept: list[Any] = [None] * len(examples)
    dtype = torch.bfloat16 if machine.bf16 else torch.float32
    done = 0
    for indices in by_length(examples.lengths, token_budget):
        batch = to_device(examples.batch(indices), machine.device)
        with torch.inference_mode(), machine.autocast():
            states = model.features(**model_inputs(batch)).cpu()
        for place, i in enumerate(indices):
            one = states[place] if model.pooled else states[place, : examples.lengths[i]]
            # A copy: a view would keep the whole batch, with its padding, in memory.
            kept[i] = one.to(torch.float32 if model.pooled else dtype, copy=True)
        done += len(indices)
        if progress is not None:
            progress(done, len(examples))
    columns = {name: column for name, column in examples.columns.items() if name not in INPUTS}
    columns["hidden"] = kept
    padding = {name: value for name, value in examples.padding.items() if name not in INPUTS}
    if model.pooled:
        # One vector an example: nothing to pad, every example weighs the same.
        return Examples(columns, padding, examples.rows, np.ones_like(examples.lengths), examples.notes)
    return Examples(
        columns, {**padding, "hidden": 0.0}, examples.rows, examples.lengths, examples.notes, examples.limit
    )
