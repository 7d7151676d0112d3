"""Rendered dialogs as tokens, with the characters each token stands for.

A text that a person wrote may hold what marks turns ("<|im_end|>"). In such a place it is written as ordinary text, so
that markers are the template's alone: nobody can end a turn, or begin one, by writing so, and an answer ends once.
transformers does the same where `sanitize_control_tokens` asks for it (since 5.23).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # code points that stand for no character, in any text
Span = tuple[int, int]


class Inexact(Exception):
    """A dialog that cannot be turned into tokens exactly; its text says why."""


@dataclass(frozen=True)
class Marked:
    """A text, and the parts of it [begin, end) where a person wrote what is a control token elsewhere."""

    text: str
    literal: tuple[Span, ...] = ()

    def upto(self, end: int) -> Marked:
        return Marked(self.text[:end], tuple(span for span in self.literal if span[1] <= end))

    def begins_with(self, other: Marked) -> bool:
        return self.text.startswith(other.text) and self.upto(len(other.text)).literal == other.literal

    def joined(self, other: Marked) -> Marked:
        moved = tuple((begin + len(self.text), end + len(self.text)) for begin, end in other.literal)
        return Marked(self.text + other.text, self.literal + moved)

    def since(self, start: int) -> Marked:
        inside = tuple((begin - start, end - start) for begin, end in self.literal if begin >= start)
        return Marked(self.text[start:], inside)


@dataclass(frozen=True)
class Tokens:
    """`ids` (n) and `spans` (n x 2): the characters [begin, end) that each token stands for."""

    ids: np.ndarray
    spans: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def joined(self, other: Tokens) -> Tokens:
        return Tokens(np.concatenate([self.ids, other.ids]), np.concatenate([self.spans, other.spans]))

    def begins_with(self, other: Tokens) -> bool:
        return len(self) >= len(other) and bool((self.ids[: len(other)] == other.ids).all())


class Marks:
    """Two characters that no string of a dialog holds, put around every control token in it and taken out again."""

    def __init__(self, strings: Sequence[str]) -> None:
        free = [mark for mark in _MARKS if not any(mark in text for text in strings)]
        if len(free) < 2:
            raise Inexact("its text holds all code points that no text may hold (U+FDD0 to U+FDEF)")
        self.open, self.close = free[:2]

    def put(self, value: Any, controls: re.Pattern[str]) -> Any:
        """`value` (strings in lists and mappings) with every control token marked; keys are left alone."""
        if isinstance(value, str):
            return controls.sub(lambda found: self.open + found.group() + self.close, value)
        if isinstance(value, Mapping):
            return {key: self.put(inner, controls) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.put(inner, controls) for inner in value]
        return value

    def take(self, text: str) -> Marked:
        """The text without marks. Inexact where a template tore a pair apart or wrote one as an escape."""
        pieces: list[str] = []
        literal: list[Span] = []
        length = 0
        for place, piece in enumerate(re.split(f"([{self.open}{self.close}])", text)):
            if place % 2 == 0:
                pieces.append(piece)
                length += len(piece)
            elif (piece == self.open) == bool(literal and literal[-1][1] < 0):
                raise Inexact("the template tears apart a text that holds a control token")
            elif piece == self.open:
                literal.append((length, -1))
            else:
                literal[-1] = (literal[-1][0], length)
        plain = "".join(pieces)
        if (literal and literal[-1][1] < 0) or any(f"\\u{ord(mark):x}" in plain for mark in _MARKS):
            raise Inexact("the template rewrites a text that holds a control token")
        return Marked(plain, tuple(literal))


def strings_in(value: Any) -> list[str]:
    """Every string in lists and mappings, keys left out."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for inner in value.values() for text in strings_in(inner)]
    if isinstance(value, (list, tuple)):
        return [text for inner in value for text in strings_in(inner)]
    return []


