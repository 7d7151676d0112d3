"""Rows put as requests to a language model: in words, as dialogs or source texts, in so many tokens.

What is too long loses words of its input, never of the request or of the answer. Examples go before that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from luthier.errors import DataError, ModelError
from luthier.records import Row

from ..base import Task
from .text import (
    Example,
    Request,
    answered,
    dialog_of,
    places,
    plain,
    shorter_text,
    source_text,
    target_ids,
    words_kept,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples
    from luthier.engine.chat.dialogs import Chat
    from luthier.models import Source

NO_LABEL = -100
UNBOUND = 1_000_000  # tokens: no limit
FEWEST, MOST = 16, 512  # tokens of a freely written answer
TRIES = 8  # to cut an input to fit
AT_ONCE = 1_000  # texts given to the tokenizer together
LISTED = 1_000  # allowed texts whose ids are kept


class Shows(Protocol):
    """What is asked of a method that shows examples."""

    prompt: str

    @property
    def most(self) -> int: ...
    def check_prompt(self, fields: Sequence[str]) -> None: ...
    def request(self, fields: Mapping[str, Any]) -> str | None: ...
    def pick(self, answers: Sequence[str]) -> list[int]: ...
    def keep(self, examples: Sequence[Example]) -> None: ...
    def shown(self, requests: Sequence[Request]) -> list[list[Example]]: ...
    def card_code(self, auto_class: str, head: Any) -> str: ...


@dataclass(frozen=True)
class Note:
    """What a row's answer is written from: the prompt's ids, and what may be written."""

    prompt: np.ndarray
    allowed: Any


class Requests:
    """How rows of `inner` are put before a model; with `method` its examples stand before them.

    `shifted`: a decoder, asked in a dialog; otherwise an encoder-decoder, given a source text. What must be known
    again when the model is loaded is in the task's state under "asked".
    """

    def __init__(self, inner: Task, shifted: bool, method: Shows | None) -> None:
        self.inner, self.shifted, self.method = inner, shifted, method
        self.form, self.options = inner.form, inner.options
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self._chat: Chat | None = None
        self.given: list[int] = []  # examples that stood before each of the rows encoded last
        if method is not None:
            if "prompt" in self.known:
                method.prompt = self.known["prompt"]
            method.check_prompt([field.name for field in self.form.inputs])

    @property
    def known(self) -> dict[str, Any]:
        return self.inner.state.get("asked", {})

    def know(self, **facts: Any) -> None:
        self.inner.state["asked"] = {**self.known, **facts}

    def share(self, other: Requests) -> None:
        """Take what `other` found about the tokenizer."""
        self.tokenizer, self._chat = other.tokenizer, other._chat

    def chat(self, tokenizer: PreTrainedTokenizerBase) -> Chat:
        from luthier.engine.chat.dialogs import Chat

        if self._chat is None or self._chat.tokenizer is not tokenizer:
            self._chat = Chat(tokenizer)
        return self._chat

    def prepare(self, tokenizer: PreTrainedTokenizerBase, source: Source) -> None:
        """A chat template where the tokenizer has none; from the model its limit and where its answers begin."""
        from luthier.models.kinds import read_config

        self.tokenizer = tokenizer
        start = read_config(source.folder).get("decoder_start_token_id")
        self.know(
            context=source.max_length,
            start_id=start if isinstance(start, int) else None,
            stop_ids=self.chat(tokenizer).stop_ids if self.shifted else [tokenizer.eos_token_id],
            frame=self._frame(tokenizer),
        )

    def learn(self, rows: Sequence[Row]) -> None:
        """The longest answer, the ids of allowed texts, and the examples that will be shown."""
        answers = [self.inner.tell(row) for row in rows]
        self.know(longest_answer=max(map(len, answers), default=0))
        self._know_endings()
        if self.method is not None:
            self.know(prompt=self.method.prompt)
            some = [rows[i] for i in self.method.pick(answers)]
            some = some if self.tokenizer is None else self.fitted(some, self.tokenizer)
            self.method.keep([(self.request(row), self.inner.tell(row)) for row in some])

    def inherit(self, state: Mapping[str, Any]) -> None:
        """What the inner task took over from an earlier run may be answered, too."""
        longest = (known.get("longest_answer", 0) for known in (self.known, state.get("asked", {})))
        self.know(longest_answer=max(longest))
        self._know_endings()

    def _know_endings(self) -> None:
        allowed = self.inner.allowed(places(self.form))
        if isinstance(allowed, list) and len(allowed) <= LISTED and self.tokenizer is not None:
            self.know(endings={text: self._ending(text, self.tokenizer) for text in allowed})

    # from rows to examples

    def request(self, row: Row) -> Request:
        """What the model is asked: the user's own words, the turns of a dialog, or the task's words."""
        if self.method is not None:
            own = self.method.request({field.name: plain(row[field.name]) for field in self.form.inputs})
            if own is not None:
                return own
        turns = row.get("messages")
        return [dict(turn) for turn in turns] if isinstance(turns, list) and turns else self.inner.ask(row)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> tuple[Examples, list[Row]]:
        """Examples with their prompts in `notes`, and the rows as they were cut to fit.

        The answers of rows that have them are the labels. One that is in a part of the text that had to be cut teaches
        nothing, and weighs nothing; DataError if that is true of all.
        """
        cut = self.fitted(rows, tokenizer)
        requests = [self.request(row) for row in cut]
        answers = [self.inner.tell(row) if self.form.target in row.fields else None for row in cut]
        shown = [list[Example]() for _ in cut]
        if self.method is not None:
            shown = self._affordable(requests, self.method.shown(requests), tokenizer)
        self.given = [len(some) for some in shown]
        make = self._as_dialogs if self.shifted else self._as_sources
        examples = make(cut, requests, answers, shown, tokenizer)
        labels: Any = examples.columns["labels"]
        for i, (row, short) in enumerate(zip(rows, cut)):
            if self.hidden(row, short):
                labels[i] = np.full_like(labels[i], NO_LABEL)
        if any(answer is not None for answer in answers) and all((one == NO_LABEL).all() for one in labels):
            raise DataError(
                f"not one of {len(rows)} answers is left to learn: each lies in a part of its text that is cut",
                where="task.max_length",
                fix=f"raise task.max_length above {self.options.max_length}",
            )
        return examples, cut

    def _as_dialogs(
        self,
        rows: Sequence[Row],
        requests: Sequence[Request],
        answers: Sequence[str | None],
        shown: Sequence[Sequence[Example]],
        tokenizer: PreTrainedTokenizerBase,
    ) -> Examples:
        from luthier.engine.batches import Examples
        from luthier.engine.chat.dialogs import Refusal

        chat, most = self.chat(tokenizer), self.context
        if any(isinstance(request, list) for request in requests):  # their turns are cut here
            shots = 1 + (self.method.most if self.method is not None else 0)
            most = min(most, shots * self.options.max_length)
        in_turns = any(field.kind == "messages" for field in self.form.inputs)  # else `tools` is a column like any
        tools = [row.get("tools") if in_turns else None for row in rows]
        dialogs = [dialog_of(*parts) for parts in zip(requests, shown, tools)]
        told = [i for i, answer in enumerate(answers) if answer is not None]
        full = [answered(dialogs[i], str(answers[i])) for i in told]
        made: dict[int, Any] = dict(zip(told, chat.encode(full, most, "last-turn")))
        others = [i for i in range(len(rows)) if i not in made or isinstance(made[i], Refusal)]
        prompts = dict(zip(others, chat.prompts([dialogs[i] for i in others], most)))
        ids, labels, notes = [], [], []
        for i, row in enumerate(rows):
            if i not in prompts:
                one = made[i][-1]
                ids.append(one.ids)
                labels.append(one.labels)
                notes.append(one.prompt)
                continue
            prompt = prompts[i]
            if isinstance(prompt, Refusal):
                raise ModelError(
                    f"row {row.id} cannot be put as a dialog: {prompt.reason}",
                    where=f"{row.file}:{row.line}" if row.file else "chat template",
                    fix="another task.max_length, or a model with another chat template",
                )
            ids.append(prompt)
            labels.append(np.full(len(prompt), NO_LABEL, dtype=np.int32))
            notes.append(prompt)
        columns: dict[str, Sequence[Any]] = {"input_ids": ids, "labels": labels}
        padding: dict[str, float] = {"input_ids": tokenizer.pad_token_id or 0, "labels": NO_LABEL}
        lengths = np.array([len(one) for one in ids], dtype=int)
        return Examples(columns, padding, np.arange(len(rows)), lengths, notes, int(lengths.max(initial=0)))

    def _as_sources(
        self,
        rows: Sequence[Row],
        requests: Sequence[Request],
        answers: Sequence[str | None],
        shown: Sequence[Sequence[Example]],
        tokenizer: PreTrainedTokenizerBase,
    ) -> Examples:
        from luthier.engine.batches import Examples

        limits = {"truncation": True, "max_length": self.context} if self.context < UNBOUND else {}
        sources: list[np.ndarray] = []
        texts = [source_text(request, examples) for request, examples in zip(requests, shown)]
        for start in range(0, len(texts), AT_ONCE):
            some = tokenizer(texts[start : start + AT_ONCE], return_attention_mask=False, verbose=False, **limits)
            sources += [np.asarray(ids, dtype=np.int32) for ids in some["input_ids"]]
        told = [[] if answer is None else target_ids(tokenizer, answer)[: self.context] for answer in answers]
        labels = [np.asarray(ids or [NO_LABEL], dtype=np.int32) for ids in told]
        given = [np.asarray(self._begun(ids, tokenizer), dtype=np.int32) for ids in told]
        columns: dict[str, Sequence[Any]] = {
            "input_ids": sources,
            "labels": labels,
            "decoder_input_ids": given,
        }
        pad = tokenizer.pad_token_id or 0
        padding: dict[str, float] = {"input_ids": pad, "labels": NO_LABEL, "decoder_input_ids": pad}
        lengths = np.array([max(len(s), len(t)) for s, t in zip(sources, labels)], dtype=int)
        return Examples(columns, padding, np.arange(len(rows)), lengths, list(sources), int(lengths.max(initial=0)))

    def _begun(self, ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """What stands before each of an answer's ids; see `engine.answer_ends.answer_begin`."""
        start = self.known.get("start_id")
        if start is None:
            start = ids[-1] if ids else tokenizer.bos_token_id or tokenizer.pad_token_id or 0
        return [start, *ids[:-1]]

    def ending(self, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The ids of an answer as it follows a prompt, and of its end."""
        found = self.known.get("endings", {}).get(text)
        return list(found) if found is not None else self._ending(text, tokenizer)

    def _ending(self, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        from luthier.engine.chat.dialogs import Dialog

        if not self.shifted:
            return target_ids(tokenizer, text)
        chat = self.chat(tokenizer)
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": text}]
        made = chat.encode([Dialog(turns)], UNBOUND, "last-turn")[0]
        if isinstance(made, list) and made[-1].trained:
            return [int(token) for token in made[-1].ids[len(made[-1].prompt) :]]
        return [*tokenizer(text, add_special_tokens=False)["input_ids"], *chat.stop_ids[:1]]

    # what is too long

    @property
    def context(self) -> int:
        """Tokens that the model can read; of an answer, too."""
        return self.known.get("context") or UNBOUND

    @property
    def max_new_tokens(self) -> int:
        """Tokens of a written answer: what the task's settings say, or about twice the longest of training."""
        for name in ("max_new_tokens", "max_answer_length"):
            if hasattr(self.options, name):
                return int(getattr(self.options, name))
        return min(MOST, max(FEWEST, int(self.known.get("longest_answer", 0)) // 2 + 8))

    @property
    def room(self) -> int:
        """Tokens that one request may have."""
        return max(8, min(self.options.max_length, self.context - self.max_new_tokens - 8))

    def sizes(self, requests: Sequence[Request], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Tokens of each request by itself, as the model is asked it."""
        frame = self.known["frame"] if "frame" in self.known else self._frame(tokenizer)
        out: list[int] = []
        for start in range(0, len(requests), AT_ONCE):
            encoded = tokenizer(
                [plain(request) for request in requests[start : start + AT_ONCE]],
                add_special_tokens=False,
                return_attention_mask=False,
                verbose=False,
            )
            out += [len(ids) + frame for ids in encoded["input_ids"]]
        return out

    def _frame(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Tokens that stand around every request."""
        from luthier.engine.chat.dialogs import Dialog, Refusal

        bare = len(tokenizer("x", add_special_tokens=False)["input_ids"])
        if not self.shifted:
            return len(tokenizer("x")["input_ids"]) - bare
        prompt = self.chat(tokenizer).prompts([Dialog([{"role": "user", "content": "x"}])], UNBOUND)[0]
        return 0 if isinstance(prompt, Refusal) else len(prompt) - bare

    def fitted(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Row]:
        """The rows, those whose request is too long with the end of their longest input cut off.

        A dialog is cut by its turns when it is encoded.
        """
        out, room = list(rows), self.room
        left = [i for i, row in enumerate(rows) if isinstance(self.request(row), str)]
        for _ in range(TRIES):
            over = [
                (i, size - room)
                for i, size in zip(left, self.sizes([self.request(out[i]) for i in left], tokenizer))
                if size > room
            ]
            for i, count in over:
                out[i] = self._shorter(out[i], count, tokenizer)
            left = [i for i, _ in over]
            if not left:
                return out
        row, size = rows[left[0]], self.sizes([self.request(out[left[0]])], tokenizer)[0]
        raise ModelError(
            f"its request without its text has {size} tokens already, and {room} fit (task.max_length: "
            f"{self.options.max_length}; the model reads {self.context:,} tokens)",
            where=f"{row.file}:{row.line}" if row.file else f"row {row.id}",
            fix=f"task.max_length: {size + self.options.max_length}, or a model that reads more",
        )

    def _shorter(self, row: Row, count: int, tokenizer: PreTrainedTokenizerBase) -> Row:
        """The row without the last `count` tokens of its longest input; of words with tags, these go with them."""
        values = {field.name: row[field.name] for field in self.form.inputs if field.name in row.fields}
        name = max(values, key=lambda name: len(plain(values[name])))
        value = values[name]
        if not isinstance(value, list):
            return replace(row, fields={**row.fields, name: shorter_text(str(value), count, tokenizer)})
        kept = words_kept(value, count, tokenizer)
        fields = {**row.fields, name: value[:kept]}
        target = row.get(self.form.target)
        if isinstance(target, list) and len(target) == len(value):
            fields[self.form.target] = target[:kept]
        return replace(row, fields=fields)

    def hidden(self, row: Row, cut: Row) -> bool:
        """Whether the row's answer lies in the part of its text that was cut, or all of that was."""
        within = self.form[self.form.target].within
        spans = row.get(self.form.target)
        if within is None or row is cut or not spans:
            return False
        if not isinstance(spans[0], Mapping):
            return not cut[within]  # tags go with their words
        return bool(spans[0]["start"] + len(spans[0]["text"]) > len(str(cut[within])))

    def _affordable(
        self,
        requests: Sequence[Request],
        shown: Sequence[list[Example]],
        tokenizer: PreTrainedTokenizerBase,
    ) -> list[list[Example]]:
        """As many of each row's examples, the last ones, as the model can read with it."""
        limit = self.context - self.max_new_tokens
        if not any(shown) or self.context >= UNBOUND:
            return list(shown)
        every = {(plain(q), a): q for some in shown for q, a in some}
        asked = self.sizes(list(every.values()), tokenizer)
        told = self.sizes([a for _, a in every], tokenizer)
        cost = {key: x + y for key, x, y in zip(every, asked, told)}
        out = []
        for size, some in zip(self.sizes(requests, tokenizer), shown):
            kept = len(some)
            while kept and size + sum(cost[plain(q), a] for q, a in some[len(some) - kept :]) > limit:
                kept -= 1
            out.append(some[len(some) - kept :])
        return out
