"""Texts said in other words, by a person or by a model; of what a model wrote, what has drifted is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...records import Finding, Form, Row
from .perturbed import said_otherwise

FEWEST = 20  # rows that a way of writing must change
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SPELT = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NEGATIONS = frozenset(("no", "not", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without"))
_HALF = frozenset(("cannot", "hardly", "barely", "scarcely", "lack", "lacks"))
NUMBER, NAME, NEGATION = "a number is another", "a name is another", "a negation came or went"


def drifted(before: str, after: str) -> str:
    """Why `after` can hardly mean what `before` does, in words; "" where numbers, names and negations are the same.

    Cheap on purpose: a good paraphrase that turns "not good" into "bad" is left out, too.
    """
    if _numbers(before) != _numbers(after):
        return NUMBER
    if _negated(before) != _negated(after):
        return NEGATION
    if not _names(before) <= _words(after) or not _names(after) <= _words(before):
        return NAME
    return ""


def _words(text: str) -> set[str]:
    """Its words in small letters, without the 's of a genitive."""
    return {re.sub(r"['’]s$", "", word.casefold()) for word in _WORD.findall(text)}


def _numbers(text: str) -> set[str]:
    """Numbers in figures, small ones in words among them; "one" is a pronoun too often."""
    spelt = {word.casefold() for word in _WORD.findall(text)} & set(_SPELT) - {"one"}
    return {*_NUMBER.findall(text), *(str(_SPELT.index(word)) for word in spelt)} - {"1"}


def _negated(text: str) -> bool:
    words = [word.casefold().replace("’", "'") for word in _WORD.findall(text)]
    return any(word in _NEGATIONS | _HALF or word.endswith("n't") for word in words)


def _names(text: str) -> set[str]:
    """Words with a capital inside a sentence; of a text in capitals, or one that capitalises every word, none."""
    words = [match for match in _WORD.finditer(text) if len(match[0]) > 1]
    if not words or sum(word[0][0].isupper() for word in words) > len(words) / 2:
        return set()
    inside = (word for word in words if not re.search(r"(^|[.!?:;\n\"“(])\s*[\"“'(]*$", text[: word.start()]))
    return _words(" ".join(word[0] for word in inside if word[0][0].isupper()))


@dataclass(frozen=True)
class Paraphrases:
    """`rows` are (place among the rows asked, that row said otherwise) by `source`; of `given` texts `left_out` counts
    those that were not used: reason -> how many.
    """

    source: str
    rows: Sequence[tuple[int, Row]]
    given: int
    left_out: Mapping[str, int] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        return {"source": self.source, "given": self.given, "used": len(self.rows), "left_out": dict(self.left_out)}

    def finding(self) -> Finding:
        """How many texts were said in other words, how many of these were left out, and why; too few are a warning."""
        why = "; ".join(f"{count:,}: {reason}" for reason, count in self.left_out.items() if count)
        out = sum(self.left_out.values())
        told = f"{out:,} were left out ({why})" if out else "none was left out"
        said = f"{self.source} gave {self.given:,} test rows in other words; {told}."
        if len(self.rows) >= FEWEST:
            return Finding("paraphrased", "note", said, self.as_json())
        said += (
            f" The {len(self.rows):,} that remain are too few to be asked ({FEWEST} are needed): nothing was measured."
        )
        remedy = "Say more test rows in other words (their ids stand in predictions/test.jsonl), or raise "
        return Finding("paraphrased", "warning", said, self.as_json(), remedy=remedy + "evidence.robustness.")


def from_texts(form: Form, rows: Sequence[Row], texts: Sequence[tuple[str, str]], source: str) -> Paraphrases:
    """`texts` (row id, its text said otherwise), as a person wrote them: taken as they are."""
    places = {row.id: place for place, row in enumerate(rows)}
    left_out, made = Counter[str](), list[tuple[int, Row]]()
    for id, text in texts:
        place = places.get(id)
        changed = None if place is None else said_otherwise(form, rows[place], text)
        if place is None:
            left_out["their id is that of no test row asked"] += 1
        elif changed is None:
            left_out["the same text again"] += 1
        else:
            made.append((place, changed))
    return Paraphrases(source, made, len(texts), left_out)


def from_model(
    form: Form, rows: Sequence[Row], written: Sequence[tuple[int, str, str]], why: Mapping[str, int], source: str
) -> Paraphrases:
    """`written` (place of a row, its text, what a model made of it); `why` counts what was thrown away before that."""
    left_out, made = Counter[str](why), list[tuple[int, Row]]()
    for place, before, after in written:
        reason = drifted(before, after)
        changed = said_otherwise(form, rows[place], after)
        if reason:
            left_out[reason] += 1
        elif changed is None:
            left_out["the same text again"] += 1
        else:
            made.append((place, changed))
    return Paraphrases(source, made, len(written) + sum(why.values()), left_out)
