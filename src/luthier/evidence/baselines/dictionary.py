"""Entities by heart: the classical baseline for tags.

What training marked is marked again wherever its words come up, the longest first, if in training they were an entity
at least as often as not. This is the baseline of the CoNLL-2003 shared task (Tjong Kim Sang and De Meulder 2003,
aclanthology.org/W03-0419), which took only what training marked without exception.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from luthier.engine.entities.bio import Entity, entities, spelled

from ...records import Answer, Row

Words = tuple[str, ...]


def known_entities(train_rows: Sequence[Row], tokens: str, tags: str) -> dict[Words, tuple[str, float]]:
    """words -> (their commonest type, the share of their places in training where they are of it)."""
    as_entity: dict[Words, Counter[str]] = defaultdict(Counter)
    for row in train_rows:
        for begin, end, kind in entities(row[tags]):
            as_entity[tuple(row[tokens][begin:end])][kind] += 1
    longest = max(map(len, as_entity), default=0)
    seen: Counter[Words] = Counter()
    for row in train_rows:
        words = tuple(row[tokens])
        for begin in range(len(words)):
            for end in range(begin + 1, min(begin + longest, len(words)) + 1):
                if words[begin:end] in as_entity:
                    seen[words[begin:end]] += 1
    out = {}
    for some, kinds in as_entity.items():
        kind = max(sorted(kinds), key=kinds.__getitem__)
        if 2 * kinds.total() >= seen[some]:
            out[some] = (kind, kinds[kind] / seen[some])
    return out


def by_heart(train_rows: Sequence[Row], rows: Sequence[Row], tokens: str, tags: str) -> list[Answer]:
    """Each row's tags. Confidence is the product of the shares of what was found."""
    known = known_entities(train_rows, tokens, tags)
    longest = max(map(len, known), default=0)
    answers = []
    for row in rows:
        words = tuple(row[tokens])
        found: list[Entity] = []
        confidence, begin = 1.0, 0
        while begin < len(words):
            ends = range(min(begin + longest, len(words)), begin, -1)
            end = next((end for end in ends if words[begin:end] in known), None)
            if end is None:
                begin += 1
                continue
            kind, share = known[words[begin:end]]
            found.append((begin, end, kind))
            confidence *= share
            begin = end
        answers.append(Answer(spelled(found, len(words)), confidence))
    return answers
