"""A model's general language, looked at before and after it is tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from luthier.evidence.learning.general import State, general_texts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.device import Machine

LONGEST = 64  # tokens of a text, where the model reads as many
AT_ONCE = 16  # texts


def general_state(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, machine: Machine, kind: str, offset: int = 0
) -> State | None:
    """What the model makes of everyday texts now; None where its outputs do not tell (features kept beforehand).

    `kind` is the model's: of a decoder the loss of each next token, of others the mean of the last hidden states.
    `offset`: positions that the method puts in front.
    """
    import torch

    texts, parts = general_texts(), []
    longest = _longest(model)
    was = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(texts), AT_ONCE):
                parts.append(_part(model, tokenizer, machine, texts[start : start + AT_ONCE], kind, offset, longest))
    except (TypeError, AttributeError, NotImplementedError):  # a model that reads other things than token ids
        return None
    finally:
        model.train(was)
    return State("loss" if kind == "decoder" else "vectors", np.concatenate(parts))


def _longest(model: nn.Module) -> int:
    """Tokens that are read: some models keep two of their positions for themselves."""
    config = getattr(model, "config", None)
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or LONGEST + 2
    return max(2, min(LONGEST, int(positions) - 2))


def _part(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    machine: Machine,
    texts: list[str],
    kind: str,
    offset: int,
    most: int,
) -> np.ndarray:
    import torch

    # Padded by hand, on the right: a tokenizer may have no token for it, and what is padded is masked anyway.
    rows = tokenizer(texts, truncation=True, max_length=most)["input_ids"]
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in rows], device=machine.device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=machine.device)
    if kind == "decoder":
        from luthier.engine.language.model import NO_LABEL, token_losses

        due = torch.where(mask > 0, ids, NO_LABEL)
        losses = token_losses(model, {"input_ids": ids, "attention_mask": mask, "labels": due})
        return losses.double().cpu().numpy()
    if kind == "encoder-decoder":
        model = model.get_encoder()  # type: ignore[operator]
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1][:, offset:].float()
    weight = mask.unsqueeze(-1)
    return ((states * weight).sum(1) / weight.sum(1)).double().cpu().numpy()
