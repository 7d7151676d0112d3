"""Which sentence of a passage answers a question, said by a linear model that has not seen the passage.

It knows how much of the question a sentence covers, itself and beside its neighbours, and what kind of words it holds
that the question does not (numbers after "how many", names after "who"). On SQuAD 2.0 it finds the annotated sentence
of 83 % of the questions (benchmarks/soundness.md), which is enough to contradict an annotator now and then.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.pulse import Pulse, Say
from ...records import Form, Row
from ..baselines.sentences import sentences, words
from ..scores.intervals import Array
from .held_out import FOLDS, blocks, folds

STEM = 5  # first letters by which words are alike
_ASKS = ("who", "whom", "whose", "what", "which", "when", "where", "why", "how")
_PIECE = re.compile(r"\S+")
_YEAR = re.compile(r"\b(1\d{3}|20\d\d)\b")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Of row number `row`: its answer and how probable the sentence is that it stands in, and the best other one."""

    row: int
    answer: str
    own: float
    sentence: str
    other: float


def answering_sentences(
    form: Form, rows: Sequence[Row], units: Sequence[Hashable], say: Say | None = None
) -> list[Chosen] | None:
    """For every row with an answer in a passage of two sentences and more; None under five units of them."""
    within = form[form.target].within or ""
    asked = next((field.name for field in form.inputs if field.kind == "text" and field.name != within), "")
    passages = {text: _Passage(text) for text in dict.fromkeys(str(row.get(within) or "") for row in rows)}
    rarity = _rarity(list(passages.values()))
    questions, looks = list[_Question](), list[dict[str, float]]()
    pulse = Pulse(say, "asking a cheap model about answers that it has not seen")
    for place, row in enumerate(rows):
        passage = passages[str(row.get(within) or "")]
        own = passage.holding(row[form.target][0]["start"]) if row[form.target] else None
        if own is None or len(passage.spans) < 2:
            continue
        pulse(place)
        found = passage.looks(str(row.get(asked) or ""), rarity)
        questions.append(_Question(place, passage, own, len(looks)))
        looks += found
    if not questions:
        return None
    block = blocks([units[one.row] for one in questions])
    if block.max() + 1 < FOLDS:
        return None
    scores = _scores(looks, questions, block)
    return [one.chosen(rows[one.row][form.target][0]["text"], scores) for one in questions]


@dataclass(frozen=True, slots=True)
class _Question:
    """A row with its passage, the sentence that holds the answer, and where the scores of its sentences begin."""

    row: int
    passage: _Passage
    own: int
    start: int

    @property
    def place(self) -> slice:
        return slice(self.start, self.start + len(self.passage.spans))

    def chosen(self, answer: str, scores: Array) -> Chosen:
        mine = np.exp(scores[self.place] - scores[self.place].max())
        mine /= mine.sum()
        other = int(np.where(np.arange(len(mine)) == self.own, -1.0, mine).argmax())
        sentence = self.passage.text[slice(*self.passage.spans[other])]
        return Chosen(self.row, answer, float(mine[self.own]), sentence, float(mine[other]))


class _Passage:
    """A text cut into sentences, with what each holds."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans = sentences(text)
        self.words = [frozenset(words(text[start:end])) for start, end in self.spans]
        self.stems = [frozenset(word[:STEM] for word in some) for some in self.words]
        self.pieces = [_PIECE.findall(text[start:end]) for start, end in self.spans]

    def holding(self, start: int) -> int | None:
        """The number of the sentence in which an answer begins."""
        return next((number for number, (low, high) in enumerate(self.spans) if low <= start < high), None)

    def looks(self, question: str, rarity: dict[str, float]) -> list[dict[str, float]]:
        """What each sentence has of an answer to the question: names of features and their values."""
        asked = words(question)
        known = set(asked)
        weight = {word: rarity.get(word, rarity[""]) for word in known}
        whole = sum(weight.values()) or 1.0
        cover = [sum(weight[word] for word in known & some) / whole for some in self.words]
        like = [sum(w for word, w in weight.items() if word[:STEM] in some) / whole for some in self.stems]
        kind = _kind(asked)
        out = []
        for i, pieces in enumerate(self.pieces):
            found = {
                "covers": cover[i],
                "covers, less the best": cover[i] - max(cover),
                "best": float(cover[i] == max(cover)),
                "like": like[i],
                "like, less the best": like[i] - max(like),
                "before": like[i - 1] if i else 0.0,
                "behind": like[i + 1] if i + 1 < len(like) else 0.0,
                "length": math.log1p(len(self.words[i])),
            }
            new = [piece for piece in pieces if piece.casefold().strip(".,;:()") not in known]
            out.append(found | {name: 1.0 for mark in _marks(new) for name in (mark, f"{kind} {mark}")})
        return out


def _kind(asked: Sequence[str]) -> str:
    """What is asked for: the question word, with the word behind "how"."""
    word = next((one for one in asked if one in _ASKS), "none")
    if word != "how":
        return word
    behind = asked[asked.index("how") + 1 :][:1]
    return " ".join(["how", *behind])


def _marks(pieces: Sequence[str]) -> list[str]:
    capitals = sum(piece[:1].isupper() for piece in pieces[1:])
    told = {
        "number": any(any(letter.isdigit() for letter in piece) for piece in pieces),
        "year": any(_YEAR.search(piece) for piece in pieces),
        "name": capitals > 0,
        "names": capitals > 2,
        "amount": any("%" in piece or "$" in piece or piece == "percent" for piece in pieces),
        "reason": any(piece in ("because", "due", "since", "to") for piece in pieces),
    }
    return [name for name, there in told.items() if there]


def _rarity(passages: Sequence[_Passage]) -> dict[str, float]:
    """word -> inverse document frequency over the passages; under "" that of a word in none."""
    holding = Counter(word for passage in passages for word in frozenset().union(*passage.words))
    count = 1 + len(passages)
    return {word: math.log(count / (1 + n)) + 1 for word, n in holding.items()} | {"": math.log(count) + 1}


def _scores(looks: Sequence[dict[str, float]], questions: Sequence[_Question], block: NDArray[np.intp]) -> Array:
    """A number for every sentence of every question, by models that saw no question of its unit."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    matrix = DictVectorizer().fit_transform(looks)
    due = np.zeros(len(looks), dtype=bool)
    due[[one.start + one.own for one in questions]] = True
    whose = np.repeat(block, [len(one.passage.spans) for one in questions])
    scores = np.zeros(len(looks))
    for fit, asked in folds(whose, 0):
        scores[asked] = LogisticRegression(max_iter=500).fit(matrix[fit], due[fit]).decision_function(matrix[asked])
    return scores
