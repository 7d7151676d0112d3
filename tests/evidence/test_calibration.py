"""Calibration on made answers: perfect, overconfident, few, all alike."""

import numpy as np
import pytest

from luthier.evidence.scores.calibration import calibrate, calibration_finding, cooled, temperature
from luthier.records import Answer


def answered(confidence):
    return [Answer("x", float(value)) for value in confidence]


def test_perfect_calibration_is_within_chance():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 4000)
    calibration = calibrate(answered(confidence), random.random(4000) < confidence)
    assert calibration.ece < 0.025
    assert calibration.ece < 1.3 * calibration.chance
    assert calibration_finding(calibration).id == "calibrated"
    assert [one.count for one in calibration.bins] == [400] * 10


def test_a_model_always_sure_and_right_six_times_in_ten():
    right = np.arange(1000) % 10 < 6
    calibration = calibrate(answered(np.full(1000, 0.95)), right)
    assert calibration.ece == pytest.approx(0.35)
    assert len(calibration.bins) == 1
    finding = calibration_finding(calibration)
    assert finding.id == "overconfident" and finding.severity == "warning"
    assert finding.numbers == {"rows": 1000, "ece": calibration.ece, "chance": calibration.chance}
    assert "95 %" in finding.sentence and "60 %" in finding.sentence


def test_a_model_that_knows_more_than_it_says():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.4, 0.6, 1000)
    assert calibration_finding(calibrate(answered(confidence), random.random(1000) < 0.9)).id == "underconfident"


def test_known_error_by_hand():
    calibration = calibrate(answered([0.2, 0.2, 0.9, 0.9]), np.array([False, True, True, True]), bins=2)
    assert [(one.count, one.accuracy) for one in calibration.bins] == [(2, 0.5), (2, 1.0)]
    assert calibration.ece == pytest.approx((0.3 + 0.1) / 2)


def test_few_rows_say_nothing():
    assert calibration_finding(calibrate(answered([1.0] * 20), np.zeros(20, dtype=bool))) is None
    assert calibrate([], np.zeros(0, dtype=bool)).rows == 0


def test_a_temperature_from_some_rows_mends_the_confidence_of_others():
    random = np.random.default_rng(4)
    honest = random.random(4000) * 0.5 + 0.5
    right = random.random(4000) < honest
    odds = np.log(honest / (1 - honest))
    sure = 1 / (1 + np.exp(-3 * odds))  # three times too sure of itself
    answers = [Answer("a", float(one)) for one in sure]
    by = temperature(answers[:2000], right[:2000])
    assert 2.6 < by < 3.4
    before, after = calibrate(answers[2000:], right[2000:]), calibrate(cooled(answers[2000:], by), right[2000:])
    assert after.ece < before.ece / 3 and after.accuracy == before.accuracy
    told = calibration_finding(before, by, after)
    assert told is not None and told.numbers["temperature"] == by and "temperature" in told.remedy
    assert temperature(answers[:10], right[:10]) == 1.0


def test_few_rows_in_many_bins_do_not_hide_that_all_are_wrong():
    """52 answers at 17 %, none of them right: each bin of five may be so by chance, all together may not."""
    calibration = calibrate(answered(np.linspace(0.12, 0.22, 52)), np.zeros(52, dtype=bool))
    assert calibration.ece <= calibration.chance and calibration.off
    assert calibration_finding(calibration).id == "overconfident"
    some = calibrate(answered(np.linspace(0.12, 0.22, 52)), np.arange(52) % 6 == 0)
    assert not some.off and "as far as 52 rows can tell" in calibration_finding(some).sentence
