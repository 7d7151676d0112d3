"""B34 with some of the mistakes: benchmarks/trust/mistakes.py has all of them."""

from __future__ import annotations

import mistaken
import mistakes
import pytest
from bars import hold


def test_what_people_get_wrong_ends_in_a_few_lines_that_help() -> None:
    outcome = hold(mistakes.BAR, 20, seed=2)
    assert len(outcome.trials) == 20
    assert outcome.passed, outcome.faults


def test_there_are_sixty_mistakes_over_all_verbs() -> None:
    verbs = {one.arguments[0] for one in mistaken.MISTAKES}
    assert len({one.name for one in mistaken.MISTAKES}) == len(mistaken.MISTAKES) >= 60
    assert verbs >= {"train", "check", "new", "models", "predict", "evaluate", "resume", "compare", "preview", "ladder"}


@pytest.mark.parametrize("twin", mistakes.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(mistakes.BAR, 9 if twin == "weights-first" else 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
