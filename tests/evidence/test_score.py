"""evaluate: the shape it writes, groups, scores that are not defined, one row."""

import json

import numpy as np
import pytest
from evidence_fakes import Labels, Spans, label_rows, right_with, span_answers, span_rows

from luthier.errors import LuthierError
from luthier.evidence.scores.paired_tests import holm
from luthier.evidence.scores.score import Evaluation, Part, evaluate
from luthier.records import Answer, Row


def test_the_shape_of_evaluate_and_back():
    task, rows = Spans(), span_rows(64)
    baselines = {"trivial": [Answer("", 1.0)] * 64, "untuned": span_answers(rows, 0.1, 2)}
    evaluation = evaluate(task, rows, span_answers(rows, 0.6, 1), baselines, "context")
    data = json.loads(json.dumps(evaluation.as_json()))
    assert set(data) >= {"task", "rows", "scores", "intervals", "baselines", "differences"}
    assert data["task"] == "question-answering" and data["rows"] == 64 and data["groups"] == 32
    assert set(data["baselines"]) == {"trivial", "untuned"}
    for key, score in data["scores"].items():
        low, high = data["intervals"][key]
        assert 0 <= low <= score <= high <= 1
        mean, low, high = data["differences"]["trivial"][key]
        assert mean == pytest.approx(score - data["baselines"]["trivial"][key])
        assert low <= mean <= high
    assert Evaluation.from_json(data) == evaluation


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score

    task = Labels(["a", "b", "c"])
    rows = label_rows(200, labels=task.labels)
    answers = right_with(0.7, rows, task.labels, 0)
    truth, told = [row["label"] for row in rows], [answer.prediction for answer in answers]
    scores = evaluate(task, rows, answers, {}).scores
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, told))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, told, average="macro"))


def test_a_score_without_rows_is_left_out():
    task, rows = Spans(), [row for row in span_rows(64) if row["answers"]]
    evaluation = evaluate(task, rows, span_answers(rows, 0.6, 1), {"trivial": [Answer("", 1.0)] * len(rows)})
    assert "no_answer_f1" not in evaluation.scores
    assert "no_answer_f1" not in evaluation.differences["trivial"]
    assert "NaN" not in json.dumps(evaluation.as_json())


def test_an_interval_rests_on_the_rows_its_score_rests_on():
    """Three unanswerable rows among 200, all right: the interval is that of three, not of 200."""
    task, rows = Spans(), [row for row in span_rows(266) if row["answers"]][:197]
    rows += [row for row in span_rows(266) if not row["answers"]][:3]
    answers = [Answer(row["answers"][0]["text"] if row["answers"] else "", 0.9) for row in rows]
    intervals = evaluate(task, rows, answers, {}).intervals
    assert intervals["no_answer_f1"][0] < 0.5
    assert intervals["f1"][0] > 0.97


def test_groups_widen_the_interval_of_rows_that_fall_together():
    task, rows, answers = Labels(), [], []
    wrong = np.random.default_rng(0).random(50) < 0.4
    for group in range(50):
        for place in range(10):
            label = ("negative", "positive")[place % 2]
            rows.append(Row(f"{group}-{place}", {"text": "", "label": label, "passage": f"p{group}"}))
            other = "negative" if label == "positive" else "positive"
            answers.append(Answer(other if wrong[group] else label, 0.9))
    alone = evaluate(task, rows, answers, {})
    together = evaluate(task, rows, answers, {}, "passage")
    assert (alone.groups, together.groups) == (500, 50)
    width = [high - low for low, high in (alone.intervals["accuracy"], together.intervals["accuracy"])]
    assert width[1] > 2.5 * width[0]


def test_one_row():
    rows = label_rows(1)
    evaluation = evaluate(Labels(), rows, [Answer(rows[0]["label"], 1.0)], {})
    low, high = evaluation.intervals["accuracy"]
    assert evaluation.scores["accuracy"] == 1 and high == 1 and low < 0.3


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(LuthierError, match="no row"):
        evaluate(Labels(), [], [], {})
    with pytest.raises(LuthierError, match="1 trivial answers for 2 rows"):
        rows = label_rows(2)
        evaluate(Labels(), rows, [Answer("positive", 1)] * 2, {"trivial": [Answer("positive", 1)]})


def test_a_baseline_that_answered_some_rows_is_paired_on_these_alone():
    """As if only they had been scored; its test is corrected with the others', its number of rows told."""
    task, rows = Labels(["a", "b"]), label_rows(120, labels=["a", "b"])
    tuned, other = right_with(0.9, rows, task.labels, 1), right_with(0.5, rows, task.labels, 2)
    places = list(range(1, 120, 3))
    part = Part(places, [other[i] for i in places])
    found = evaluate(task, rows, tuned, {"trivial": other}, parts={"few-shot": part})
    alone = evaluate(task, [rows[i] for i in places], [tuned[i] for i in places], {"few-shot": part.answers})
    assert found.baselines["few-shot"] == alone.baselines["few-shot"]
    assert found.differences["few-shot"] == alone.differences["few-shot"]
    assert found.asked == {"few-shot": 40} and found.rows == 120 and set(found.tests) == {"trivial", "few-shot"}
    single = {**evaluate(task, rows, tuned, {"trivial": other}).tests, **alone.tests}
    assert found.tests == holm(single) != single
    assert found.tuned_beside("few-shot", "accuracy") == pytest.approx(alone.scores["accuracy"])
    assert found.tuned_beside("trivial", "accuracy") == found.scores["accuracy"] != alone.scores["accuracy"]
    whole = evaluate(task, rows, tuned, {"trivial": other}, parts={"few-shot": Part(range(120), other)})
    assert whole.asked == {} and whole.differences["few-shot"] == whole.differences["trivial"]
    assert Evaluation.from_json(json.loads(json.dumps(found.as_json()))) == found
