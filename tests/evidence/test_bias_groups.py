"""Scores by group: fairlearn's, with intervals that hold what they promise."""

from __future__ import annotations

import math
from typing import Any

import fairlearn.metrics as fairness
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from luthier.errors import InputError
from luthier.evidence.bias.findings import group_finding
from luthier.evidence.bias.groups import Grouped, audit_groups, newcombe
from luthier.records import Answer, Row
from luthier.tasks import TASKS

FORM = TASKS["classification"].form


def case(count: int, gap: float, seed: int, groups: tuple[str, ...] = ("a", "b"), **changes: Any) -> Grouped:
    """Rows of some groups; the first is answered right less often by `gap`."""
    draw = np.random.default_rng(seed)
    rows, answers = [], []
    for i in range(count):
        who, label = str(draw.choice(groups)), str(draw.choice(["no", "yes"]))
        right = draw.random() < 0.85 - (gap if who == groups[0] else 0)
        given = label if right else {"no": "yes", "yes": "no"}[label]
        rows.append(Row(str(i), {"text": "x", "label": label, "who": who}))
        answers.append(Answer(given, 0.9))
    return audit_groups("who", rows, answers, FORM, [1.0] * count, None, seed, **changes)


def test_rates_and_gaps_are_fairlearns() -> None:
    draw = np.random.default_rng(0)
    count = 400
    who = draw.choice(["a", "b", "c"], count)
    gold, given = draw.choice(["no", "yes"], count), draw.choice(["no", "yes"], count)
    rows = [Row(str(i), {"text": "x", "label": str(g), "who": str(w)}) for i, (g, w) in enumerate(zip(gold, who))]
    found = audit_groups("who", rows, [Answer(str(g), 1.0) for g in given], FORM, [1.0] * count, None, 0)
    rates = {
        "accuracy": accuracy_score,
        "true_positive_rate": lambda y, p: fairness.true_positive_rate(y, p, pos_label="yes"),
        "false_positive_rate": lambda y, p: fairness.false_positive_rate(y, p, pos_label="yes"),
        "selection_rate": lambda y, p: fairness.selection_rate(y, p, pos_label="yes"),
    }
    frame = fairness.MetricFrame(metrics=rates, y_true=gold, y_pred=given, sensitive_features=who)
    seen = 0
    for rate in found.rates:
        assert rate.value == pytest.approx(frame.by_group[rate.metric][rate.group], abs=1e-12)
        assert rate.low <= rate.value <= rate.high
        seen += 1
    assert seen == 12
    widest = frame.difference(method="between_groups")
    for gap in found.gaps:
        assert gap.value == pytest.approx(widest[gap.metric], abs=1e-12)
    assert {gap.metric for gap in found.gaps} == set(rates)


def test_a_gap_is_found_and_its_absence_too() -> None:
    """An even model has a gap beyond chance in one audit of twenty (7 of 150 seeds); an uneven one always."""
    false = sum(any(gap.told for gap in case(300, 0.0, seed).gaps) for seed in range(12))
    found = sum(any(gap.told for gap in case(300, 0.35, seed).gaps) for seed in range(12))
    assert false <= 2 and found == 12


def test_severity_of_a_gap() -> None:
    uneven = group_finding(case(800, 0.4, 1), "runs/1")
    assert (uneven.id, uneven.severity) == ("group-gap", "blocker")
    assert "luthier audit runs/1 --groups who --correct reweighting" in uneven.remedy
    assert group_finding(case(800, 0.0, 1), "r").id == "groups-even"
    assert group_finding(case(12, 0.4, 1), "r").id == "groups-too-small"


def test_a_few_rows_fool_nobody() -> None:
    """Ten rows all right beside ten of which seven are: the bootstrap of the ten sees no doubt, Newcombe does."""
    low, high = newcombe(1.0, 10, 0.7, 10)
    assert low < 0.05 and high > 0.5
    assert newcombe(0.7, 80, 56 / 80 - 8 / 80, 80) == pytest.approx((-0.0466, 0.2415), abs=0.01)


def test_several_labels_and_one_positive() -> None:
    found = case(200, 0.1, 0, positive="no")
    assert {rate.label for rate in found.rates} == {"", "no"}
    with pytest.raises(InputError, match='label "maybe"'):
        case(200, 0.1, 0, positive="maybe")
    assert [rate.rows for rate in found.rates if rate.metric == "accuracy"] == list(found.groups.values())


def test_a_column_that_is_no_group() -> None:
    with pytest.raises(InputError, match="only one value"):
        case(50, 0.0, 0, groups=("a",))
    with pytest.raises(InputError, match="at most 20"):
        case(500, 0.0, 0, groups=tuple(map(str, range(30))))


def test_rates_without_rows_are_not_numbers() -> None:
    rows = [
        Row(str(i), {"text": "x", "label": "yes" if i < 20 else "no", "who": "a" if i < 20 else "b"}) for i in range(40)
    ]
    found = audit_groups("who", rows, [Answer("yes", 1.0)] * 40, FORM, [1.0] * 40, None, 0)
    by = {(rate.group, rate.metric): rate.value for rate in found.rates}
    assert math.isnan(by["b", "true_positive_rate"]) and math.isnan(by["a", "false_positive_rate"])
    assert by["a", "true_positive_rate"] == by["b", "false_positive_rate"] == 1.0


def test_other_tasks_by_their_quality_and_numbers_by_their_error() -> None:
    from luthier.tasks.regression import Regression

    rows = [Row(str(i), {"question": "q", "context": "c", "answers": [], "who": "ab"[i % 2]}) for i in range(60)]
    quality = [float(i % 2) for i in range(60)]
    found = audit_groups("who", rows, [Answer("", 1.0)] * 60, TASKS["question-answering"].form, quality, None, 0)
    assert [(gap.metric, gap.highest, gap.value) for gap in found.gaps] == [("quality", "b", 1.0)]
    form = Regression(Regression.Options(problem_type="regression")).form
    numbers = [Row(str(i), {"text": "x", "score": float(i % 7), "who": "ab"[i % 2]}) for i in range(60)]
    answers = [Answer(row["score"] + (3.0 if row["who"] == "a" else 0.5), 1.0) for row in numbers]
    found = audit_groups("who", numbers, answers, form, quality, None, 0)
    error = next(gap for gap in found.gaps if gap.metric == "mean_absolute_error")
    assert (error.highest, error.value) == ("a", pytest.approx(2.5)) and error.told
