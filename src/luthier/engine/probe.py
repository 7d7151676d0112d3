"""What a model gives for a few fixed tokens: the cheapest proof that something in it does, or does not, matter."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

LENGTH = 8


def probe_inputs(model: nn.Module) -> dict[str, Tensor]:
    """One row of token ids spread over the vocabulary, and what else the kind of model needs."""
    config: Any = model.config
    device = next(model.parameters()).device
    ids = torch.linspace(config.vocab_size // 4, config.vocab_size - 1, LENGTH, device=device).long()
    end = config.eos_token_id
    if isinstance(end, int):
        ids[-1] = end  # heads of some classes look for it
    inputs = {"input_ids": ids[None]}
    return {**inputs, "decoder_input_ids": ids[None]} if config.is_encoder_decoder else inputs


@torch.no_grad()
def probed(model: nn.Module, **inputs: Tensor | None) -> Tensor:
    """The model's logits (or starts and ends of spans, or last hidden states) in fp32 for the probe's tokens.

    What is in `inputs` takes the place of the probe's own; None leaves one out.
    """
    given = {name: value for name, value in {**probe_inputs(model), **inputs}.items() if value is not None}
    was = model.training
    out = model.eval()(**given)
    model.train(was)
    if hasattr(out, "start_logits"):
        return torch.stack([out.start_logits, out.end_logits], -1).float()
    return (out.logits if hasattr(out, "logits") else out.last_hidden_state).float()


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference between two answers to the probe, at the positions of the probe's own tokens."""
    if a.ndim == 3:
        a, b = a[:, -LENGTH:], b[:, -LENGTH:]
    return float((a - b).abs().max())


def effect(model: nn.Module, without: AbstractContextManager[Any]) -> float:
    """The largest change in what the model gives once `without` has taken something out of it."""
    given = probed(model)
    with without:
        return difference(given, probed(model))
