"""What is said of a learning curve, each fault beside its healthy twin."""

import math

import numpy as np
import pytest
from evidence_fakes import curve

from luthier.evidence.learning.overfit import FIT_FINDINGS, fit_findings

FALLING = [0.69, 0.50, 0.38, 0.29, 0.21, 0.15, 0.10, 0.07]
SETTLED = [0.66, 0.50, 0.45, 0.43, 0.425, 0.42, 0.425, 0.42]
RISING = [0.66, 0.50, 0.45, 0.43, 0.48, 0.55, 0.63, 0.72]


def said(points, **facts):
    facts = {"training_rows": 5000, "epochs": len(points) / 2, **facts}
    found = fit_findings(points, **facts)
    assert {finding.id for finding in found} <= FIT_FINDINGS
    return found


def ids(points, **facts):
    return [finding.id for finding in said(points, **facts)]


@pytest.mark.parametrize(
    ("train", "validation", "facts", "expected"),
    [
        (FALLING, SETTLED, {}, ["healthy-fit"]),
        (FALLING, RISING, {}, ["overfit"]),
        (FALLING, RISING, {"kept_step": 400}, ["overfit"]),
        (FALLING, RISING, {"kept_step": 200}, ["overfit-avoided"]),
        ([0.69, 0.6, 0.5, 0.42, 0.36, 0.31], [0.7, 0.61, 0.52, 0.45, 0.4, 0.36], {}, ["underfit"]),
        ([0.69, 0.55, 0.47, 0.44, 0.43, 0.425], [0.7, 0.56, 0.5, 0.475, 0.47, 0.468], {}, ["healthy-fit"]),
        ([0.69, 0.6, 0.5, 0.42, 0.36, 0.31], [0.7, 0.61, 0.52, 0.45, 0.36, 0.37], {}, ["underfit"]),
        ([0.69, 0.3, 0.1, 0.06, 0.04, 0.02], [0.7, 0.31, 0.15, 0.08, 0.07, 0.05], {}, ["healthy-fit"]),
        (FALLING[:5], [0.66, 0.42, 0.5, 0.5, 0.43], {}, ["healthy-fit"]),
        ([0.695, 0.694, 0.693, 0.694], [0.69, 0.69, 0.69, 0.69], {}, ["underfit"]),
        ([0.7, 0.5, 2.1, 5.0], [0.7, 0.5, 2.0, 4.8], {}, ["diverged"]),
        ([0.7, 0.5, 0.4, math.nan], [0.7, 0.5, 0.4, math.nan], {}, ["diverged"]),
        ([0.7, 0.4, 0.09, 0.05, 0.05, 0.08], [0.7, 0.45, 0.13, 0.1, 0.08, 0.16], {}, ["healthy-fit"]),
        (FALLING[:1], SETTLED[:1], {}, ["too-few-points"]),
        (FALLING[:3], SETTLED[:3], {}, ["too-few-points"]),
        (FALLING[:3], [0.5, 0.52, 0.55], {}, ["too-few-points"]),
        (FALLING[:3], [0.5, 0.6, 0.8], {}, ["overfit"]),
        ([], [], {}, ["too-few-points"]),
    ],
)
def test_rules(train, validation, facts, expected):
    assert ids(curve(train, validation), **facts) == expected


def test_words_name_the_step_the_losses_and_what_to_do():
    overfit = said(curve(FALLING, RISING), training_rows=300, epochs=4)[0]
    assert overfit.severity == "warning"
    for words in ("since step 200", "0.430", "0.720", "0.290", "0.070", "step 400"):
        assert words in overfit.sentence
    assert "train.epochs=2" in overfit.remedy and "Label more rows" in overfit.remedy
    assert overfit.numbers["since_step"] == 200
    assert overfit.numbers["gap_at_end"] == pytest.approx(0.65)
    assert "Label more rows" not in said(curve(FALLING, RISING), training_rows=50_000)[0].remedy


def test_a_score_no_better_than_trivial_is_said_whatever_the_points():
    points = curve([0.69, 0.69], [0.69, 0.69], [0.51, 0.52])
    assert ids(points, trivial_score=0.51) == ["learned-nothing"]
    assert ids(points, trivial_score=0.33) == ["too-few-points"]
    assert "51.0 %" in said(points, trivial_score=0.51)[0].sentence


def test_overfit_and_nothing_learned_are_both_said():
    points = curve(FALLING, RISING, [0.5] * 8)
    assert ids(points, trivial_score=0.5) == ["learned-nothing", "overfit"]


def test_noise_around_a_settled_curve_is_not_overfitting():
    random, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        validation = 0.42 + 0.3 * np.exp(-np.arange(12) / 2) + random.normal(0, 0.01, 12)
        train = 0.7 * np.exp(-np.arange(12) / 5)
        alarms += ids(curve(train, validation)) != ["healthy-fit"]
    assert alarms <= 4


def test_overfitting_is_seen_through_noise():
    random, seen = np.random.default_rng(0), 0
    for _ in range(200):
        places = np.arange(12)
        validation = 0.42 + 0.3 * np.exp(-places / 2) + 0.03 * np.maximum(0, places - 5)
        train = 0.7 * np.exp(-places / 5)
        seen += ids(curve(train, validation + random.normal(0, 0.01, 12))) == ["overfit"]
    assert seen >= 196


def test_points_may_lack_numbers_and_come_in_any_order():
    points = curve(FALLING, SETTLED)[::-1]
    points.append({"step": 0, "epoch": 0.0, "train_loss": None, "validation_loss": 0.7, "validation_score": None})
    assert ids(points) == ["healthy-fit"]


def test_no_advice_names_what_was_done():
    nothing = [curve([0.69, 0.69], [0.69, 0.69], [0.5, 0.51]), {"trivial_score": 0.51}]
    flat = [curve([0.695, 0.694, 0.693, 0.694], [0.69] * 4), {}]
    over = [curve(FALLING, RISING), {}]
    for points, facts in (nothing, flat, over):
        for method in ("full", "lora", "frozen"):
            found = fit_findings(points, training_rows=500, epochs=2, method=method, **facts)
            assert found and found[0].severity == "warning"
            words = found[0].remedy.replace(".", " ").split()
            assert all(f"name={method}" not in word for word in words), found[0].remedy
            assert method == "frozen" or method not in words
