"""Words and the pieces that a tokenizer makes of them: exact for any script and any family of tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens in front of a text and behind it."""
    whole = tokenizer(["a"], return_attention_mask=False)
    inside = [i for i, part in enumerate(whole.sequence_ids(0)) if part == 0]
    ids = np.asarray(whole["input_ids"][0], dtype=np.int32)
    return ids[: inside[0]], ids[inside[-1] + 1 :]


def pieces(
    texts: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per text (its words): its pieces' ids, and the place of each one's word; -1 where a piece is of no word.

    Words are joined by single spaces. No special tokens, nothing cut. A word may have no piece at all; a text without
    any has one of no word, so that there is something to read.
    """
    empty = np.array([tokenizer.pad_token_id or 0], dtype=np.int32)
    for start in range(0, len(texts), 1000):
        part = texts[start : start + 1000]
        encoded = tokenizer(
            [" ".join(words) for words in part],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        for words, ids, offsets in zip(part, encoded["input_ids"], encoded["offset_mapping"]):
            made = np.asarray(ids, dtype=np.int32)
            yield (made, _words_of(words, offsets)) if len(made) else (empty, np.array([-1]))


def _words_of(text: Sequence[str], offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """The word each piece lies in. A piece may hold the space in front of its word, so its last character tells."""
    of_letter = np.full(sum(map(len, text)) + len(text) + 1, -1, dtype=np.int64)
    at = 0
    for i, word in enumerate(text):
        of_letter[at : at + len(word)] = i
        at += len(word) + 1
    begin, end = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    last = of_letter[np.maximum(end - 1, 0)]
    words = np.where(last >= 0, last, of_letter[begin])
    return np.where(end > begin, words, -1)


def windows(words: np.ndarray, room: int, stride: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(begin, end, first pieces of the words answered there) of every window over a row's pieces.

    A word is answered where its first piece is farthest from an edge at which the sentence was cut.
    """
    kept, places = np.unique(words, return_index=True)
    firsts = np.sort(places[kept >= 0])
    step = room - stride
    edges = [(begin, min(begin + room, len(words))) for begin in range(0, max(1, len(words) - stride), step)]
    around = np.full((len(edges), len(firsts)), -1.0)
    for i, (begin, end) in enumerate(edges):
        inside = (firsts >= begin) & (firsts < end)
        left = firsts - begin if begin else np.full(len(firsts), np.inf)
        right = end - 1 - firsts if end < len(words) else np.full(len(firsts), np.inf)
        around[i] = np.where(inside, np.minimum(left, right), -1.0)
    best = around.argmax(0)
    for i, (begin, end) in enumerate(edges):
        yield begin, end, firsts[best == i]
