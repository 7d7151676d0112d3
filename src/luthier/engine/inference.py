"""From examples to logits, features or losses: the same pass for training's scores, evidence and serving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .batches import Batch, Examples, by_length
from .device import Machine
from .heads import FeatureModel, pool
from .ranks import ALONE, Ranks

INPUTS = (
    *("input_ids", "attention_mask", "token_type_ids", "position_ids", "hidden"),
    *("decoder_input_ids", "decoder_attention_mask"),
)
"""What goes into a model; every other column of a batch is a label or a mask for the task."""

Forward = Callable[[nn.Module, Batch], Tensor]

Progress = Callable[[int, int], None]


def model_inputs(batch: Batch, part: str = "") -> Batch:
    """What of a batch goes into a model: of one that holds several texts, columns that begin with `part`, cut off."""
    found = {name[len(part) :]: value for name, value in batch.items() if name.startswith(part)}
    return {name: value for name, value in found.items() if name in INPUTS}


def parts_of(examples: Examples) -> list[str]:
    """What the columns of each text begin with: "" where there is one, "a_" and "b_" where there are `a_input_ids`."""
    ids = [name for name in examples.columns if name.endswith("input_ids") and name not in INPUTS[1:]]
    return [name.removesuffix("input_ids") for name in ids]


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """The model's logits in fp32: rows x outputs, or rows x length x outputs where each token is judged."""
    out = model(**model_inputs(batch))
    if hasattr(out, "start_logits"):  # question answering's stock classes give the two columns apart
        return without_prompt(torch.stack([out.start_logits, out.end_logits], -1), batch).float()
    return without_prompt(out.logits, batch).float()


def without_prompt(states: Tensor, batch: Batch) -> Tensor:
    """rows x length x width without the positions that a soft prompt put in front of the batch's own tokens."""
    tokens = batch.get("decoder_input_ids", batch.get("input_ids"))
    if states.ndim < 3 or tokens is None:
        return states
    return states[:, states.shape[1] - tokens.shape[1] :]


def vectors_of(model: nn.Module, inputs: Batch, pooling: str) -> Tensor:
    """One vector a text in fp32, rows x width: the last hidden states as `pooling` says (see `pool`)."""
    out = model(**inputs)
    if hasattr(out, "logits"):  # a head of our own, on features that are pooled
        return out.logits.float()
    states = without_prompt(out.last_hidden_state, inputs)
    return pool(states.float(), inputs.get("attention_mask"), pooling)


def to_device(batch: Batch, device: str) -> Batch:
    return batch if device == "cpu" else {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def run(
    model: nn.Module,
    examples: Examples,
    machine: Machine,
    token_budget: int,
    progress: Progress | None = None,
    forward: Forward = logits_of,
    ranks: Ranks = ALONE,
) -> Iterator[tuple[np.ndarray, Batch, Tensor]]:
    """(indices, batch, what `forward` gives: a task's, or the logits) for every example once, rows of like length
    together. Nothing is kept here. Of several ranks each gets whole batches, which are those of one process.
    """
    model.eval()
    done = 0
    for indices in ranks.share(list(by_length(examples.lengths, token_budget))):
        batch = to_device(examples.batch(indices), machine.device)
        with torch.inference_mode(), machine.autocast():
            logits = forward(model, batch)
        done = min(done + len(indices) * ranks.count, len(examples))
        if progress is not None:
            progress(done, len(examples))
        yield indices, batch, logits


def keep_features(
    model: FeatureModel,
    examples: Examples,
    machine: Machine,
    token_budget: int,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Examples:
    """The examples with what the frozen backbone makes of them in place of their tokens.

    One vector a text (pooled) or one a token, in fp32 or, where the machine computes in it, bf16.
    """
    model.eval()
    parts = parts_of(examples)
    kept: dict[str, list[Any]] = {part: [None] * len(examples) for part in parts}
    dtype = torch.bfloat16 if machine.bf16 else torch.float32
    done, found = 0, []
    for indices in ranks.share(list(by_length(examples.lengths, token_budget))):
        batch = to_device(examples.batch(indices), machine.device)
        of_parts: dict[str, list[Tensor]] = {}
        for part in parts:
            with torch.inference_mode(), machine.autocast():
                states = model.features(**model_inputs(batch, part)).cpu()
            rows = states if model.pooled else [one[: examples.lengths[i]] for one, i in zip(states, indices)]
            # Copies: views would keep the whole batch, with its padding, in memory.
            of_parts[part] = [one.to(torch.float32 if model.pooled else dtype, copy=True) for one in rows]
        found.append((indices, of_parts))
        done = min(done + len(indices) * ranks.count, len(examples))
        if progress is not None:
            progress(done, len(examples))
    for indices, of_parts in ranks.joined(found):
        for part, some in of_parts.items():
            for i, one in zip(indices, some):
                kept[part][i] = one
    inputs = {part + name for part in parts for name in INPUTS}
    columns = {name: column for name, column in examples.columns.items() if name not in inputs}
    columns |= {f"{part}hidden": states for part, states in kept.items()}
    padding = {name: value for name, value in examples.padding.items() if name not in inputs}
    if model.pooled:
        # One vector a text: nothing to pad, every example weighs the same.
        return Examples(columns, padding, examples.rows, np.ones_like(examples.lengths), examples.notes)
    return Examples(
        columns, {**padding, "hidden": 0.0}, examples.rows, examples.lengths, examples.notes, examples.limit
    )
