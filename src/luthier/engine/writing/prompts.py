"""Prompts as a decoder reads them: what they all begin with once, the rest in batches padded on the left.

Few-shot prompts share their examples, chat prompts their system text. What is shared is read by itself, whatever the
batches are, and its keys and values stand in front of every prompt. So do a soft prompt's virtual tokens: behind
such a front the stock model goes on without peft. Positions count tokens alone, so padding moves nothing.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Machine
from ..language.model import _opened, reader

SHARED = 16  # tokens that prompts must begin with together for it to be worth a pass of its own
CACHED = 4  # a token that is kept costs this much less memory than one that is computed


@dataclass
class Front:
    """What stands before the rest of every prompt: `tokens` of each, `length` positions, one row of `cache`."""

    tokens: int = 0
    length: int = 0
    cache: Any = None

    def expanded(self, rows: int) -> Any:
        """A cache of so many rows, for one use; None where nothing stands in front."""
        if self.cache is None:
            return None
        return repeated(self.cache, rows)


def repeated(cache: Any, times: int) -> Any:
    """A copy of a cache with every row so many times."""
    out = copy.deepcopy(cache)
    out.batch_repeat_interleave(times)
    return out


def base_of(model: nn.Module) -> Any:
    """The stock model inside peft's wrapper, whose layers hold what the wrapper put there."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def is_soft(model: nn.Module) -> bool:
    """Whether peft puts virtual tokens in front."""
    config = getattr(model, "active_peft_config", None)
    return bool(config is not None and config.is_prompt_learning)


def read_front(model: nn.Module, prompts: Sequence[np.ndarray], device: str) -> Front:
    """Read what all prompts share, their last token left out, with a soft prompt's virtual tokens before it.

    Nothing where they share little, or where a layer keeps other things than all keys and values.
    """
    shared = _shared(prompts)
    soft = is_soft(model)
    if not soft and (shared < SHARED or len(prompts) < 2):
        return Front()
    ids = torch.as_tensor(np.asarray(prompts[0][: max(1, shared)], dtype=np.int64), device=device)[None]
    with without_logits(model):
        cache = getattr(model(input_ids=ids, use_cache=True), "past_key_values", None)
    if not soft and not _keeps_all(cache):
        return Front()
    assert cache is not None
    if not shared:
        cache.crop(-1)
    return Front(shared, int(cache.get_seq_length()), cache)


def _shared(prompts: Sequence[np.ndarray]) -> int:
    """How many tokens all prompts begin with, at least one of each left out."""
    least = min(len(prompt) for prompt in prompts) - 1
    first = np.asarray(prompts[0])[:least]
    for prompt in prompts[1:]:
        different = np.flatnonzero(np.asarray(prompt)[: len(first)] != first)
        first = first[: different[0]] if len(different) else first
    return max(0, len(first))


def _keeps_all(cache: Any) -> bool:
    from transformers.cache_utils import DynamicLayer

    layers = getattr(cache, "layers", None) or []
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def keeps_all(model: nn.Module, prompt: np.ndarray, device: str) -> bool:
    """Whether what the model keeps of a prompt is all its keys and values, so that rows of it may be repeated."""
    ids = torch.as_tensor(np.asarray(prompt[:1], dtype=np.int64), device=device)[None]
    with without_logits(model):
        return _keeps_all(getattr(model(input_ids=ids, use_cache=True), "past_key_values", None))


@contextlib.contextmanager
def without_logits(model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, the output head is not computed; the list holds the states it is given, a pass each."""
    head = reader(model).head
    if head is None:
        yield []
        return
    with _opened(head) as caught:
        yield caught


def batches(lengths: np.ndarray, front: int, new: int, copies: int, token_budget: int) -> Iterator[np.ndarray]:
    """Indices of prompts that go through the model together, longest first, like lengths side by side.

    What is computed, rows x longest, stays under the budget; what is kept, with the `front` before and the `new` tokens
    after, and `copies` of each row, under CACHED times as much.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        kept = copies * (front + longest + new)
        size = max(1, min(token_budget // max(1, longest), CACHED * token_budget // max(1, kept)))
        yield order[start : start + size]
        start += size


@dataclass
class Padded:
    """Prompts without what stands in front, padded on the left: rows x length, and mask and positions for them.

    `mask` covers the front, too.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor


def padded(prompts: Sequence[np.ndarray], front: Front, pad: int, device: str) -> Padded:
    rest = [np.asarray(prompt[front.tokens :], dtype=np.int64) for prompt in prompts]
    longest = max(len(one) for one in rest)
    ids = np.full((len(rest), longest), pad, dtype=np.int64)
    mask = np.ones((len(rest), front.length + longest), dtype=np.int64)
    for i, one in enumerate(rest):
        ids[i, longest - len(one) :] = one
        mask[i, front.length : front.length + longest - len(one)] = 0
    positions = np.maximum(mask.cumsum(1) - 1, 0)[:, front.length :]
    return Padded(*(torch.from_numpy(part).to(device) for part in (ids, mask, positions)))


def padded_right(texts: Sequence[np.ndarray], pad: int, device: str) -> tuple[Tensor, Tensor]:
    """Ids and mask, rows x longest: as encoders read source texts, and decoders given answers."""
    ids = np.full((len(texts), max(map(len, texts))), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, text in enumerate(texts):
        ids[i, : len(text)], mask[i, : len(text)] = text, 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def takes_positions(base: Any) -> bool:
    return "position_ids" in inspect.signature(base.forward).parameters


@contextlib.contextmanager
def speaking(model: nn.Module, machine: Machine) -> Iterator[None]:
    """Inference on this machine, the output head in fp32 inside autocast: logits in bf16 would tie."""
    model.eval()
    head = base_of(model).get_output_embeddings()
    with torch.inference_mode(), machine.autocast():
        if not machine.bf16 or not isinstance(head, nn.Linear):
            yield
            return
        own = vars(head).get("forward")
        weight = head.weight.float()  # once for all tokens: a head that is not trained may be held in bf16
        bias = None if head.bias is None else head.bias.float()
        head.forward = partial(_in_fp32, weight, bias)  # type: ignore[method-assign]
        try:
            yield
        finally:
            del head.forward
            if own is not None:
                head.forward = own  # type: ignore[method-assign]


def _in_fp32(weight: Tensor, bias: Tensor | None, states: Tensor) -> Tensor:
    with torch.autocast(states.device.type, enabled=False):
        return nn.functional.linear(states.float(), weight, bias)
