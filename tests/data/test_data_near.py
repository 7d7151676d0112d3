"""Bar B23: 50 copies and 50 near copies among 10,000 rows: 50, at least 48, at most one that is neither."""

from __future__ import annotations

import random

import pytest
from data_forms import prose

from luthier.data.splitting.near import likeness_of, near_duplicates


def changed(text: str, rng: random.Random, num: int) -> str:
    words = text.split()
    for i in rng.sample(range(len(words)), num):
        words[i] = f"other{rng.randrange(10**6)}"
    return " ".join(words)


@pytest.mark.parametrize("vocabulary", [300, 3000])
def test_planted_copies(vocabulary: int) -> None:
    rng = random.Random(vocabulary)
    texts = [prose(rng, rng.randrange(40, 60), vocabulary) for _ in range(9_900)]
    planted = {}
    for i, source in enumerate(rng.sample(range(9_900), 100)):
        copy = texts[source].upper() + "!" if i < 50 else changed(texts[source], rng, 4)
        planted[source, len(texts)] = i < 50
        texts.append(copy)
    assert len(texts) == 10_000
    found = {(i, j): likeness for i, j, likeness in near_duplicates(texts)}
    exact = [pair for pair, is_exact in planted.items() if is_exact and found.get(pair) == 1.0]
    near = [pair for pair, is_exact in planted.items() if not is_exact and pair in found]
    assert len(exact) == 50
    assert len(near) >= 48
    assert len(set(found) - set(planted)) <= 1


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ("Good film.", "good  FILM", True),
        ("a good film", "a bad film", False),
        ("book a flight to Paris on monday please", "book a flight to Rome on monday please", False),
        ("what is the capital of France", "what is the capital of Spain", False),
        ("e\u0301te\u0301 chaud", "été chaud", True),
        ("👍", "👎", False),
        ("👍", "👍", True),
    ],
)
def test_short_texts(a: str, b: str, near: bool) -> None:
    assert bool(near_duplicates([a, b])) is near


def test_nothing_and_little() -> None:
    assert near_duplicates([]) == []
    assert near_duplicates(["one two three four five six"]) == []
    assert near_duplicates(["", " "]) == [(0, 1, 1.0)]


def test_many_like_texts_stay_cheap_and_connected() -> None:
    """A template repeated thousands of times is one cluster, found without comparing all pairs."""
    rng = random.Random(1)
    base = prose(rng, 60).split()
    texts = []
    for i in range(3000):
        words = list(base)
        words[rng.randrange(60)] = f"x{i}"
        texts.append(" ".join(words))
    pairs = near_duplicates(texts)
    assert len(pairs) == 2999  # a tree: each pair connects something new


def test_likeness_is_symmetric_and_counted() -> None:
    rng = random.Random(2)
    seen = 0
    for _ in range(200):
        a = prose(rng, 40)
        b = changed(a, rng, rng.randrange(0, 6))
        assert likeness_of(a, b, 0.6) == likeness_of(b, a, 0.6)
        seen += likeness_of(a, b, 0.6) is not None
    assert seen > 190
