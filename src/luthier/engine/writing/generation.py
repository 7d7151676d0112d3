"""Answers written out, and given answers weighed: what a language model says, whatever the batches are.

`write` lets transformers write, greedily or with beams, perhaps bound to what is allowed (see constrain.py). `choose`
weighs given texts (see choice.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Machine
from ..inference import Progress
from ..ranks import ALONE, Ranks
from .answer_ends import answer_begin, find_stop_ids
from .choice import choose as choose
from .constrain import Allowed, Guide, Vocabulary
from .prompts import Front, base_of, batches, keeps_all, padded, padded_right, read_front, speaking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAGE = 32  # tokens after which answers that have ended are put aside
NOTHING = -1  # no token
HALF = "\ufffd"  # what bytes that are no whole character are decoded as: an answer may be cut inside one


@dataclass(frozen=True)
class Written:
    """One answer: its text, its ids without the one that ended it, and whether there was one.

    `log_probability` is that of all these ids and the end; where the answer was bound, among what was allowed.
    `without_repeats_of`: the size of runs that were kept from standing twice for it to end; 0: it was written freely.
    """

    text: str
    ids: tuple[int, ...]
    ended: bool
    log_probability: float
    without_repeats_of: int = 0


def write(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    *,
    max_new_tokens: int,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    allowed: Sequence[Allowed | None] | None = None,
    machine: Machine,
    token_budget: int,
    stop_ids: Sequence[int] | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> list[Written]:
    """One answer a prompt (its ids), in the prompts' order.

    A decoder goes on from the prompt; an encoder-decoder reads it and begins an answer. Greedy with one beam; with
    more a `length_penalty` above 0 favours long answers (a sum of log-probabilities is divided by length to its
    power). A `repetition_penalty` above 1 makes tokens less likely that stand in the prompt or were written already
    (Keskar et al. 2019, arxiv.org/abs/1909.05858), and with a `no_repeat_ngram_size` n above 0 no run of n tokens is
    written that stands there already (Paulus et al. 2018, arxiv.org/abs/1705.04304); both as transformers has them for
    a prompt alone, and neither meant for answers that are bound. The model's own habits (sampling, penalties, least
    lengths) are left out. `allowed`: see constrain.py, one a prompt. Writing ends at any of `stop_ids` (default:
    `find_stop_ids`). Of several `ranks` each writes whole batches, and all are given every answer.
    """
    if not prompts:
        return []
    stops = list(stop_ids) if stop_ids is not None else find_stop_ids(model, tokenizer)
    vocabulary = Vocabulary.of(tokenizer) if allowed is not None and any(a is not None for a in allowed) else None
    base, done, pad = base_of(model), 0, _pad(tokenizer, stops)
    found: list[tuple[np.ndarray, list[Written]]] = []
    two = bool(base.config.is_encoder_decoder)
    begin = answer_begin(base, tokenizer) if two else []
    settings = {
        "max_new_tokens": max_new_tokens,
        **({"num_beams": num_beams, "length_penalty": length_penalty} if num_beams > 1 else {}),
        "eos_token_id": stops or None,
        "pad_token_id": pad,
        "decoder_start_token_id": begin[0] if two else None,
    }
    with speaking(model, machine), _plain_settings(base, settings):
        front = Front() if two else read_front(model, prompts, machine.device)
        divided = max_new_tokens > STAGE and not two and keeps_all(model, prompts[0], machine.device)
        lengths = np.array([len(prompt) - front.tokens for prompt in prompts])
        for indices in ranks.share(list(batches(lengths, front.length, max_new_tokens, num_beams, token_budget))):
            guides = [
                Guide(vocabulary, bound, stops)
                if vocabulary is not None and allowed is not None and (bound := allowed[i]) is not None
                else None
                for i in indices
            ]
            some = [prompts[i] for i in indices]
            given = [np.array(begin)] * len(some) if two else some
            watch = _Watch(guides, num_beams, len(stops), given, repetition_penalty, no_repeat_ngram_size)
            if two:
                made = _answer_source(model, begin, some, watch, pad, machine.device)
            elif num_beams == 1 and divided:
                made = _go_on_in_stages(base, some, front, watch, pad, machine.device, max_new_tokens, stops)
            else:
                made = _go_on(base, some, front, watch, pad, machine.device)
            found.append((indices, list(_read_off(made, watch, tokenizer, set(stops)))))
            done = min(done + len(indices) * ranks.count, len(prompts))
            if progress is not None:
                progress(done, len(prompts))
    written = {int(i): one for indices, some in ranks.joined(found) for i, one in zip(indices, some)}
    return [written[i] for i in range(len(prompts))]


def _pad(tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> int:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0] if stops else 0


@contextlib.contextmanager
def _plain_settings(base: Any, settings: Mapping[str, Any]) -> Iterator[None]:
    """Inside, the model has these settings of generation, and none of those it came with."""
    from transformers import GenerationConfig

    own = base.generation_config
    base.generation_config = GenerationConfig(
        **settings, do_sample=False, use_cache=True, bos_token_id=own.bos_token_id
    )
    try:
        yield
    finally:
        base.generation_config = own


@dataclass(frozen=True)
class _Made:
    """What was written: rows x tokens, and with beams which of them each token came from (below 0: none)."""

    tokens: np.ndarray
    beams: np.ndarray | None = None


def _go_on(base: Any, prompts: Sequence[np.ndarray], front: Front, watch: _Watch, pad: int, device: str) -> _Made:
    """A decoder's answers to prompts."""
    batch = padded(prompts, front, pad, device)
    kept = {} if front.cache is None else {"past_key_values": front.expanded(len(prompts) * watch.beams)}
    return _new(_generate(base, watch, input_ids=batch.ids, attention_mask=batch.mask, **kept), batch.ids.shape[1])


