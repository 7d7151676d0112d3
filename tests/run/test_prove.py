"""What is found of a run beside its scores."""

from __future__ import annotations

import pytest

from luthier.evidence.scores.score import Evaluation
from luthier.run.found import ending_findings
from luthier.run.rivals import alike
from luthier.tasks import TASKS


@pytest.mark.parametrize(("ended", "found"), [(0.0, True), (0.79, True), (0.8, False), (1.0, False), (None, False)])
def test_answers_that_are_cut_off_are_a_warning(ended: float | None, found: bool) -> None:
    task = TASKS["generation"](TASKS["generation"].Options(max_new_tokens=40))
    scores = {} if ended is None else {"ended": ended}
    findings = ending_findings(Evaluation("generation", 9, 9, scores, {}), task)
    assert [finding.id for finding in findings] == ["cut-off"] * found
    if found:
        assert "cut off after 40 tokens" in findings[0].sentence and "task.max_new_tokens" in findings[0].remedy


def test_likelihoods_of_two_runs_are_not_held_against_each_other():
    """Each is that of its own tokenizer's tokens; answers that were written out are held against each other."""
    told, written = {"quality": 0.1}, {"quality": 0.1, "ended": True}
    assert not alike(TASKS["pretraining"], [told]) and not alike(TASKS["generation"], [written, told])
    assert alike(TASKS["generation"], [written, written]) and alike(TASKS["classification"], [told])
