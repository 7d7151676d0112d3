"""What each token of a tokenizer adds to a text, in bytes: the ground on which answers are bound (see constrain.py)."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_LOW_SPACE = "▁"  # what stands for a space in SentencePiece's vocabularies


class Vocabulary:
    """What each token of a tokenizer adds to a text, in bytes.

    Four families: byte-level BPE; SentencePiece's (a sign for the space, perhaps tokens for single bytes); words with
    marked parts (WordPiece's `##`, BPE's `</w>`, whole words), whose spaces are made when a text is decoded; and any
    other, whose tokens are decoded one by one. Special tokens add nothing and are never allowed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._normalizer: Any = getattr(self._backend, "normalizer", None)
        apart, near = (tokenizer(s, add_special_tokens=False)["input_ids"] for s in ("x \n y", "x y"))
        self.flat = apart == near  # white space of any kind and length is one space
        self.plain = self._normalizer is None and not self.flat
        pieces, self.in_words = _pieces(tokenizer, self._backend)
        self.piece = {token: piece for token, (piece, _, _) in pieces.items()}
        self.table: dict[bytes, list[tuple[int, bool | None, bool | None]]] = {}
        for token, (piece, begins, ends) in pieces.items():
            if piece:
                self.table.setdefault(piece, []).append((token, begins, ends))
        self.ids = {piece: tuple(t for t, _, _ in tokens) for piece, tokens in self.table.items()}
        self.prefixes = {piece[:n] for piece in self.table for n in range(1, len(piece) + 1)}
        self._spelled: dict[str, bytes] = {}
        self.made: dict[Any, Any] = {}  # what was made of texts, for constrain.py

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """The tokenizer's, made at the first call and kept with it until it gets other tokens."""
        found = _KNOWN.get(tokenizer)
        if found is None or found[0] != len(tokenizer):
            found = _KNOWN[tokenizer] = len(tokenizer), cls(tokenizer)
        return found[1]

    def spell(self, letter: str) -> bytes:
        """A character as the tokens spell it, in their normal form; nothing for one that they leave out."""
        found = self._spelled.get(letter)
        if found is None:
            found = self._spelled[letter] = self._normal(letter).encode("utf-8", "surrogatepass")
        return found

    def _normal(self, letter: str) -> str:
        if self._normalizer is None:
            return letter
        head, whole = (str(self._normalizer.normalize_str(s)) for s in ("x", f"x{letter}x"))
        if not whole.startswith(head) or not whole.endswith("x"):
            return letter
        return whole[len(head) : -1].replace(_LOW_SPACE, " ")

    def words(self, text: str) -> list[tuple[int, int]]:
        """Begin and end of each word, as the tokenizer cuts them."""
        cutter = getattr(self._backend, "pre_tokenizer", None)
        if cutter is None:
            return [match.span() for match in re.finditer(r"\S+", text)]
        return [span for _, span in cutter.pre_tokenize_str(text) if span[0] < span[1]]


_KNOWN: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, Vocabulary]] = weakref.WeakKeyDictionary()

Piece = tuple[bytes, bool | None, bool | None]
"""A token's bytes; whether it must begin a word, and end one (None: either)."""


def _pieces(tokenizer: PreTrainedTokenizerBase, backend: Any) -> tuple[dict[int, Piece], bool]:
    """Token -> piece without the special ones, and whether the tokens are words and parts of words."""
    added = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(token for token, entry in added.items() if entry.special)}
    ids = [token for token in range(len(tokenizer)) if token not in special]
    names = dict(zip(ids, tokenizer.convert_ids_to_tokens(ids)))
    names = {token: name for token, name in names.items() if name is not None}
    rules = list(_rules(backend))
    kinds = {rule.get("type") for rule in rules}
    either = None, None
    if "ByteLevel" in kinds:
        alphabet = _byte_alphabet()
        return {
            token: (
                bytes(alphabet[c] for c in name) if all(c in alphabet for c in name) else name.encode(),
                *either,
            )
            for token, name in names.items()
        }, False
    mark = next((rule["prefix"] for rule in rules if rule.get("type") == "WordPiece"), None)
    if mark:
        return {
            token: (name.removeprefix(mark).encode(), not name.startswith(mark), None) for token, name in names.items()
        }, True
    mark = next((rule["suffix"] for rule in rules if rule.get("type") == "BPEDecoder"), None)
    if mark:
        return {
            token: (name.removesuffix(mark).encode(), None, name.endswith(mark)) for token, name in names.items()
        }, True
    if any(name.startswith(_LOW_SPACE) for name in names.values()):
        return {
            token: (
                bytes([int(byte[1], 16)])
                if (byte := _BYTE.fullmatch(name)) and token not in added
                else name.replace(_LOW_SPACE, " ").encode(),
                *either,
            )
            for token, name in names.items()
        }, False
    if type(getattr(backend, "model", None)).__name__ == "WordLevel":
        return {token: (name.encode(), True, True) for token, name in names.items()}, True
    return {token: (piece, *either) for token, piece in _decoded(tokenizer, list(names)).items()}, False


def _rules(backend: Any) -> Iterable[dict[str, Any]]:
    """The steps of a tokenizer's decoder."""
    decoder = getattr(backend, "decoder", None)
    stack = [] if decoder is None else [json.loads(decoder.__getstate__())]
    while stack:
        rule = stack.pop()
        yield rule
        stack += rule.get("decoders", [])


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level BPE (Radford et al. 2019): if printable, itself."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> dict[int, bytes]:
    """What each token adds after another; a token that is part of a character adds nothing that can be used."""
    first = ids[0]
    before = str(tokenizer.decode([first]))
    pairs = (str(tokenizer.decode([first, token])) for token in ids)
    return {
        token: text.removeprefix(before).encode()
        for token, text in zip(ids, pairs)
        if text.startswith(before) and "\ufffd" not in text
    }
