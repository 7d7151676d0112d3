"""Staged situations of benchmarks/situations.py, the cheapest of them: each fault beside its healthy twin."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import situations
from situations import SITUATIONS, Stage, Told

QUICK = ("leaked", "miscalibrated")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"))


@pytest.mark.parametrize("name", QUICK)
def test_the_word_and_what_decides_are_right_and_the_twin_is_healthy(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(situations, "TRAIN", 600)
    (asked,) = (one for one in SITUATIONS if one.name == name)
    for strength in (1.0, 0.0):
        told = situations.tell(stage, asked, 0, strength)
        assert not told.fault(asked), (told.word, told.because, told.fault(asked))


def test_what_is_wrong_is_noticed() -> None:
    (asked,) = (one for one in SITUATIONS if one.name == "leaked")
    right = Told("leaked", 0, 1.0, "do not use it", ("leakage",), (("leakage", "blocker"),), 0.0)
    assert not right.fault(asked)
    assert "says use it" in Told("leaked", 0, 1.0, "use it", ("leakage",), (), 0.0).fault(asked)
    assert "does not decide" in Told("leaked", 0, 1.0, "do not use it", ("overfit",), (), 0.0).fault(asked)
    assert "raises leakage" in Told("leaked", 0, 0.0, "use it", (), (("leakage", "blocker"),), 0.0).fault(asked)
    (good,) = (one for one in SITUATIONS if one.name == "fine")
    assert Told("fine", 0, 0.0, "use it", (), (("beats-classical", "note"),), 0.0).fault(good)


def test_there_are_ten_and_each_has_its_own_finding() -> None:
    assert len(SITUATIONS) == 10 and len({one.finding for one in SITUATIONS}) == 10