def _go_on_in_stages(
    base: Any,
    prompts: Sequence[np.ndarray],
    front: Front,
    watch: _Watch,
    pad: int,
    device: str,
    most: int,
    stops: Sequence[int],
) -> _Made:
    """The same, greedily: every `STAGE` tokens the rows that have ended are put aside.

    A few answers are much longer than the others, and each token costs as much as there are rows. Only where a model
    keeps nothing but keys and values, which can be divided by rows.
    """
    batch = padded(prompts, front, pad, device)
    ids, mask = batch.ids, batch.mask
    cache = None if front.cache is None else front.expanded(len(prompts))
    written = torch.full((len(prompts), most), pad, dtype=torch.int64, device=device)
    ends = torch.tensor(list(stops), dtype=torch.int64, device=device)
    rows, done = torch.arange(len(prompts), device=device), 0
    while True:
        kept = {} if cache is None else {"past_key_values": cache}
        count = min(STAGE, most - done)
        out = _generate(base, watch, input_ids=ids, attention_mask=mask, max_new_tokens=count, **kept)
        new = out.sequences[:, ids.shape[1] :]
        written[rows, done : done + new.shape[1]] = new
        done += new.shape[1]
        going = (~torch.isin(new, ends).any(1)).nonzero()[:, 0]
        if done >= most or not len(going):
            return _Made(written[:, :done].cpu().numpy())
        cache = out.past_key_values
        if len(going) < len(rows):
            cache.batch_select_indices(going)
        rows = rows[going]
        ids = new[going, -1:]  # the one token that is not in the cache
        mask = torch.cat([mask, mask.new_ones(len(mask), new.shape[1])], 1)[going]
        watch.narrow(going, written[rows, :done])


def _answer_source(
    model: Any, begin: list[int], sources: Sequence[np.ndarray], watch: _Watch, pad: int, device: str
) -> _Made:
    """An encoder-decoder's answers to source texts."""
    ids, mask = padded_right(sources, pad, device)
    given = torch.tensor([begin] * len(sources), device=device)
    return _new(_generate(model, watch, input_ids=ids, attention_mask=mask, decoder_input_ids=given), len(begin))


def _generate(model: Any, watch: _Watch, **inputs: Any) -> Any:
    return model.generate(**inputs, logits_processor=[watch], return_dict_in_generate=True)


def _new(out: Any, given: int) -> _Made:
    """What was written behind the `given` tokens."""
    beams = getattr(out, "beam_indices", None)
    return _Made(out.sequences[:, given:].cpu().numpy(), None if beams is None else beams.cpu().numpy())


