"""Weights, removals and copies that make group and label independent."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

import bias_cases
from luthier.errors import InputError
from luthier.evidence.bias.corrections import counterfactuals, groups_of, labels_of, removed, reweighted
from luthier.evidence.bias.terms import read_terms
from luthier.records import Row
from luthier.tasks import TASKS

FORM = TASKS["classification"].form
ROWS = [Row(row["id"], row) for row in bias_cases.planted(500)]
GROUPS, LABELS = [row["who"] for row in ROWS], [row["label"] for row in ROWS]


def odds(groups: list[str], labels: list[str], weights: np.ndarray) -> float:
    """How far P(g, y) is from P(g) P(y), at most."""
    total, cells = weights.sum(), Counter()
    for group, label, weight in zip(groups, labels, weights):
        cells[group, label] += weight / total
    marginal = {g: sum(v for (a, _), v in cells.items() if a == g) for g in set(groups)}
    label_share = {y: sum(v for (_, b), v in cells.items() if b == y) for y in set(labels)}
    return max(abs(cells[g, y] - marginal[g] * label_share[y]) for g in marginal for y in label_share)


def test_weights_make_group_and_label_independent() -> None:
    weights = reweighted(GROUPS, LABELS)
    assert odds(GROUPS, LABELS, np.ones(len(ROWS))) > 0.1
    assert odds(GROUPS, LABELS, weights) < 1e-12
    assert weights.mean() == pytest.approx(1.0)
    some = ["" if i % 5 == 0 else g for i, g in enumerate(GROUPS)]
    assert set(reweighted(some, LABELS)[::5]) == {1.0}


def test_removal_leaves_the_same_shares() -> None:
    kept = removed(GROUPS, LABELS, seed=1)
    assert kept == sorted(set(kept)) == removed(GROUPS, LABELS, seed=1) != removed(GROUPS, LABELS, seed=2)
    some = [GROUPS[i] for i in kept], [LABELS[i] for i in kept]
    assert odds(*some, np.ones(len(kept))) < 0.01
    assert 0.3 < len(kept) / len(ROWS) < 0.6
    with pytest.raises(InputError, match="no training row of the group"):
        removed(["a", "a", "b"], ["x", "y", "x"], 0)


def test_counterfactuals_have_the_other_group_and_the_same_label(tmp_path) -> None:
    (tmp_path / "t.yaml").write_text(bias_cases.TERMS)
    axes = read_terms(tmp_path / "t.yaml").axes
    made = counterfactuals(ROWS, FORM, axes)
    assert len(made) == len({row.id for row in made}) == len(ROWS)
    by_id = {row.id: row for row in ROWS}
    for row in made:
        origin = by_id[row["made_from"]]
        assert row["label"] == origin["label"] and row["text"] != origin["text"]
        assert groups_of([row], FORM, axes[0]) == [{"female": "male", "male": "female"}[origin["who"]]]
    assert groups_of(ROWS, FORM, axes[0]) == GROUPS == groups_of(ROWS, FORM, "who")
    assert groups_of([Row("1", {"text": "anna met ben"}), Row("2", {"text": "rain"})], FORM, axes[0]) == ["", ""]


def test_what_stands_for_a_label() -> None:
    spans = TASKS["question-answering"].form
    rows = [Row("1", {"answers": []}), Row("2", {"answers": [{"text": "x", "start": 0}]})]
    assert labels_of(rows, spans) == ["no answer", "an answer"]
    from luthier.tasks.regression import Regression

    number = Regression(Regression.Options(problem_type="regression")).form
    draw = random.Random(0)
    bands = Counter(labels_of([Row(str(i), {"score": draw.random()}) for i in range(100)], number))
    assert len(bands) == 4 and set(bands.values()) == {25}
    with pytest.raises(InputError, match="no label"):
        labels_of([Row("1", {"messages": [], "answer": "x"})], TASKS["generation"].form)
