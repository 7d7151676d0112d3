"""What a model may write, token by token: one of some texts, or any passage of one, exact to the byte.

Every token is the bytes it adds to a text. What has been written so far matches at some places of what is allowed;
the tokens that may come next are those whose bytes go on at one of them, so that any way of cutting a text into tokens
is allowed, and nothing else can be written. What was written is then read off the allowed text itself: where a
vocabulary knows no capitals or no accents, the answer still has them.

A space in front of the first token belongs to the tokenizer, not to the text, and may be there or not.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import numpy as np

from .vocabulary import Vocabulary as Vocabulary

_READY = 64  # texts that are kept ready: several questions ask about one passage


@dataclass(frozen=True)
class Passage:
    """Allowed: any passage of `text` that is not empty, or one of the texts `besides`."""

    text: str
    besides: tuple[str, ...] = ()


Allowed = Sequence[str] | Passage | str
"""One of these texts; a passage or what stands beside it; a passage of this one text."""


class _Part:
    """One allowed text, spelled in a vocabulary's bytes; with `anywhere` any passage of it is allowed.

    Byte `i` of `spelled` comes from character `origin[i]` of the text. A place is a number of bytes: what is written
    may begin at `starts` and end at `stops`.
    """

    def __init__(self, vocabulary: Vocabulary, text: str, anywhere: bool) -> None:
        self.vocabulary, self.text, self.anywhere = vocabulary, text, anywhere
        self.begins: set[int] = set()  # of words, in a vocabulary of words
        self.ends: set[int] = set()
        self.origin: Sequence[int]
        self.spelled, self.origin = self._in_words() if vocabulary.in_words else self._as_it_is()
        size, origin = len(self.spelled), self.origin
        self.edges: Container[int] = range(size + 1)  # of characters
        if not isinstance(origin, range):
            self.edges = frozenset(self.edges) - {i for i in range(1, size) if origin[i] == origin[i - 1]}
        self._hits: dict[int, list[tuple[tuple[int, ...], int]]] = {}
        self._open: dict[bool, tuple[Moves, np.ndarray]] = {}
        self._alive: Sequence[bool] = [True] * (size + 1)
        if anywhere:
            spaceless = (i for i, at in enumerate(origin) if i in self.edges and not text[at].isspace())
            self.starts = sorted(self.begins) if vocabulary.in_words else list(spaceless)
            self.stops = self.edges
        else:
            self.starts, self.stops = [0], frozenset([size])
            self._alive = self._reaching_the_end()

    def _as_it_is(self) -> tuple[bytes, Sequence[int]]:
        """The text's characters in the vocabulary's normal form, spaces included."""
        if self.vocabulary.plain and self.text.isascii():
            return self.text.encode(), range(len(self.text))
        spell, flat = self.vocabulary.spell, self.vocabulary.flat
        out, origin = bytearray(), []
        for i, letter in enumerate(self.text):
            spelled = spell(letter)
            if flat and letter.isspace():
                spelled = b"" if not out or out[-1:] == b" " else b" "
            out += spelled
            origin += [i] * len(spelled)
        return bytes(out), origin

    def _in_words(self) -> tuple[bytes, list[int]]:
        """The text's words in the vocabulary's normal form, with no space between them."""
        letters = [self.vocabulary.spell(letter).decode("utf-8", "surrogatepass") for letter in self.text]
        owner = [i for i, letter in enumerate(letters) for _ in letter]
        normal = "".join(letters)
        out, origin = bytearray(), []
        for begin, end in self.vocabulary.words(normal):
            self.begins.add(len(out))
            for i in range(begin, end):
                spelled = normal[i].encode("utf-8", "surrogatepass")
                out += spelled
                origin += [owner[i]] * len(spelled)
            self.ends.add(len(out))
        return bytes(out), origin

    def _reaching_the_end(self) -> list[bool]:
        """For each place whether the end of the text can be reached: no way may stop in the middle."""
        alive = [False] * len(self.spelled) + [True]
        for place in range(len(self.spelled) - 1, -1, -1):
            alive[place] = any(alive[after] for _, after in self._matches(place))
        return alive

    def hits(self, place: int) -> list[tuple[tuple[int, ...], int]]:
        """(tokens, place after them) for all that the text can go on with from here."""
        found = self._hits.get(place)
        if found is None:
            found = self._matches(place)
            found = self._hits[place] = [hit for hit in found if self._alive[hit[1]]]
        return found

    def _matches(self, place: int) -> list[tuple[tuple[int, ...], int]]:
        spelled, ids, prefixes = self.spelled, self.vocabulary.ids, self.vocabulary.prefixes
        out = []
        for end in range(place + 1, len(spelled) + 1):
            piece = spelled[place:end]
            if piece not in prefixes:
                break
            tokens = self._fitting(piece, place, end) if self.vocabulary.in_words else ids.get(piece)
            if tokens:
                out.append((tokens, end))
        return out

    def opening(self, spaced: bool) -> tuple[Moves, np.ndarray]:
        """What the first token may be, and where it leads. One space may stand in front of a word."""
        if spaced not in self._open:
            starts: Sequence[int] = self.starts
            moves: Moves = {} if spaced else self._moves(starts)
            if not self.vocabulary.in_words:
                text, origin = self.text, self.origin
                begun = [p for p in starts if not p or _apart(text[origin[p] - 1], text[origin[p]])]
                moves |= self._moves(begun, b"" if spaced else b" ")
            self._open[spaced] = moves, np.fromiter(moves, dtype=np.int64, count=len(moves))
        return self._open[spaced]

    def _moves(self, starts: Sequence[int], front: bytes = b"") -> Moves:
        """The tokens that are `front` and then bytes of the text from any of these places.

        Places are taken together, one length after the other: what they go on with is mostly the same.
        """
        spelled, size, alive = self.spelled, len(self.spelled), self._alive
        ids, prefixes, in_words = self.vocabulary.ids, self.vocabulary.prefixes, self.vocabulary.in_words
        moves: Moves = {}
        going, length = list(starts), 0
        while going:
            length += 1
            found: dict[bytes, list[int]] = defaultdict(list)
            for place in going:
                if place + length <= size:
                    found[spelled[place : place + length]].append(place)
            going = []
            for tail, places in found.items():
                piece = front + tail
                if piece not in prefixes:
                    continue
                going += places
                if in_words:
                    for place in places:
                        for token in self._fitting(piece, place, place + length):
                            moves.setdefault(token, ([], length))[0].append(place)
                elif piece in ids and (self.anywhere or alive[places[0] + length]):
                    moves |= dict.fromkeys(ids[piece], (places, length))
        return moves

    def _fitting(self, piece: bytes, place: int, end: int) -> tuple[int, ...]:
        """Of the tokens that are these bytes those that stand where their kind may stand in a word."""
        begin, close = place in self.begins, end in self.ends
        return tuple(
            token
            for token, begins, ends in self.vocabulary.table.get(piece, ())
            if (begins is None or begins == begin) and (ends is None or ends == close)
        )

    def passage(self, start: int, stop: int) -> str:
        """The text's own characters that are spelled from `start` to `stop`; one that is not whole is left out."""
        while stop > start and stop not in self.edges:
            stop -= 1
        if stop <= start:
            return ""
        end = self.origin[stop - 1] + 1
        while end < len(self.text) and unicodedata.category(self.text[end]).startswith("M"):
            end += 1  # a mark that the vocabulary leaves out belongs to the character before it
        return self.text if not self.anywhere and stop == len(self.spelled) else self.text[self.origin[start] : end]


