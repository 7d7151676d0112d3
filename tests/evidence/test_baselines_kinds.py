"""Baselines for any number of labels, for numbers and for tags."""

from __future__ import annotations

import random

import numpy as np
import pytest

from luthier.engine.entities.bio import spelled
from luthier.errors import LuthierError
from luthier.evidence.baselines.by_target import baseline_names, classical, trivial
from luthier.evidence.baselines.dictionary import known_entities
from luthier.records import Answer, Field, Form, Row

TEXT = Field("text", "text", "what is judged")
MANY = Form((TEXT, Field("labels", "labels", "its classes")), "labels")
NUMBER = Form((TEXT, Field("score", "number", "how much")), "score")
TAGS = Form((Field("tokens", "tokens", "words"), Field("tags", "tags", "tags", within="tokens")), "tags")
TELLING = {"war": ["army", "battle"], "money": ["bank", "market"], "sport": ["goal", "match"]}
FILLER = ["the", "a", "day", "came", "went", "north", "again", "slowly", "often", "there"]


def stories(count: int, seed: int) -> list[Row]:
    """Texts whose labels and score follow from words among filler."""
    draw, rows = random.Random(seed), []
    for i in range(count):
        labels = sorted(name for name in TELLING if draw.random() < 0.35)
        words = draw.choices(FILLER, k=8) + [draw.choice(TELLING[name]) for name in labels]
        draw.shuffle(words)
        fields = {"text": " ".join(words), "labels": labels, "score": 10.0 + 5 * len(labels)}
        rows.append(Row(str(i), fields))
    return rows


def blind(rows: list[Row], target: str) -> list[Row]:
    return [Row(row.id, {k: v for k, v in row.fields.items() if k != target}) for row in rows]


def test_each_label_by_its_words_beats_the_commonest_set() -> None:
    train, test = stories(300, 0), stories(100, 1)
    common, words = trivial(MANY, train, test), classical(MANY, train, test)
    assert all(a.prediction == [] for a in common)
    assert common[0].confidence == pytest.approx(sum(not row["labels"] for row in train) / 300)
    right = [a.prediction == row["labels"] for row, a in zip(test, words)]
    assert np.mean(right) > 0.9
    assert {tuple(a.prediction) for a in words} >= {(), ("war",), ("money", "sport")}
    for answer in words:
        assert set(answer.detail["probabilities"]) == set(TELLING)
        assert 0 <= answer.confidence <= 1
    assert classical(MANY, train, blind(test, "labels")) == words


def test_a_label_of_a_single_row_and_one_that_every_row_has() -> None:
    rows = [Row(r.id, {**r.fields, "labels": sorted({*r["labels"], "all"})}) for r in stories(40, 0)]
    rows[3] = Row("3", {**rows[3].fields, "labels": ["all", "once"]})
    with_all = classical(MANY, rows, rows[:10])
    assert all("all" in a.prediction for a in with_all)
    assert set(with_all[0].detail["probabilities"]) == {*TELLING, "all", "once"}


def test_numbers_by_their_words_beat_the_mean() -> None:
    train, test = stories(300, 0), stories(100, 1)
    mean, words = trivial(NUMBER, train, test), classical(NUMBER, train, test)
    assert mean[0].prediction == pytest.approx(np.mean([row["score"] for row in train]))
    assert mean == [mean[0]] * 100
    due = np.array([row["score"] for row in test])
    errors = [np.abs(np.array([a.prediction for a in some]) - due).mean() for some in (mean, words)]
    assert errors[1] < 0.4 * errors[0]
    assert classical(NUMBER, train, blind(test, "score")) == words


def test_where_nothing_can_be_learned_the_classical_is_the_trivial() -> None:
    same = [
        Row("a", {"text": "x", "labels": ["l"], "score": 2.0}),
        Row("b", {"text": "y", "labels": ["l"], "score": 2.0}),
    ]
    wordless = [
        Row("a", {"text": "!", "labels": [], "score": 1.0}),
        Row("b", {"text": "?", "labels": ["l"], "score": 2.0}),
    ]
    for form in (MANY, NUMBER):
        for rows in (same, wordless):
            assert classical(form, rows, rows) == trivial(form, rows, rows)
        with pytest.raises(LuthierError, match="training rows"):
            trivial(form, [], same)


def sentence(words: str, *found: tuple[int, int, str]) -> Row:
    tokens = words.split()
    return Row(words, {"tokens": tokens, "tags": spelled(found, len(tokens))})


def test_entities_by_heart() -> None:
    train = [
        sentence("Anna saw New York", (0, 1, "per"), (2, 4, "loc")),
        sentence("York is old", (0, 1, "loc")),
        sentence("May I see York in May ?", (3, 4, "loc"), (5, 6, "date")),
        sentence("May I ? May I ?"),
        sentence("Anna the ship", (0, 3, "ship")),
        sentence("Anna and Anna", (0, 1, "per"), (2, 3, "per")),
    ]
    known = known_entities(train, "tokens", "tags")
    assert ("May",) not in known  # one in four is an entity
    assert known["York",] == ("loc", pytest.approx(2 / 3))  # three places, one of them inside another entity
    assert known["Anna",] == ("per", pytest.approx(3 / 4))
    rows = [
        Row(
            "1",
            {"tokens": ["in", "May", "Anna", "left", "New", "York", "for", "Anna", "the", "ship", "york"]},
        )
    ]
    told = classical(TAGS, train, rows)
    assert told[0].prediction == [
        "O",
        "O",
        "B-per",
        "O",
        "B-loc",
        "I-loc",
        "O",
        "B-ship",
        "I-ship",
        "I-ship",
        "O",
    ]
    assert told[0].confidence == pytest.approx(3 / 4)
    assert trivial(TAGS, train, rows) == [Answer(["O"] * 11, 1.0)]
    assert classical(TAGS, [], rows) == trivial(TAGS, [], rows)


def test_every_kind_has_its_names() -> None:
    for form in (MANY, NUMBER, TAGS):
        assert set(baseline_names(form)) == {"trivial", "classical", "untuned", "few-shot"}
