"""Rows in other words: what has drifted is left out, what is used is scored like any other way of writing."""

from __future__ import annotations

import pytest

from luthier.evidence.robustness import measure_robustness, spoken_text
from luthier.evidence.robustness.paraphrase import NAME, NEGATION, NUMBER, drifted, from_model, from_texts
from luthier.evidence.robustness.perturbed import said_otherwise
from luthier.records import Answer, Row
from luthier.tasks import TASKS

TEXT = TASKS["classification"].form


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("A film that is worth seeing.", "You should go and see this film.", ""),
        ("It took 3.5 hours.", "It lasted 3.5 hours.", ""),
        ("It took 3.5 hours.", "It lasted 35 hours.", NUMBER),
        ("She has two dogs.", "She keeps 2 dogs.", ""),
        ("She has two dogs.", "She keeps dogs.", NUMBER),
        ("It is not good.", "It isn’t good.", ""),
        ("It is not good.", "It is good.", NEGATION),
        ("It is good.", "It was never good.", NEGATION),
        ("Yesterday we saw Nadia’s plan.", "We looked at the plan of Nadia yesterday.", ""),
        ("Yesterday we saw Nadia there.", "We saw her there yesterday.", NAME),
        ("We saw her in town.", "In town we saw Nadia.", NAME),
        ("LOUD AND CLEAR", "Clear and loud", ""),
    ],
)
def test_numbers_names_and_negations_must_stay(before: str, after: str, reason: str) -> None:
    assert drifted(before, after) == reason


def rows(count: int = 40) -> list[Row]:
    said = ("a lovely warm film", "a clumsy stale film")
    return [Row(f"r{n}", {"text": f"{said[n % 2]} of {n + 20}", "label": ("good", "bad")[n % 2]}) for n in range(count)]


def test_a_persons_rows_are_taken_as_they_are_and_strangers_counted() -> None:
    given = rows()
    told = from_texts(
        TEXT, given, [("r0", "quite lovely"), ("r0", "so warm"), ("x", "who?"), ("r1", given[1]["text"])], "p"
    )
    assert [(place, row["text"], row["label"]) for place, row in told.rows] == [
        (0, "quite lovely", "good"),
        (0, "so warm", "good"),
    ]
    assert sum(told.left_out.values()) == 2 and told.given == 4
    assert "2 were left out" in told.finding().sentence


def test_what_a_model_changed_is_left_out_and_the_rest_is_scored() -> None:
    """A model that hangs on one word is found fragile by paraphrase alone, with what was left out beside it."""
    given = rows()
    written = [(n, str(row["text"]), str(row["text"]).replace("lovely", "charming")) for n, row in enumerate(given)]
    written = [(n, old, new if n % 2 == 0 else f"{new}, really") for n, old, new in written]
    written[0] = (0, written[0][1], "a charming film of 99")
    said = from_model(TEXT, given, written, {"nothing was written": 2}, "fake")
    assert said.left_out == {"nothing was written": 2, NUMBER: 1} and len(said.rows) == 39 and said.given == 42
    task = TASKS["classification"](TASKS["classification"].Options())
    task.learn(given)
    predict = lambda some: [
        Answer("good" if "lovely" in str(row["text"]).lower() else "bad", 0.9, {"probabilities": {"good": 0.5}})
        for row in some
    ]
    found = measure_robustness(task, given, predict(given), predict, paraphrases=said)
    way = found.ways[-1]
    assert way.kind == "paraphrase" and way.rows == 39 and way.before == 1.0 and way.after < 0.6
    ids = {one.id: one for one in found.findings()}
    assert "fragile-paraphrase" in ids and "3 were left out" in ids["paraphrased"].sentence
    assert found.as_json()["paraphrases"]["used"] == 39
    assert [line["quality"] for line in way.lines] == [float(row["label"] == "bad") for _, row in said.rows]
    assert not any(one.kind == "paraphrase" for one in measure_robustness(task, given, predict(given), predict).ways)


def test_too_few_are_not_measured_and_several_of_one_row_are_one_unit() -> None:
    task = TASKS["classification"](TASKS["classification"].Options())
    given = rows(4)
    task.learn(given)
    answer = lambda some: [Answer("good", 0.9, {"probabilities": {"good": 0.5}}) for _ in some]
    few = from_texts(TEXT, given, [("r0", f"so {n}") for n in range(19)], "p")
    many = from_texts(TEXT, given, [("r0", f"so {n}") for n in range(20)], "p")
    none = measure_robustness(task, given, answer(given), answer, paraphrases=few)
    (told,) = none.findings()
    assert none.ways == () and "too few to be asked (20 are needed)" in told.sentence
    assert told.severity == "warning" and told.remedy
    assert many.finding().severity == "note" and "too few" not in many.finding().sentence
    (way,) = measure_robustness(task, given, answer(given), answer, paraphrases=many).ways
    assert way.rows == 20 and {line["unit"] for line in way.lines} == {"0"}


def test_questions_keep_their_passage_dialogues_their_turns_tags_their_words() -> None:
    question = TASKS["question-answering"].form
    fields = {"question": "Who built it?", "context": "Ada built it.", "answers": [{"text": "Ada", "start": 0}]}
    made = said_otherwise(question, Row("1", fields), "By whom was it built?")
    assert made is not None and made["context"] == fields["context"] and made["answers"] == fields["answers"]
    chat = TASKS["generation"].form
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go"},
    ]
    row = Row("1", {"messages": turns, "answer": "x"})
    made = said_otherwise(chat, row, "Leave")
    assert made is not None and [t["content"] for t in made["messages"]] == ["Hi", "Yes?", "Leave"]
    assert spoken_text(chat, row) == "Go" and said_otherwise(chat, row, "Go") is None
    tagged = Row("1", {"tokens": ["a"], "tags": ["O"]})
    assert said_otherwise(TASKS["token-classification"].form, tagged, "b") is None
