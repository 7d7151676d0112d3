"""B35 with one failure of each kind: benchmarks/trust/doctor.py has the full number."""

from __future__ import annotations

import doctor
import pytest
from bars import hold

from luthier.cli.bundle import LEFT_OUT, redacted, without_rows


def test_after_a_failure_one_file_tells_all_and_no_secret() -> None:
    outcome = hold(doctor.BAR, len(doctor.KINDS), seed=2)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", doctor.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(doctor.BAR, 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)


def test_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "plain-words-1")
    for text in ("x plain-words-1 y", "x AKIAIOSFODNN7EXAMPLE y", "x hf_QxDuzKyvRtMbLpWs y"):
        assert redacted(text) == f"x {LEFT_OUT} y"
    assert (
        redacted("luthier train recipe.yaml --set train.epochs=2") == "luthier train recipe.yaml --set train.epochs=2"
    )
    assert without_rows("""the label "a film's end" isn't 'known'""") == f'the label "{LEFT_OUT}" isn\'t "{LEFT_OUT}"'
