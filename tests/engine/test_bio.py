"""Entities in tags as seqeval reads them, and decoding held against every sequence there is."""

from __future__ import annotations

import itertools
import random
from itertools import pairwise

import numpy as np
import pytest

from luthier.engine.entities.bio import decode, entities, spelled, tag_set, type_of


def test_tags_and_entities_are_one_another() -> None:
    draw = random.Random(0)
    for _ in range(300):
        length = draw.randint(0, 12)
        found, at = [], 0
        while at < length:
            end = draw.randint(at + 1, length)
            if draw.random() < 0.6:
                found.append((at, end, draw.choice(["loc", "per", "作品", "a-b"])))
            at = end
        assert entities(spelled(found, length)) == found


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("I-a I-a", []),
        ("B-a I-b", [(0, 1, "a")]),
        ("B-a B-a I-a O I-a", [(0, 1, "a"), (1, 3, "a")]),
        ("O B-a I-b I-a", [(1, 2, "a")]),
        ("", []),
    ],
)
def test_what_begins_nothing_counts_for_nothing(tags: str, found: list) -> None:
    assert entities(tags.split()) == found


def test_the_tag_set_has_a_fixed_order() -> None:
    assert tag_set(["b", "a", "b"]) == ["O", "B-a", "I-a", "B-b", "I-b"]
    assert [type_of(tag) for tag in tag_set(["a-b"])] == ["", "a-b", "a-b"]


def valid(path: tuple[int, ...], tags: list[str]) -> bool:
    names = ["O", *(tags[i] for i in path)]
    return all(tag[0] != "I" or type_of(before) == type_of(tag) for before, tag in pairwise(names))


def brute(scores: np.ndarray, tags: list[str]) -> dict[tuple[int, ...], float]:
    paths = itertools.product(range(len(tags)), repeat=len(scores))
    return {p: float(sum(scores[i, t] for i, t in enumerate(p))) for p in paths if valid(p, tags)}


@pytest.mark.parametrize("types", [1, 2])
def test_decoding_is_what_trying_every_sequence_gives(types: int) -> None:
    draw, tags = np.random.default_rng(types), tag_set("ab"[:types])
    rows = [draw.normal(0, 2, (length, len(tags))) for length in (1, 2, 3, 4, 5, 3, 1)]
    rows = [row - np.logaddexp.reduce(row, 1)[:, None] for row in rows]
    with_entity = 0
    for row, found in zip(rows, decode(rows)):
        paths = brute(row, tags)
        best = max(paths, key=paths.__getitem__)
        mass = sum(np.exp(v) for v in paths.values())
        assert tuple(found.tags) == best
        assert found.probability == pytest.approx(np.exp(paths[best]) / mass)
        for begin, end, kind, chance in found.entities:
            same = (begin, end, "ab"[kind])
            holding = [p for p in paths if same in entities([tags[i] for i in p])]
            assert chance == pytest.approx(sum(np.exp(paths[p]) for p in holding) / mass)
            with_entity += 1
        others = [v for p, v in paths.items() if p != best]
        assert found.margin == pytest.approx(paths[best] - max(others))
    assert with_entity >= 4


def test_a_row_is_decoded_alike_in_any_company() -> None:
    draw = np.random.default_rng(0)
    rows = [np.log(draw.dirichlet(np.ones(7), length)) for length in (0, 9, 1, 40, 3)]
    together, alone = decode(rows), [decode([row])[0] for row in rows]
    assert len(together) == 5
    for one, other in zip(together, alone):
        assert one.tags.tolist() == other.tags.tolist()
        assert one.probability == pytest.approx(other.probability, rel=1e-12)
        assert [e[:3] for e in one.entities] == [e[:3] for e in other.entities]
        assert [e[3] for e in one.entities] == pytest.approx([e[3] for e in other.entities])
    assert together[0].probability == 1.0
    assert len(together[0].tags) == 0


def test_without_any_type_all_is_outside() -> None:
    found = decode([np.zeros((4, 1))])[0]
    assert found.tags.tolist() == [0, 0, 0, 0]
    assert found.probability == 1.0
