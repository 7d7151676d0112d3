"""Rows as a model will see them: their tokens as text again, and which of them are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.errors import DataError
from luthier.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples

    from .base import Task

LEARNED = "learned"
NO_LABEL = -100


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of one mark: "" (only read), LEARNED, or what they are to be called (a tag, "answer")."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Part:
    """One text that goes into the model, or that is learned; `name` is "" where there is only one."""

    name: str
    tokens: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Shown:
    """One example: a row, or one of several that a row makes (`part` of `parts`, from 1).

    `learned` counts the tokens that are learned; `target` is what is learned of a row whose tokens bear no mark. `cut`
    says what was left out, and `refused` why there is no example.
    """

    row: Row
    inputs: tuple[Part, ...] = ()
    learned: int = 0
    target: str = ""
    cut: str = ""
    part: int = 1
    parts: int = 1
    refused: str = ""

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.inputs)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.row.id,
            "file": self.row.file,
            "line": self.row.line,
            "part": self.part,
            "parts": self.parts,
            "tokens": self.tokens,
            "learned": self.learned,
            "target": self.target,
            "cut": self.cut,
            "refused": self.refused,
            "inputs": [
                {
                    "name": part.name,
                    "tokens": part.tokens,
                    "pieces": [{"text": piece.text, "mark": piece.mark} for piece in part.pieces],
                }
                for part in self.inputs
            ],
        }


def preview(task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Shown]:
    """Every example of these rows, in their order."""
    out: list[Shown] = []
    for row in rows:
        try:
            cut = task.cuts([row], tokenizer)[0]
            examples = task.encode([row], tokenizer)
        except DataError as error:
            out.append(Shown(row, refused=error.found))
            continue
        for place in range(len(examples)):
            out.append(_shown(task, row, examples, place, tokenizer, cut))
    return out


def _shown(task: Task, row: Row, examples: Examples, place: int, tokenizer: PreTrainedTokenizerBase, cut: str) -> Shown:
    marks = task.marks(examples, place)
    parts = []
    for name in [name for name in examples.columns if name.endswith("input_ids") and "decoder" not in name]:
        ids = np.asarray(examples.columns[name][place])
        own = marks if name == "input_ids" else [""] * len(ids)
        prefix = name.removesuffix("input_ids")
        parts.append(Part(task.parts.get(prefix, prefix), len(ids), pieces(ids, own, tokenizer)))
    labels = np.asarray(examples.columns.get("labels", [[]] * len(examples))[place])
    learned = int((labels[1 if marks[:1] == [""] else 0 :] != NO_LABEL).sum()) if labels.ndim else 0
    if "decoder_input_ids" in examples.columns:
        learned = int((labels != NO_LABEL).sum())
        kept = labels[labels != NO_LABEL]
        parts.append(Part("answer", len(kept), pieces(kept, [LEARNED] * len(kept), tokenizer)))
    marked = any(piece.mark for part in parts for piece in part.pieces)
    seen = {field.name for field in task.form.inputs} | {part.name for part in parts}
    hidden = marked or task.form.target in seen or task.form.target not in row.fields
    target = "" if hidden else _text(row[task.form.target])
    return Shown(row, tuple(parts), learned, target, cut, place + 1, len(examples))


def pieces(ids: np.ndarray, marks: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[Piece, ...]:
    """The tokens as text, cut where the mark changes.

    Each piece is what it adds to the text before it: alone, a token may lose its space or part of a letter.
    """
    out, end, before = [], 0, ""
    for mark, some in groupby(marks):
        end += len(list(some))
        text = tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        same = next((i for i, (a, b) in enumerate(zip(before, text)) if a != b), min(len(before), len(text)))
        out.append(Piece(text[same:], mark))
        before = text
    return tuple(out)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        if len(value) > 3 and len(set(map(str, value))) == 1:
            return f"{value[0]} ({len(value)} times)"
        return ", ".join(_text(one) for one in value) or "none"
    if isinstance(value, dict):
        return str(value.get("text", value))
    return str(value)
