"""Rows held against answers of models that have not seen them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from luthier.evidence.soundness import Curve, contradicted, learning_curve
from luthier.evidence.soundness.doubts import Doubt, Doubts
from luthier.records import Answer, Row
from luthier.tasks import TASKS, Task

BY = "the recipe's own model"


def made(name: str, **settings: Any) -> Task:
    return TASKS[name](TASKS[name].Options(**settings))


def named(task: Task, rows: list[Row], answers: list[Answer], cheap: Doubts | None = None) -> list[Doubt]:
    found = contradicted(task, rows, answers, BY, cheap)
    assert found is not None and found.ranked_by == BY and found.looked_at == len(rows)
    return list(found.rows)


def test_labels_that_probabilities_speak_against_come_by_margin() -> None:
    rows = [Row(str(n), {"text": "t", "label": "ab"[n % 2]}, "f.csv", n + 2) for n in range(200)]
    answers = []
    for n in range(200):
        own = {5: 0.02, 8: 0.1, 11: 0.45}.get(n, 0.9)
        told = {"a": own, "b": 1 - own} if n % 2 == 0 else {"a": 1 - own, "b": own}
        answers.append(Answer(max(told, key=told.__getitem__), max(told.values()), {"probabilities": told}))
    doubts = named(made("classification"), rows, answers)
    # 0.55 for the other label is less than that label usually has among its own rows.
    assert [(d.id, d.given, d.expected, d.line) for d in doubts] == [("5", "b", "a", 7), ("8", "a", "b", 10)]
    assert doubts[0].given_share == pytest.approx(0.02)


def test_a_label_that_no_model_knows_is_not_judged() -> None:
    rows = [Row(str(n), {"text": "t", "label": "rare" if n == 4 else "ab"[n % 2]}) for n in range(150)]
    told = lambda n: {"a": 0.9, "b": 0.1} if n % 2 == 0 else {"a": 0.1, "b": 0.9}
    answers = [
        Answer("ab"[n % 2], 0.9, {"probabilities": told(n) | ({"rare": 0.0} if n % 3 else {})}) for n in range(150)
    ]
    assert named(made("classification"), rows, answers) == []


def test_one_of_several_labels() -> None:
    rows = [Row(str(n), {"text": "t", "labels": ["a"] if n % 2 else ["a", "b"]}) for n in range(120)]
    chance = lambda n: {"a": 0.95, "b": 0.03 if (n == 6 or n % 2) else 0.97}
    answers = [Answer(["a"], 0.9, {"probabilities": chance(n)}) for n in range(120)]
    doubts = named(made("classification", problem_type="multi_label_classification"), rows, answers)
    assert [(d.id, d.given, d.expected) for d in doubts] == [("6", "b", "without b")]


def test_numbers_far_outside_the_others_errors() -> None:
    draw = random.Random(0)
    rows = [Row(str(n), {"text": "t", "score": n % 5 + (9.0 if n == 30 else 0.0)}) for n in range(150)]
    answers = [Answer(n % 5 + draw.gauss(0, 0.5), 0.9) for n in range(150)]
    doubts = named(made("classification", problem_type="regression"), rows, answers)
    assert [d.id for d in doubts] == ["30"] and doubts[0].given == "9" and doubts[0].given_share < 0.001


def test_answers_without_a_word_in_common_said_with_confidence() -> None:
    rows = [Row(str(n), {"question": "q", "context": "in old Rome", "answers": _span(n)}) for n in range(120)]
    said = {3: ("in", 0.95), 4: ("in", 0.4), 6: ("", 0.9), 7: ("old Rome", 0.99), 10: ("Rome", 0.97)}
    answers = [Answer(*said.get(n, ("Rome" if n % 10 else "", 0.8))) for n in range(120)]
    doubts = named(made("question-answering"), rows, answers)
    assert [(d.id, d.given, d.expected) for d in doubts] == [
        ("10", "no answer", "Rome"),  # though there is none
        ("3", "Rome", "in"),
        ("6", "Rome", "no answer"),
    ]


def _span(n: int) -> list[dict[str, Any]]:
    return [{"text": "Rome", "start": 7}] if n % 10 else []


def test_tags_that_are_not_the_same() -> None:
    rows = [Row(str(n), {"tokens": ["Ada", "sang"], "tags": ["O" if n == 9 else "B-person", "O"]}) for n in range(110)]
    answers = [Answer(["B-person", "O"], 0.9) for _ in rows]
    doubts = named(made("token-classification"), rows, answers)
    assert [(d.id, d.given, d.expected) for d in doubts] == [("9", "no entity", "Ada: person")]


def test_how_many_are_wrong_is_what_the_cheap_model_says() -> None:
    rows = [Row(str(n), {"text": "t", "label": "ab"[n % 2]}) for n in range(200)]
    sure = lambda right, other: {right: 0.99, other: 0.01}
    told = ["ab" if (n % 2 == 0) == (n % 10 > 1) else "ba" for n in range(200)]
    # Sure of itself, and wrong in a fifth: nothing that may raise an alarm.
    answers = [Answer(one[0], 0.99, {"probabilities": sure(*one)}) for one in told]
    cheap = Doubts((Doubt("1", "", 0, "b", "a", 0.1, 0.9),), 200, 20, 1, 0.9, 0.5)
    found = contradicted(made("classification"), rows, answers, BY, cheap)
    assert found is not None and len(found.rows) == 40 and found.rate == cheap.rate and found.tells == cheap.tells
    assert f"worth a second look to {BY}" in found.finding().sentence and found.as_json()["by"] == BY
    alone = contradicted(made("classification"), rows, answers, BY, None)
    assert alone is not None and alone.finding().severity == "note" and "is not told" in alone.finding().sentence


def test_what_cannot_be_held_against_answers_is_left_to_the_cheap_model() -> None:
    cheap = Doubts((), 200, 20, 1)
    rows = [Row(str(n), {"source": "a", "target": "b"}) for n in range(200)]
    assert contradicted(made("seq2seq"), rows, [Answer("b", 1.0)] * 200, BY, cheap) is cheap
    labelled = [Row(str(n), {"text": "a", "label": "b"}) for n in range(200)]
    without = [Answer("b", 1.0)] * 200  # no probabilities
    assert contradicted(made("classification"), labelled, without, BY, cheap) is cheap
    assert contradicted(made("classification"), labelled[:50], [Answer("b", 1.0)] * 50, BY, None) is None


def test_a_curve_of_another_learner() -> None:
    """It is asked three times a fold, about rows of other folds alone, and called by its name."""

    class Learner:
        called, by, folds = "tiny, lora", BY, 3

        def __init__(self) -> None:
            self.asked: list[tuple[int, int]] = []

        def answers(self, fit: Any, asked: Any) -> list[Answer]:
            assert not set(fit.tolist()) & set(np.flatnonzero(asked).tolist())
            self.asked.append((len(fit), int(asked.sum())))
            right = len(fit) / 240  # as if it learned in proportion
            return [Answer("ab"[(i % 2) ^ (i % 100 >= 100 * right)], 0.9) for i in np.flatnonzero(asked)]

    rows = [Row(str(n), {"text": "t", "label": "ab"[n % 2]}) for n in range(300)]
    learner = Learner()
    curve = learning_curve(made("classification"), rows, range(300), None, 0, learner)
    assert curve is not None and [count for count, _ in curve.points] == [50, 100, 200]
    assert len(learner.asked) == 9 and sum(asked for _, asked in learner.asked) == 900
    scores = [score for _, score in curve.points]
    assert scores[0] < scores[1] < scores[2]
    assert f"{BY} (tiny, lora) reaches" in curve.finding().sentence and curve.as_json()["by"] == BY


def test_a_loss_that_falls_is_called_so() -> None:
    curve = Curve("loss", "tiny, full", ((20, 5.6), (40, 5.3), (80, 4.9)), 0.38, (0.4, 0.3, 0.5), BY)
    assert "Twice as many rows would lower it by about 0.38." in curve.finding().sentence
    rising = Curve("macro_f1", "tiny, full", ((20, 0.5), (40, 0.6), (80, 0.68)), 0.06, (0.08, 0.04, 0.1))
    assert "would add about 6.0 points for that model" in rising.finding().sentence
