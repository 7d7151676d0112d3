"""Rows made from rows: what they keep, what they change, and what is thrown away."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import tiny
from luthier.data import augment
from luthier.errors import DataError
from luthier.records import Field, Form, Row
from luthier.tasks import TASKS

QA = TASKS["question-answering"].form
LABELS = TASKS["classification"].form


def check_spans(made: Sequence[Row]) -> int:
    """Every answer stands where its start says; how many there are."""
    count = 0
    for row in made:
        for span in row["answers"]:
            assert row["context"][span["start"] : span["start"] + len(span["text"])] == span["text"], row.id
            count += 1
    return count


def test_made_rows_name_their_origin_and_keep_the_rest() -> None:
    rows = tiny.reviews(6)
    made = augment.rewritten(rows, LABELS, lambda asked: [f"{text} indeed" for text in asked], "paraphrase", str)
    assert [row.id for row in made.rows] == [f"{row.id}+paraphrase-1" for row in rows]
    for row, old in zip(made.rows, rows):
        assert row["made_by"] == "paraphrase" and row["made_from"] == old.id
        assert row["label"] == old["label"] and row["text"] == f"{old['text']} indeed"
        assert (row.file, row.line) == (old.file, old.line)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "nothing was written"),
        ("THE old house.", "the same words again"),
        ("a", "far longer or shorter than the text"),
        ("house " * 20, "far longer or shorter than the text"),
    ],
)
def test_a_useless_rewriting_is_thrown_away_and_counted(said: str, why: str) -> None:
    rows = [Row("1", {"text": "the old house", "label": "a"})]
    made = augment.rewritten(rows, LABELS, lambda asked: [said], "paraphrase", str)
    assert made.rows == [] and made.why == {why: 1}


def test_a_rewriting_loses_its_introduction_and_quotes() -> None:
    rows = [Row("1", {"text": "the old house stands near", "label": "a"})]
    said = 'Sure, here it is: "a house of age is close by"\n\nI hope this helps!'
    made = augment.rewritten(rows, LABELS, lambda asked: [said], "paraphrase", str)
    assert [row["text"] for row in made.rows] == ["a house of age is close by"]


def test_the_question_is_rewritten_and_never_the_passage() -> None:
    assert augment.spoken_field(QA).name == "question"
    with pytest.raises(DataError, match="no free text"):
        augment.spoken_field(Form((Field("tokens", "tokens", ""), Field("tags", "tags", "")), "tags"))


def test_substitution_leaves_answers_alone_and_moves_them() -> None:
    rows = tiny.questions(20)
    asked: list[int] = []

    def fill(jobs: Sequence[tuple[str, Sequence[tuple[int, int]]]]) -> list[list[str]]:
        asked.extend(len(gaps) for _, gaps in jobs)
        return [["extraordinarily" if i % 2 else "it" for i, _ in enumerate(gaps)] for _, gaps in jobs]

    made = augment.substituted(rows, QA, fill, 0.5, 7).rows
    assert len(made) == len(rows) and sum(asked) > 100
    assert check_spans(made) == sum(len(row["answers"]) for row in rows) > 30
    by_id = {row.id: row for row in rows}
    for row in made:
        old = by_id[row["made_from"]]
        assert [s["text"] for s in row["answers"]] == [s["text"] for s in old["answers"]]
        assert row["context"] != old["context"]


def test_substitution_touches_only_words_outside_entities() -> None:
    form = Form((Field("tokens", "tokens", ""), Field("tags", "tags", "", within="tokens")), "tags")
    rows = [
        Row(
            "1",
            {
                "tokens": ["Anna", "lives", "near", "Rome", "now", "."],
                "tags": ["B-p", "O", "O", "B-l", "O", "O"],
            },
        )
    ]
    made = augment.substituted(rows, form, lambda jobs: [["x" * 4] * len(g) for _, g in jobs], 1.0, 7).rows
    assert made[0]["tokens"] == ["Anna", "xxxx", "xxxx", "Rome", "xxxx", "."]
    assert made[0]["tags"] == rows[0]["tags"]


def test_a_distractor_moves_the_answer_and_does_not_hold_it() -> None:
    rows = tiny.questions(12)
    made = augment.with_distractors(rows, QA, 7).rows
    assert len(made) > 25
    assert check_spans(made) > 15
    by_id = {row.id: row for row in rows}
    before = 0
    for row in made:
        old = by_id[row["made_from"]]
        assert old["context"] in row["context"]
        other = row["context"].replace(old["context"], "")
        assert len(other) > 10
        assert not any(span["text"] in other for span in old["answers"])
        before += not row["context"].startswith(old["context"])
    assert 3 < before < len(made) - 3, "the other passage stands on either side"


def test_a_question_without_an_answer_asks_a_passage_that_does_not_hold_it() -> None:
    rows = tiny.questions(12)
    made = augment.unanswerable(rows, QA, rows, 7)
    by_id = {row.id: row for row in rows}
    assert len(made.rows) > 15
    for row in made.rows:
        old = by_id[row["made_from"]]
        assert row["answers"] == [] and row["question"] == old["question"] and row["context"] != old["context"]
        assert not any(f" {span['text']} " in f" {row['context']} " for span in old["answers"])
    assert made.why["the question has no answer already"] == sum(not row["answers"] for row in rows)


def test_drawn_questions_must_stand_in_the_passage_and_be_found_again() -> None:
    passages = [Row(str(i), {"context": f"Insulin {i} is made in the pancreas."}) for i in range(5)]
    said = [
        "Question: Where is insulin 0 made?\nAnswer: the pancreas.",
        "Question: Who made it?\nAnswer: a person",  # does not stand there
        "I cannot help with that.",
        "Question: Where is it made?\nAnswer: pancreas",  # a second reading disagrees
        "Question: What about the pancreas?\nAnswer: pancreas",  # gives itself away
    ]
    heard = {"Where is insulin 0 made?": "the pancreas", "Where is it made?": "Insulin"}
    made = augment.questions_from(
        passages, QA, lambda requests: said, lambda pairs: [heard[question] for question, _ in pairs], 2
    )
    assert [(row["question"], row["answers"]) for row in made.rows] == [
        ("Where is insulin 0 made?", [{"text": "the pancreas", "start": 21}])
    ]
    assert check_spans(made.rows) == 1
    assert +made.why == {
        "the answer does not stand in the passage": 1,
        "no question and answer in what was written": 1,
        "a second reading answers otherwise": 1,
        "the question holds its answer": 1,
    }


def test_shares_are_drawn_evenly_and_repeatably() -> None:
    rows = tiny.reviews(10)
    twice = augment.drawn(rows, 2.5, 7)
    assert len(twice) == 25
    counts = sorted(sum(one is row for one in twice) for row in rows)
    assert counts[0] >= 2 and counts[-1] <= 3
    assert [row.id for row in twice] == [row.id for row in augment.drawn(rows, 2.5, 7)]
    assert [row.id for row in twice] != [row.id for row in augment.drawn(rows, 2.5, 8)]


def test_a_token_may_hold_spaces_and_tags_stay_with_their_tokens() -> None:
    form = TASKS["token-classification"].form
    tokens = ["New York", "is", "a", "large", "town", "in", "Texas"]
    tags = ["B-place", "O", "O", "O", "O", "O", "B-place"]
    rows = [Row("1", {"tokens": tokens, "tags": tags})]
    made = augment.substituted(rows, form, lambda jobs: [["house"] * len(g) for _, g in jobs], 1.0, 7).rows
    assert made[0]["tokens"] == ["New York", "is", "a", "house", "house", "in", "Texas"]
    assert made[0]["tags"] == tags


def test_the_rows_of_one_origin_are_numbered() -> None:
    row = Row("1", {"text": "the old house", "label": "a"})
    said = ["the house of age", "a house that is old"]
    made = augment.rewritten([row, row], LABELS, lambda asked: said, "paraphrase", str)
    assert [row.id for row in made.rows] == ["1+paraphrase-1", "1+paraphrase-2"]
