"""How likely each of some given texts is as the answer: their probabilities, the prompt read once for all of them.

The probability of a text is that of its tokens and of the end after them, and these are made to sum to one over the
texts. They are not divided by lengths: a text and its end have the very probability that the model gives to writing
just that, which is what training on answers makes true. A mean over tokens would favour long words, of which all but
the first piece are certain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Machine
from ..inference import Progress
from ..language.model import NO_LABEL, reader, token_losses
from ..language.token_loss import output_losses
from ..ranks import ALONE, Ranks
from .answer_ends import answer_begin, find_stop_ids
from .prompts import (
    base_of,
    batches,
    is_soft,
    keeps_all,
    padded,
    padded_right,
    read_front,
    repeated,
    speaking,
    takes_positions,
    without_logits,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COPIES = 8  # texts that are weighed together, where there are so many


def choose(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    texts: Sequence[str],
    *,
    endings: Sequence[Sequence[int]] | None = None,
    machine: Machine,
    token_budget: int,
    stop_ids: Sequence[int] | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> np.ndarray:
    """prompts x texts: the probability of each text as the answer to each prompt, a row summing to one.

    `endings`: the ids of each text as they follow a prompt, with what ends them; without, a decoder's text is tokenised
    by itself and ended with the first of `stop_ids`, an encoder-decoder's as its target. Of several `ranks` each weighs
    whole batches, and all are given every probability.
    """
    base: Any = base_of(model)
    two = bool(base.config.is_encoder_decoder)
    if endings is None:
        stops = [] if two else list(stop_ids if stop_ids is not None else find_stop_ids(model, tokenizer))[:1]
        kind = {"text_target": list(texts)} if two else {"text": list(texts), "add_special_tokens": False}
        endings = [[*ids, *stops] for ids in tokenizer(**kind)["input_ids"]]
    pad = tokenizer.pad_token_id or 0
    logs = np.full((len(prompts), len(texts)), -np.inf)
    done = 0
    if not len(prompts) or not len(texts):
        return logs
    with speaking(model, machine):
        if two and not is_soft(model):
            begin = answer_begin(base, tokenizer)[:1]
            weighed = _after_sources(model, prompts, endings, begin, pad, machine.device, token_budget, ranks)
        elif two or not keeps_all(model, prompts[0], machine.device):
            begin = answer_begin(base, tokenizer)[:1] if two else []
            weighed = _whole(model, prompts, endings, begin, pad, machine.device, token_budget, ranks)
        else:
            weighed = _after_prompts(model, prompts, endings, pad, machine.device, token_budget, ranks)
        found = []
        for indices, some in weighed:
            found.append((indices, some))
            done = min(done + len(indices) * ranks.count, len(prompts))
            if progress is not None:
                progress(done, len(prompts))
    for indices, some in ranks.joined(found):
        logs[indices] = some
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


Weighed = Iterator[tuple[np.ndarray, np.ndarray]]
"""(indices of prompts, their rows of logarithms of probability), batch by batch."""


def _after_prompts(
    model: nn.Module,
    prompts: Sequence[np.ndarray],
    endings: Sequence[Sequence[int]],
    pad: int,
    device: str,
    token_budget: int,
    ranks: Ranks,
) -> Weighed:
    """A decoder: each prompt once, then the texts behind copies of what the model keeps of it."""
    base: Any = base_of(model)
    front = read_front(model, prompts, device)
    lengths = np.array([len(prompt) - front.tokens for prompt in prompts])
    longest = max(map(len, endings))
    first = torch.tensor([ending[0] for ending in endings], device=device)
    for indices in ranks.share(list(batches(lengths, front.length, longest, min(len(endings), COPIES), token_budget))):
        batch = padded([prompts[i] for i in indices], front, pad, device)
        cache = front.expanded(len(indices))
        states, out = _pass(model, base, batch.ids, batch.mask, batch.positions, cache)
        logs = _log_probabilities(model, states[:, -1:], first.expand(len(indices), 1, -1))[:, 0]
        rows = len(indices)
        kept = rows * (front.length + int(lengths[indices].max()) + longest)
        step = max(1, min(len(endings), 4 * token_budget // kept)) if longest > 1 else len(endings)
        for start in range(0, len(endings), step):
            some = [np.asarray(ending, dtype=np.int64) for ending in endings[start : start + step]]
            if max(map(len, some)) == 1:
                continue
            count = len(some)
            ids, inside = (part.repeat(rows, 1) for part in padded_right([e[:-1] for e in some], pad, device))
            targets = padded_right([e[1:] for e in some], pad, device)[0].repeat(rows, 1)
            mask = torch.cat([batch.mask.repeat_interleave(count, 0), inside], 1)
            places = batch.positions[:, -1:].repeat_interleave(count, 0) + inside.cumsum(1)
            states, _ = _pass(model, base, ids, mask, places, repeated(out.past_key_values, count))
            tail = _log_probabilities(model, states, targets[..., None])[..., 0] * inside
            logs[:, start : start + count] += tail.sum(1).view(rows, count)
        yield indices, logs.double().cpu().numpy()


def _pass(model: nn.Module, base: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """What the output head is given (without a head to open: logits), rows x length x width, and the output."""
    settings = {"position_ids": positions} if takes_positions(base) else {}
    with without_logits(model) as caught:
        out = base(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **settings)
    return (caught[-1] if caught else out.logits), out


def _log_probabilities(model: nn.Module, states: Tensor, words: Tensor) -> Tensor:
    """rows x length x n: of `words` (rows x length x n) behind each position, in fp32."""
    output = None if reader(model).head is None else reader(model).output
    with torch.autocast(states.device.type, enabled=False):
        if words.shape[-1] == 1 and output is not None:
            flat = output_losses(states.reshape(-1, states.shape[-1]).float(), words.reshape(-1), output)
            return -flat.view(words.shape)
        logits = states.float() if output is None else output.logits(states.float())
        return logits.log_softmax(-1).gather(-1, words)


def _after_sources(
    model: nn.Module,
    sources: Sequence[np.ndarray],
    endings: Sequence[Sequence[int]],
    begin: list[int],
    pad: int,
    device: str,
    token_budget: int,
    ranks: Ranks,
) -> Weighed:
    """An encoder-decoder: each source read once, then every text as its answer."""
    base: Any = base_of(model)
    lengths, longest = np.array([len(source) for source in sources]), max(map(len, endings))
    for indices in ranks.share(list(batches(lengths, 0, longest, min(len(endings), COPIES), token_budget))):
        ids, mask = padded_right([sources[i] for i in indices], pad, device)
        read = base.get_encoder()(input_ids=ids, attention_mask=mask)
        rows = len(indices)
        step = max(1, min(len(endings), 4 * token_budget // (rows * (ids.shape[1] + longest))))
        logs = np.zeros((rows, len(endings)))
        for start in range(0, len(endings), step):
            some = [np.asarray(ending, dtype=np.int64) for ending in endings[start : start + step]]
            count = len(some)
            targets, inside = (part.repeat(rows, 1) for part in padded_right(some, pad, device))
            given = padded_right([np.array([*begin, *e[:-1]], dtype=np.int64) for e in some], pad, device)[0]
            copies = type(read)(last_hidden_state=read.last_hidden_state.repeat_interleave(count, 0))
            with without_logits(model) as caught:
                out = base(
                    encoder_outputs=copies,
                    attention_mask=mask.repeat_interleave(count, 0),
                    decoder_input_ids=given.repeat(rows, 1),
                    use_cache=False,
                )
            states = caught[-1] if caught else out.logits
            found = _log_probabilities(model, states, targets[..., None])[..., 0] * inside
            logs[:, start : start + count] = found.sum(1).view(rows, count).double().cpu().numpy()
        yield indices, logs


def _whole(
    model: nn.Module,
    prompts: Sequence[np.ndarray],
    endings: Sequence[Sequence[int]],
    begin: list[int],
    pad: int,
    device: str,
    token_budget: int,
    ranks: Ranks,
) -> Weighed:
    """Any model: every text behind every prompt, read from the beginning; `begin` for an encoder-decoder alone."""
    two = bool(base_of(model).config.is_encoder_decoder)
    lengths, longest = np.array([len(prompt) for prompt in prompts]), max(map(len, endings))
    for indices in ranks.share(list(batches(lengths, 0, longest, 1, token_budget))):
        logs = np.zeros((len(indices), len(endings)))
        for place, ending in enumerate(endings):
            answer = np.asarray(ending, dtype=np.int64)
            some = [np.asarray(prompts[i], dtype=np.int64) for i in indices]
            if two:
                ids, mask = padded_right(some, pad, device)
                given = torch.tensor([[*begin, *answer[:-1].tolist()]] * len(some), device=device)
                labels = torch.tensor(answer, device=device).expand(len(some), -1)
                batch = {
                    "input_ids": ids,
                    "attention_mask": mask,
                    "labels": labels,
                    "decoder_input_ids": given,
                }
            else:
                ids, mask = padded_right([np.concatenate([one, answer]) for one in some], pad, device)
                marks = [np.r_[np.full(len(one), NO_LABEL), answer] for one in some]
                labels = padded_right(marks, NO_LABEL, device)[0]
                batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
            logs[:, place] = -token_losses(model, batch)[:, 0].double().cpu().numpy()
        yield indices, logs
