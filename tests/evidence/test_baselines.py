"""Trivial and classical answers: known ones on made rows, and what they must not look at."""

import random

import pytest
from evidence_fakes import Labels, Spans, label_rows, span_rows

from luthier.evidence.baselines.by_target import baseline_names, classical, trivial
from luthier.records import Row

GOOD, BAD = ["lovely", "superb", "moving", "a joy"], ["dreadful", "dull", "a mess", "a bore"]
FILLER = ["the plot", "the cast", "the music", "an hour", "the end", "this film", "we saw", "they say"]


def reviews(count, seed):
    """Texts whose label is told by one word among filler."""
    pick, rows = random.Random(seed), []
    for place in range(count):
        label = pick.choice(["negative", "positive", "positive"])
        telling = pick.choice(GOOD if label == "positive" else BAD)
        text = " ".join(pick.sample([*pick.choices(FILLER, k=6), telling], 7))
        rows.append(Row(f"r{place}", {"text": text, "label": label}))
    return rows


def share_right(rows, answers):
    return sum(row["label"] == answer.prediction for row, answer in zip(rows, answers)) / len(rows)


def test_bag_of_words_beats_the_majority_where_words_tell():
    form, train, test = Labels.form, reviews(200, 0), reviews(100, 1)
    majority, words = trivial(form, train, test), classical(form, train, test)
    assert {answer.prediction for answer in majority} == {"positive"}
    assert majority[0].confidence == pytest.approx(sum(row["label"] == "positive" for row in train) / 200)
    assert share_right(test, words) > 0.97 > 0.75 > share_right(test, majority)
    for answer in words:
        probabilities = answer.detail["probabilities"]
        assert sum(probabilities.values()) == pytest.approx(1)
        assert answer.confidence == max(probabilities.values()) == probabilities[answer.prediction]


def test_baselines_never_see_the_answers_they_are_asked_for():
    form, train, test = Labels.form, reviews(90, 0), reviews(30, 1)
    blind = [Row(row.id, {"text": row["text"]}) for row in test]
    assert classical(form, train, blind) == classical(form, train, test)
    rows = span_rows(16)
    blind = [Row(row.id, {"question": row["question"], "context": row["context"]}) for row in rows]
    assert classical(Spans.form, rows, blind) == classical(Spans.form, rows, rows)


@pytest.mark.parametrize(
    "rows",
    [
        [Row("a", {"text": "yes", "label": "x"}), Row("b", {"text": "no", "label": "x"})],
        [
            Row("a", {"text": "!!", "label": "x"}),
            Row("b", {"text": "??", "label": "y"}),
            Row("c", {"text": "", "label": "y"}),
        ],
    ],
    ids=["one label", "no word"],
)
def test_where_nothing_can_be_learned_the_classical_is_the_trivial(rows):
    assert classical(Labels.form, rows, rows) == trivial(Labels.form, rows, rows)


def test_three_labels_two_inputs_and_a_label_seen_once():
    form = Labels.form
    rows = [*reviews(60, 0), Row("z", {"text": "beyond words", "label": "other"})]
    answers = classical(form, rows, rows[-1:])
    assert set(answers[0].detail["probabilities"]) == {"negative", "positive", "other"}


def test_scripts_without_spaces_have_words_too():
    good, bad = "这部电影很好看我喜欢", "这部电影很难看我讨厌"
    texts = ["今天" * (place % 3) + (good if place % 2 else bad) for place in range(40)]
    rows = [Row(f"r{place}", {"text": text, "label": str(place % 2)}) for place, text in enumerate(texts)]
    assert share_right(rows[30:], classical(Labels.form, rows[:30], rows[30:])) == 1.0


def test_always_no_answer():
    rows = span_rows(4)
    assert all(answer.prediction == "" and answer.confidence == 1 for answer in trivial(Spans.form, rows, rows))


def test_the_sentence_that_shares_most_with_the_question():
    rows = span_rows(8)
    answers = classical(Spans.form, rows, rows)
    assert answers[1].prediction == "Without enough insulin the blood sugar rises."
    for row, answer in zip(rows, answers):
        start = answer.detail["start"]
        assert row["context"][start : start + len(answer.prediction)] == answer.prediction
    context = "Cats purr. Dogs bark. Dogs bite."
    ask = lambda question: Row("q", {"question": question, "context": context, "answers": []})
    told = classical(Spans.form, rows, [ask("Which dogs?"), ask("What is the capital of Peru?"), ask("Do they bite?")])
    assert [answer.prediction for answer in told] == ["Dogs bark.", "", "Dogs bite."]


def test_names_for_reports():
    assert baseline_names(Labels.form)["classical"] == "TF-IDF + logistic regression"
    assert baseline_names(Spans.form) == {
        "trivial": "always no answer",
        "classical": "most similar sentence",
        "untuned": "untuned model",
        "few-shot": "untuned model with examples",
    }


def test_ties_between_labels_fall_the_same_way_each_time():
    rows = label_rows(2, labels=["b", "a"])
    one, two = (Row("1", {"text": "", "label": label}) for label in ("b", "a"))
    assert trivial(Labels.form, [one, two], rows)[0].prediction == trivial(Labels.form, [two, one], rows)[0].prediction