def any_of(texts: Sequence[str]) -> re.Pattern[str]:
    """A pattern for any of these texts, the longest first; for none of them one that matches nothing."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


class DialogTokenizer:
    """A tokenizer for rendered dialogs: no special token is added, and literal parts are ordinary text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, special: Sequence[str]) -> None:
        """`special`: the tokens that are never made from ordinary text."""
        self.tokenizer = tokenizer
        self._special = any_of(special)
        self._special_ids = [int(tokenizer.convert_tokens_to_ids(text)) for text in special]
        self._ready: dict[str, Tokens] = {}

    def prepare(self, texts: Iterable[Marked]) -> None:
        """Tokenise these together, which is faster than one by one, and keep them until the next call."""
        plain = list(dict.fromkeys(marked.text for marked in texts if not marked.literal))
        self._ready = dict(zip(plain, self._plain(plain)))

    def encode(self, marked: Marked) -> Tokens:
        """Inexact where the text holds a literal part that this tokenizer can only write as a control token."""
        if marked.literal:
            return self._with_literals(marked)
        return self._ready.get(marked.text) or self._plain([marked.text])[0]

    def _plain(self, texts: list[str], *, as_text: bool = False) -> list[Tokens]:
        if not texts:
            return []
        encoded = self.tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=as_text,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [
            Tokens(np.asarray(ids, dtype=np.int32), np.asarray(spans, dtype=np.int32).reshape(-1, 2))
            for ids, spans in zip(encoded["input_ids"], encoded["offset_mapping"])
        ]

    def _with_literals(self, marked: Marked) -> Tokens:
        """The parts between the template's own control tokens, each as ordinary text.

        That the parts, put together, are what the tokenizer makes of the whole is seen on the same text with
        harmless letters in the literal places.
        """
        harmless = marked.text
        for begin, end in marked.literal:
            harmless = harmless[:begin] + "x" * (end - begin) + harmless[end:]
        whole = self._plain([harmless])[0]
        for alone in (True, False):
            parts = self._in_parts(Marked(harmless), alone)
            if len(whole) != len(parts) or not whole.begins_with(parts):
                continue
            made = self._in_parts(marked, alone)
            special = made.spans[np.isin(made.ids, self._special_ids)]
            if not any(begin < stop and end > start for start, stop in special for begin, end in marked.literal):
                return made
        begin, end = marked.literal[0]
        raise Inexact(f'its text holds "{marked.text[begin:end]}", which this tokenizer cannot write as plain text')

    def _in_parts(self, marked: Marked, alone: bool) -> Tokens:
        """`alone`: each part as if nothing stood before it, as tokenizers do that begin each with a space."""
        out = Tokens(np.zeros(0, np.int32), np.zeros((0, 2), np.int32))
        begin = 0
        for found in self._special.finditer(marked.text):
            if any(start < found.end() and stop > found.start() for start, stop in marked.literal):
                continue
            number = np.array([self.tokenizer.convert_tokens_to_ids(found.group())], np.int32)
            out = out.joined(self._part(marked.text, begin, found.start(), alone))
            out = out.joined(Tokens(number, np.array([found.span()], np.int32)))
            begin = found.end()
        return out.joined(self._part(marked.text, begin, len(marked.text), alone))

    def _part(self, text: str, begin: int, end: int, alone: bool) -> Tokens:
        """text[begin:end] as ordinary text."""
        if begin == end:
            return Tokens(np.zeros(0, np.int32), np.zeros((0, 2), np.int32))
        found = None
        if begin and not alone:
            found = self.following(text[begin:end], lambda texts: self._plain(texts, as_text=True))
        if found is None:
            found = self._plain([text[begin:end]], as_text=True)[0]
        return Tokens(found.ids, found.spans + begin)

    def after(self, prompt: Tokens, whole: Marked, start: int) -> Tokens | None:
        """`prompt` (the tokens of whole.text[:start]) and then the rest, which is tokenised by itself.

        What a model that has read the prompt can write: no token reaches across. None where the tokenizer cannot.
        """
        if whole.since(start).literal:
            return None
        rest = self.following(whole.text[start:], self._plain)
        return None if rest is None else prompt.joined(Tokens(rest.ids, rest.spans + start))

    @staticmethod
    def torn(tokens: Tokens, place: int) -> bool:
        """Whether a token reaches across this place in the text."""
        spans = tokens.spans
        return bool(((spans[:, 0] < place) & (spans[:, 1] > place)).any())

    def boundary(self, tokens: Tokens, prompt: Marked) -> int | None:
        """The number of tokens that `prompt`, the beginning of their text, has in them; None if one reaches across.

        A space at the end of the prompt may belong to the next token, which its characters do not always show: only
        there the prompt is tokenised by itself.
        """
        end = len(prompt.text)
        if self.torn(tokens, end):
            return None
        count = int((tokens.spans[:, 0] < end).sum())
        if prompt.text[-1:].isspace() and not (count and int(tokens.spans[count - 1, 1]) == end):
            return count if tokens.begins_with(self.encode(prompt)) and len(self.encode(prompt)) == count else None
        return count

    @staticmethod
    def following(text: str, encode: Callable[[list[str]], list[Tokens]]) -> Tokens | None:
        """The tokens of `text` where other text stands before it: tokenizers treat a beginning differently."""
        for before in ("\n", "x", "."):
            first, both = encode([before, before + text])
            spans = both.spans[len(first) :]
            if both.begins_with(first) and len(spans) and int(spans[:, 0].min()) >= len(before):
                return Tokens(both.ids[len(first) :], spans - len(before))
        return None