def _apart(before: str, letter: str) -> bool:
    """Whether a word may begin between two characters: not inside one, but for scripts that put no space between."""
    if not (before.isalnum() and letter.isalnum()):
        return True
    return "Lo" in (unicodedata.category(before), unicodedata.category(letter))


Moves = dict[int, tuple[list[int], int]]
"""Token -> places, and how far behind them it leads."""


def _part(vocabulary: Vocabulary, text: str, anywhere: bool) -> _Part:
    """A text made ready, or as it was a while ago."""
    made, key = vocabulary.made, (text, anywhere)
    found = made.pop(key, None) or _Part(vocabulary, text, anywhere)
    made[key] = found  # the last one now
    if len(made) > _READY:
        del made[next(iter(made))]
    return found


@dataclass
class _State:
    """What has been written matches at `places` of parts, and is `length` bytes of them.

    `tokens` may come next, and lead where `moves` says.
    """

    places: list[tuple[_Part, Sequence[int]]]
    length: int = 0
    fresh: bool = True  # no byte of a text is written
    spaced: bool = False  # but the space in front of it
    moves: list[tuple[_Part, Moves]] = field(default_factory=list)
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class Guide:
    """Which tokens may come next in one answer, and the text that was written."""

    def __init__(self, vocabulary: Vocabulary, allowed: Allowed, stop_ids: Sequence[int]) -> None:
        self.vocabulary, self.stop_ids = vocabulary, np.asarray(stop_ids, dtype=np.int64)
        if isinstance(allowed, str):
            allowed = Passage(allowed)
        whole = allowed.besides if isinstance(allowed, Passage) else allowed
        parts = [_part(vocabulary, allowed.text, True)] if isinstance(allowed, Passage) else []
        parts += [_part(vocabulary, text.strip(), False) for text in whole]
        start = _State([(part, part.starts) for part in parts])
        self._states: dict[tuple[int, ...], _State] = {(): self._ready(start)}

    def tokens(self, written: tuple[int, ...]) -> np.ndarray:
        """The ids that may follow what was written, those that end it among them where it may end."""
        return self._state(written).tokens

    def text(self, written: tuple[int, ...]) -> str:
        """What was written, in the characters of the text that allows it; "" for what was not allowed."""
        state = self._state(written)
        found = ""
        for part, places in () if state.fresh else state.places:
            for place in places:
                if place in part.stops:
                    return part.passage(place - state.length, place)
                found = found or part.passage(place - state.length, place)
        return found

    def _state(self, written: tuple[int, ...]) -> _State:
        found = self._states.get(written)
        if found is None:
            found = self._states[written] = self._ready(self._after(self._state(written[:-1]), written[-1]))
        return found

    def _after(self, state: _State, token: int) -> _State:
        piece = self.vocabulary.piece.get(token, b"")
        if state.fresh and not state.spaced and piece == b" " and not self.vocabulary.in_words:
            return _State(state.places, spaced=True)
        moved: list[tuple[_Part, Sequence[int]]] = [
            (part, [place + moves[token][1] for place in moves[token][0]])
            for part, moves in state.moves
            if token in moves
        ]
        in_front = state.fresh and piece.startswith(b" ")
        return _State(moved, state.length + len(piece) - in_front, fresh=False)

    def _ready(self, state: _State) -> _State:
        """The state with what may follow it."""
        if state.fresh:
            opened = [(part, *part.opening(state.spaced)) for part, _ in state.places]
            state.moves = [(part, moves) for part, moves, _ in opened]
            tokens = [given for _, _, given in opened]
            if not state.spaced and not self.vocabulary.in_words and any(map(len, tokens)):
                tokens.append(np.array(self.vocabulary.ids.get(b" ", ()), dtype=np.int64))
        else:
            for part, places in state.places:
                moves: Moves = {}
                for place in places:
                    for some, after in part.hits(place):
                        for token in some:
                            moves.setdefault(token, ([], 0))[0].append(after)
                state.moves.append((part, moves))
            tokens = [np.fromiter(moves, np.int64, len(moves)) for _, moves in state.moves]
        if self._may_end(state) or not any(map(len, tokens)):
            tokens.append(self.stop_ids)
        state.tokens = np.unique(np.concatenate(tokens)) if tokens else self.stop_ids
        return state

    @staticmethod
    def _may_end(state: _State) -> bool:
        return any(
            place in part.stops
            for part, places in state.places
            if not state.fresh or not part.anywhere
            for place in places
        )
