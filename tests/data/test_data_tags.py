"""Tag schemes: told apart, checked, turned into BIO and repaired, as seqeval understands them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from luthier.data.rows.tags import Scheme, detect, is_tag, mentions, repaired, slips, to_bio

TYPES = ("person", "creative-work", "ORG", "x_y")
Spans = list[tuple[int, int, str]]


def spans(rng: random.Random, length: int) -> Spans:
    """Mentions of a sentence, some right after each other."""
    found, at = [], 0
    while at < length:
        if rng.random() < 0.35:
            end = min(length, at + rng.randint(1, 4))
            found.append((at, end, rng.choice(TYPES)))
            at = end
        else:
            at += 1
    return found


def written(found: Spans, length: int, name: str) -> list[str]:
    """The tags of these mentions in a scheme, by its definition."""
    tags = ["O"] * length
    ends = {"IOBES": "IES", "BILOU": "ILU", "BMES": "MES"}
    for start, end, kind in found:
        inner, last, alone = ends.get(name, "IIB")
        for i in range(start, end):
            letter = "B" if i == start else last if i == end - 1 else inner
            if name in ends and end - start == 1:
                letter = alone
            if name == "IOB1" and i == start:
                before = i and tags[i - 1]
                letter = "B" if before and before[2:] == kind else "I"
            tags[i] = f"{letter}-{kind}"
    return tags


def corpus(name: str, seed: int, num: int = 60) -> tuple[list[Spans], list[list[str]]]:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 14) for _ in range(num)]
    found = [spans(rng, length) for length in lengths]
    return found, [written(some, length, name) for some, length in zip(found, lengths)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["BIO", "IOB1", "IOBES", "BILOU", "BMES"])
def test_schemes_are_told_apart_and_read(name: str, seed: int) -> None:
    found, tags = corpus(name, seed)
    scheme = detect(tags)
    assert scheme == Scheme(name)  # type: ignore[arg-type]
    for some, sentence in zip(found, tags):
        assert slips(sentence, scheme) == []
        assert repaired(sentence, scheme) == sentence
        assert mentions(to_bio(sentence, scheme)) == some
        assert slips(to_bio(sentence, scheme), Scheme("BIO")) == []


@pytest.mark.parametrize("name", ["IOB1", "IOB2", "IOBES", "BILOU"])
def test_mentions_are_seqevals(name: str) -> None:
    from seqeval import scheme as seqeval

    ours = "BIO" if name == "IOB2" else name
    _, tags = corpus(ours, 9, 200)
    theirs = seqeval.Entities(tags, getattr(seqeval, name)).entities
    mine = [mentions(to_bio(sentence, Scheme(ours))) for sentence in tags]  # type: ignore[arg-type]
    assert [[(e.start, e.end, e.tag) for e in some] for some in theirs] == mine
    assert sum(map(len, mine)) > 200


def test_bare_letters_and_plain_types() -> None:
    assert detect([["B", "I", "O"], ["O", "B"]]) == Scheme("BIO", typed=False)
    assert to_bio(["B", "I", "O", "B"], Scheme("BIO", typed=False)) == [
        "B-entity",
        "I-entity",
        "O",
        "B-entity",
    ]
    plain = [["PER", "PER", "O", "LOC"], ["O", "LOC", "PER"]]
    assert detect(plain) == Scheme("IO")
    assert [to_bio(tags, Scheme("IO")) for tags in plain] == [
        ["B-PER", "I-PER", "O", "B-LOC"],
        ["O", "B-LOC", "B-PER"],
    ]
    assert detect([["O", "O"], []]) == Scheme("BIO")


def test_a_few_slips_do_not_change_the_scheme() -> None:
    for name in ("BIO", "IOBES", "BILOU"):
        _, tags = corpus(name, 3, 80)
        tags += [["O", "I-person"], ["S-ORG", "I-ORG"], ["B-ORG", "I-person"]]
        assert detect(tags).name == name


SLIPS: list[tuple[str, str, list[tuple[int, str]], str]] = [
    ("BIO", "O I-x", [(1, "tag-sequence")], "O B-x"),
    ("BIO", "I-x I-x O", [(0, "tag-sequence")], "B-x I-x O"),
    ("BIO", "B-x I-y I-y", [(1, "tag-sequence")], "B-x B-y I-y"),
    ("BIO", "B-x I-y I-x", [(1, "tag-sequence"), (2, "tag-sequence")], "B-x B-y B-x"),
    ("BIO", "b-x i-x o 0", [(0, "bad-tag"), (1, "bad-tag"), (2, "bad-tag"), (3, "bad-tag")], "B-x I-x O O"),
    ("BIO", "B- X S-x B-x", [(0, "bad-tag"), (1, "bad-tag"), (2, "bad-tag")], "B- X S-x B-x"),
    ("IOBES", "B-x O", [(0, "tag-sequence")], "S-x O"),
    ("IOBES", "B-x I-x O", [(1, "tag-sequence")], "B-x E-x O"),
    ("IOBES", "O E-x", [(1, "tag-sequence")], "O S-x"),
    ("IOBES", "B-x B-x E-x", [(0, "tag-sequence")], "S-x B-x E-x"),
    ("BILOU", "U-x L-x B-y", [(1, "tag-sequence"), (2, "tag-sequence")], "U-x U-x U-y"),
    ("BMES", "M-x M-x E-x", [(0, "tag-sequence")], "B-x M-x E-x"),
    ("IOB1", "I-x B-x I-y", [], "I-x B-x I-y"),
]


@pytest.mark.parametrize(("name", "tags", "found", "better"), SLIPS)
def test_slips_and_their_repair(name: Any, tags: str, found: list[tuple[int, str]], better: str) -> None:
    scheme = Scheme(name)
    seen = slips(tags.split(), scheme)
    assert [(slip.index, slip.code) for slip in seen] == found
    assert repaired(tags.split(), scheme) == better.split()
    for slip in seen:
        assert "expected" in slip.message and tags.split()[slip.index] in slip.message
        assert slip.better in ("", better.split()[slip.index])


@pytest.mark.parametrize("name", ["BIO", "IOBES", "BILOU", "BMES"])
def test_repair_leaves_no_impossible_sequence(name: Any) -> None:
    rng, scheme = random.Random(5), Scheme(name)
    changed = 0
    for _ in range(400):
        letters = [*scheme.letters, "O"]
        tags = [rng.choice(letters) for _ in range(rng.randint(1, 9))]
        tags = [letter if letter == "O" else f"{letter}-{rng.choice('xy')}" for letter in tags]
        better = repaired(tags, scheme)
        assert slips(better, scheme) == [] and repaired(better, scheme) == better
        assert [tag[1:] for tag in better] == [tag[1:] for tag in tags]  # types are never changed
        changed += bool(slips(tags, scheme))
        assert (better != tags) == bool(slips(tags, scheme))
    assert changed > 200


def test_what_is_a_tag_beyond_doubt() -> None:
    assert all(map(is_tag, ("O", "B-x", "I_x", "S-a-b", "U-x")))
    assert not any(map(is_tag, ("", "B", "I", "x", "o", "b-x", "B-", "Q-x")))