class _Watch:
    """Looks on at every token: lets through what is allowed, and keeps how likely the best ones are.

    transformers calls it as a logits processor with what stands so far (rows x length) and logits (rows x vocabulary),
    or with beams their logarithms of probability.
    """

    def __init__(
        self,
        guides: Sequence[Guide | None],
        beams: int,
        stops: int,
        given: Sequence[np.ndarray],
        penalty: float = 1.0,
        no_repeat: int = 0,
    ) -> None:
        self.guides, self.beams = list(guides), beams
        self.penalty, self.no_repeat = penalty, no_repeat
        longest = max(map(len, given), default=0)
        self.given = torch.full((len(given), longest), NOTHING, dtype=torch.int64)
        for row, ids in enumerate(given):
            self.given[row, longest - len(ids) :] = torch.from_numpy(np.asarray(ids, dtype=np.int64))
        self.seen: Tensor | None = None
        self.rows = np.arange(len(guides))  # those that still go on
        self.before: Tensor | None = None  # what they had written in earlier stages
        self.bound = any(guide is not None for guide in guides)
        self.kept = 1 if beams == 1 else beams * max(2, 1 + stops)  # as many as beam search looks at
        self.begin: int | None = None
        self.values: list[np.ndarray] = []
        self.tokens: list[np.ndarray] = []

    def __deepcopy__(self, memo: Any) -> _Watch:
        return self  # peft copies all that it hands on, and what a copy saw would be lost

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.begin is None:
            self.begin = input_ids.shape[1]
        written = input_ids[:, self.begin :]
        if self.before is not None:
            written = torch.cat([self.before, written], 1)
        if self.penalty != 1.0:
            scores = self._penalise(written, scores)
        if self.no_repeat:
            scores = self._forbid_repeats(torch.cat([self._own(written), written], 1), scores)
        if self.bound:
            scores = self._bind(written, scores)
        scores = scores.float().log_softmax(-1)
        best = scores.topk(min(self.kept, scores.shape[-1]), dim=-1)
        self.values.append(self._among_all(best.values))
        self.tokens.append(self._among_all(best.indices))
        return scores

    def narrow(self, going: Tensor, written: Tensor) -> None:
        """From here on only these of the rows go on, with what each has written."""
        self.rows, self.before, self.begin = self.rows[going.cpu().numpy()], written, None
        if self.seen is not None:
            self.seen = self.seen[going]

    def _among_all(self, values: Tensor) -> np.ndarray:
        """Values of the rows that go on, in their places among all."""
        own = values.cpu().numpy()
        if len(self.rows) == len(self.guides):
            return own
        out = np.zeros((len(self.guides), own.shape[1]), dtype=own.dtype)
        out[self.rows] = own
        return out

    def _own(self, written: Tensor) -> Tensor:
        """The prompts of the rows that go on, padded with `NOTHING` on the left, not with what stands for padding."""
        rows = np.repeat(self.rows, self.beams)
        return self.given.to(written.device)[torch.from_numpy(rows).to(written.device)]

    def _penalise(self, written: Tensor, scores: Tensor) -> Tensor:
        """Padding is not looked at: a row's own prompt is known."""
        if self.seen is None:
            own = self._own(written)
            self.seen = torch.zeros(len(scores), scores.shape[1] + 1, dtype=torch.bool, device=scores.device)
            self.seen = self.seen.scatter(1, own.where(own != NOTHING, scores.shape[1]), True)[:, :-1]
        seen = self.seen.scatter(1, written, True)
        return torch.where(seen, torch.where(scores < 0, scores * self.penalty, scores / self.penalty), scores)

    def _forbid_repeats(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Without the tokens that would end a run of `no_repeat` tokens which stands in `ids` already."""
        before = self.no_repeat - 1
        if ids.shape[1] <= before:
            return scores
        runs = ids.unfold(1, before, 1) if before else ids.new_zeros(len(ids), ids.shape[1] + 1, 0)
        next_ones = ids[:, before:]
        same = (runs[:, :-1] == runs[:, -1:]).all(-1) & (runs[:, :-1] != NOTHING).all(-1) & (next_ones != NOTHING)
        rows, places = same.nonzero(as_tuple=True)
        scores = scores.clone()
        scores[rows, next_ones[rows, places]] = -torch.inf
        return scores

    def _bind(self, written: Tensor, scores: Tensor) -> Tensor:
        out = torch.full_like(scores, -torch.inf)
        for row, ids in enumerate(written.tolist()):
            guide = self.guides[self.rows[row // self.beams]]
            if guide is None:
                out[row] = scores[row]
                continue
            allowed = torch.from_numpy(guide.tokens(tuple(ids))).to(scores.device)
            out[row, allowed] = scores[row, allowed]
        return out


def _read_off(made: _Made, watch: _Watch, tokenizer: PreTrainedTokenizerBase, stops: set[int]) -> Iterator[Written]:
    """The answers of one batch."""
    values = np.stack(watch.values) if watch.values else np.zeros((0, len(made.tokens), 1))
    tokens = np.stack(watch.tokens) if watch.tokens else values.astype(int)
    paths = np.arange(len(made.tokens))[:, None] + np.zeros_like(made.tokens) if made.beams is None else made.beams
    for row, ids in enumerate(made.tokens):
        end = next((i for i, token in enumerate(ids) if int(token) in stops), None)
        count = len(ids) if end is None else end + 1
        if made.beams is not None:
            count = min(count, int((paths[row] >= 0).sum()))
        total = 0.0
        for step in range(count):
            path = int(paths[row, step])
            place = np.flatnonzero(tokens[step, path] == ids[step])
            total += float(values[step, path, place[0]]) if len(place) else float("-inf")
        text_ids = tuple(int(token) for token in ids[: count if end is None else end])
        guide = watch.guides[row]
        if guide is not None:
            text = guide.text(text_ids)
        else:
            text = str(tokenizer.decode(list(text_ids), skip_special_tokens=True))
            text = text.rstrip(HALF) if end is None else text
        yield Written(text, text_ids, end is not None, total)
