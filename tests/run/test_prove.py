"""What is found of a run beside its scores."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from luthier.evidence.scores.score import Evaluation, evaluate
from luthier.records import Answer, Finding, Row
from luthier.run.found import ending_findings, told_unseen
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


def test_test_rows_seen_in_training_come_with_the_score_on_the_others() -> None:
    task = TASKS["classification"](TASKS["classification"].Options())
    rows = [Row(str(i), {"text": f"text {i}", "label": "ab"[i % 2]}) for i in range(40)]
    task.learn(rows)
    given = [Answer(row["label"] if i < 30 else "b", 0.9) for i, row in enumerate(rows)]
    splits = {"train": [], "validation": [], "test": rows}
    data = SimpleNamespace(group_by=None)
    proof = SimpleNamespace(
        task=task,
        prepared=SimpleNamespace(splits=splits),
        answers={"test": given},
        recipe=SimpleNamespace(data=data, seed=0),
    )
    leak = Finding("leakage", "blocker", "30 test rows have been seen: a; b", {}, tuple(map(str, range(30))))
    evaluation = evaluate(task, rows, given, {})
    other, told = told_unseen([replace(leak, id="overfit"), leak], proof, evaluation)
    assert other.sentence == leak.sentence and told.numbers["unseen_rows"] == 10
    assert told.numbers["unseen"] == pytest.approx(1 / 3) and "macro F1 of 87.3 % cannot be believed" in told.sentence
    assert told.sentence.endswith("on the 10 other rows it is 33.3 %.")
    few = replace(leak, severity="warning")
    (told,) = told_unseen([few], proof, evaluation)
    assert told.sentence.endswith("Its macro F1 is 87.3 %, on the 10 other rows 33.3 %.")
    one, other = replace(leak, rows=tuple(map(str, range(20)))), replace(leak, rows=tuple(map(str, range(20, 30))))
    assert [each.numbers["unseen_rows"] for each in told_unseen([one, other], proof, evaluation)] == [10, 10]
    every = replace(leak, rows=tuple(map(str, range(40))))
    assert told_unseen([every], proof, evaluation) == [every]
