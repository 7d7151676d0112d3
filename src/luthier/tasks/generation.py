"""Answers of an assistant, written by a decoder: chat and instruction tuning.

A row is a dialog whose last turn, the assistant's, is learned; what earlier turns of the assistant say is learned with
it unless `train_on` says otherwise. The dialog is written as the tokenizer's chat template has it (see
engine/chat/dialogs.py), in training as in use. A row without turns is plain text, and all of it is learned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from luthier.errors import DataError
from luthier.records import Fault, Field, Form, Row

from .language import LanguageOptions, LanguageTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples
    from luthier.engine.chat.dialogs import Chat, Encoded, Refusal
    from luthier.engine.chat.spoken import Dialog
    from luthier.models import Source

    Made = list[Encoded] | Refusal


class GenerationOptions(LanguageOptions):
    """Settings of generation."""

    name: Literal["generation"] = "generation"
    chat_template: str = Setting(
        "auto",
        min_length=1,
        description="how a dialog is written: auto (the tokenizer's own, else chatml), chatml, llama-2, llama-3, "
        "gemma, zephyr, alpaca, plain, or a file with a Jinja template",
    )
    train_on: Literal["completion", "last-turn", "all"] = Setting(
        "completion",
        description="completion: all that the assistant says; last-turn: its last answer; all: every token",
    )


class Generation(LanguageTask):
    name = "generation"
    title = "Chat and instructions"
    pipeline_tag = "text-generation"
    Options = GenerationOptions
    kinds = frozenset({"decoder"})
    primary = "loss"
    auto_class = "AutoModelForCausalLM"
    form = Form(
        fields=(
            Field(
                "messages",
                "messages",
                "the dialog so far, the last question included",
                aliases=(
                    "conversations",
                    "conversation",
                    "dialogue",
                    "dialog",
                    "chat",
                    "turns",
                    "prompt",
                    "instruction",
                ),
            ),
            Field(
                "answer",
                "text",
                "what the assistant says to it",
                aliases=("output", "completion", "response", "reply", "chosen"),
            ),
        ),
        target="answer",
    )

    def __init__(self, options: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, state)
        self._chat: Chat | None = None
        # By `id(row)`: made when rows are checked, used when they are encoded.
        self._made: dict[int, tuple[Row, Made]] = {}

    def copy(self) -> Generation:
        own = type(self)(self.options, self.state)
        own._chat = self._chat
        return own

    def prepare(self, tokenizer: PreTrainedTokenizerBase, source: Source) -> PreTrainedTokenizerBase:
        """The tokenizer with its chat template, which it saves with the model."""
        from luthier.engine.chat.dialogs import Chat

        self._chat = Chat(tokenizer, self.options.chat_template)
        self.state["stop_ids"] = self._chat.stop_ids
        return tokenizer

    def chat(self, tokenizer: PreTrainedTokenizerBase) -> Chat:
        """The tokenizer's chat template at work; it is tried out once."""
        from luthier.engine.chat.dialogs import Chat

        if self._chat is None or self._chat.tokenizer is not tokenizer:
            self._chat = Chat(tokenizer)
        return self._chat

    @property
    def _room(self) -> int:
        """Tokens of `max_length` that a prompt leaves to its answer."""
        return min(self.options.max_new_tokens, self.options.max_length // 2)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        """Columns `input_ids`, `labels`, and `loss_weight` where a turn has a weight of its own; `notes`: the prompt.

        A row makes several examples where its turns cannot be learned in one text, or it is long plain text. DataError
        names a row that the template refuses.
        """
        from luthier.engine.batches import Examples
        from luthier.engine.chat.dialogs import NO_LABEL, Refusal

        made = self._encoded(rows, tokenizer, keep=False)
        for row, one in zip(rows, made):
            if isinstance(one, Refusal):
                raise DataError(
                    one.reason,
                    where=_place(row),
                    fix="`luthier preview RECIPE` shows rows as the model sees them",
                )
        each = [(i, one) for i, some in enumerate(made) if not isinstance(some, Refusal) for one in some]
        columns: dict[str, list[Any]] = {
            "input_ids": [one.ids for _, one in each],
            "labels": [one.labels for _, one in each],
        }
        if any(not np.isin(one.weights, (0, 1)).all() for _, one in each):
            columns["loss_weight"] = [one.weights for _, one in each]
        padding = {"input_ids": tokenizer.pad_token_id or 0, "labels": NO_LABEL, "loss_weight": 0.0}
        return Examples(
            {**columns},
            padding,
            np.array([i for i, _ in each], dtype=int),
            np.array([len(one.ids) for _, one in each], dtype=int),
            [one.prompt for _, one in each],
            self.options.max_length,
        )

    def _encoded(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, *, keep: bool) -> list[Made]:
        """What the chat makes of each row. With `keep` it is remembered for the next time, which forgets it."""
        known = {
            id(row): self._made[id(row)][1] for row in rows if id(row) in self._made and self._made[id(row)][0] is row
        }
        new = [row for row in rows if id(row) not in known]
        made = {id(row): one for row, one in zip(new, self._make(new, tokenizer))} | known
        for row in rows:
            if keep:
                self._made[id(row)] = (row, made[id(row)])
            else:
                self._made.pop(id(row), None)
        return [made[id(row)] for row in rows]

    def _make(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Made]:
        from luthier.engine.chat.dialogs import NO_LABEL, Encoded, Refusal

        chat, limit = self.chat(tokenizer), self.options.max_length
        out: list[Made] = [Refusal("there is nothing in it") for _ in rows]
        learned = [i for i, row in enumerate(rows) if row["messages"] and "answer" in row.fields]
        asked = [i for i, row in enumerate(rows) if row["messages"] and "answer" not in row.fields]
        dialogs = [_dialog(rows[i]) for i in learned]
        for i, one in zip(learned, chat.encode(dialogs, limit, self.options.train_on, self._room)):
            out[i] = one
        for i, prompt in zip(asked, chat.prompts([_dialog(rows[i]) for i in asked], limit - self._room)):
            if isinstance(prompt, Refusal):
                out[i] = prompt
                continue
            nothing = np.full(len(prompt), NO_LABEL, np.int32)
            out[i] = [Encoded(prompt, nothing, np.zeros(len(prompt), np.float32), prompt, len(prompt))]
        for i, row in enumerate(rows):
            if not row["messages"] and row.get("answer"):
                out[i] = chat.text(str(row["answer"]), limit)
        return out

    def faults(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Fault]:
        """Rows that the template refuses, and rows of which nothing would be learned."""
        from luthier.engine.chat.dialogs import Refusal

        found = []
        for row, made in zip(rows, self._encoded(rows, tokenizer, keep=True)):
            if isinstance(made, Refusal):
                code, message = "chat-template", made.reason
                first = "raise task.max_length" if "task.max_length" in message else "correct the row"
                fix = f"{first}, leave the row out, or use another template (task.chat_template)"
            elif not any(one.trained for one in made):
                code, message = (
                    "nothing-to-learn",
                    "no token of it would be learned: every answer in it has weight 0",
                )
                fix = "leave the row out, or give an answer a weight"
            else:
                continue
            found.append(Fault("error", code, message, row.file, row.line, "messages", self.tell(row)[:80], fix))
        return found

    def cuts(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[str]:
        from luthier.engine.chat.dialogs import Refusal

        made = self._encoded(rows, tokenizer, keep=True)
        return ["" if isinstance(one, Refusal) else one[-1].cut for one in made]

    def lengths(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Tokens of each row's dialog, nothing cut; 0 where the template refuses it."""
        from luthier.engine.chat.dialogs import Refusal

        made = self._encoded(rows, tokenizer, keep=True)
        return [0 if isinstance(one, Refusal) else one[-1].whole for one in made]

    def _to_write(self, rows: Sequence[Row]) -> list[int]:
        """Indices of the rows whose answer is written out: plain text has nothing to answer."""
        return [i for i in super()._to_write(rows) if rows[i]["messages"]]

    def finish(self, folder: Path, source: Source) -> None:
        """generation_config.json: what ends an answer, and how long it may be; greedy."""
        from transformers import GenerationConfig

        stops = self.state.get("stop_ids") or []
        settings = {"eos_token_id": stops, "pad_token_id": stops[-1]} if stops else {}
        GenerationConfig(
            do_sample=False,
            **self.writing(),
            **settings,
        ).save_pretrained(folder)

    def ask(self, row: Row) -> str:
        """The dialog as text: one question alone as it is, more turns with who speaks."""
        turns = row["messages"]
        if len(turns) == 1 and turns[0]["role"] == "user":
            return str(turns[0].get("content") or "")
        return "\n".join(f"{turn['role']}: {turn.get('content') or ''}" for turn in turns)

    def card_code(self) -> str:
        before, ids = self.card_writing("**inputs", 'inputs["input_ids"].shape[1]')
        return (
            f"{before}\n\n"
            "def answer(messages):\n"
            "    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True,\n"
            '                                           return_dict=True, return_tensors="pt")\n'
            "    with torch.no_grad():\n"
            f"        ids = {ids}\n"
            '    return tokenizer.decode(ids, skip_special_tokens=True).rstrip("\\ufffd")\n'
        )


def _dialog(row: Row) -> Dialog:
    """The row's turns, its answer the last of them if it has one."""
    from luthier.engine.chat.spoken import Dialog

    turns = list(row["messages"])
    if "answer" in row.fields:
        more = row.get("answer_turn")
        more = more if isinstance(more, Mapping) else {}  # a column of the user's may have that name
        content = str(row["answer"])
        if more.get("tool_calls") and _is_calls(content, more["tool_calls"]):
            content = ""
        turns.append({**more, "role": "assistant", "content": content})
    return Dialog(turns, row.get("tools"))


def _is_calls(text: str, calls: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an answer's text is nothing but its calls of tools, written as JSON."""
    plain = [call.get("function") for call in calls]
    try:
        return json.loads(text) in (plain, *plain[:1])
    except ValueError:
        return False


def _place(row: Row) -> str:
    return f"{row.file}:{row.line}" if row.line else f"row {row.id}"
