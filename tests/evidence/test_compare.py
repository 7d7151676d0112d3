"""Runs side by side."""

import json

import numpy as np
import pytest

from luthier.evidence.scores.compare import Contender, compare
from luthier.evidence.scores.score import Evaluation


def contender(name, quality, hashes=None, task="classification", groups=None):
    score = float(np.mean(list(quality.values()))) if quality else 0.5
    evaluation = Evaluation(
        task, len(quality), len(quality), {"macro_f1": score}, {"macro_f1": (score - 0.1, score + 0.1)}
    )
    hashes = hashes or dict.fromkeys(quality, "same")
    return Contender(
        name, task, "macro_f1", evaluation, quality, hashes, groups, "use it", 460_000, 48.0, 1_700_000_000
    )


def right(share, rows=200, seed=0):
    random = np.random.default_rng(seed)
    return {f"r{place}": float(random.random() < share) for place in range(rows)}


def test_a_better_run_is_told_from_the_first_on_the_same_rows():
    one = right(0.6)
    two = {id: 1.0 if place % 4 == 0 else value for place, (id, value) in enumerate(one.items())}
    compared = compare([contender("one", one), contender("two", dict(reversed(two.items())))])
    first, second = compared.runs
    assert first.difference is None and first.not_comparable == ""
    mean, low, high = second.difference
    assert mean == pytest.approx(np.mean(list(two.values())) - np.mean(list(one.values())))
    assert 0 < low < mean < high
    assert json.loads(json.dumps(compared.as_json()))["runs"][1]["difference"] == [mean, low, high]


def test_runs_on_other_rows_are_not_compared():
    base = right(0.6)
    changed = contender("changed", base, {id: "same" if id != "r7" else "edited" for id in base})
    fewer = contender("fewer", {id: base[id] for id in list(base)[:150]})
    other = contender("other", base, task="question-answering")
    _, *runs = compare([contender("one", base), changed, fewer, other, contender("none", {})]).runs
    assert all(run.difference is None for run in runs)
    assert "1 test rows have other content" in runs[0].not_comparable
    assert "150 of 200" in runs[1].not_comparable
    assert "another task" in runs[2].not_comparable
    assert "no scored test rows" in runs[3].not_comparable


def test_groups_are_drawn_whole():
    one = {f"r{place}": 0.0 for place in range(200)}
    two = {f"r{place}": float((place // 20) % 2) for place in range(200)}
    groups = {f"r{place}": place // 20 for place in range(200)}
    alone = compare([contender("one", one), contender("two", two)]).runs[1].difference
    together = compare([contender("one", one, groups=groups), contender("two", two, groups=groups)]).runs[1].difference
    assert together[2] - together[1] > 3 * (alone[2] - alone[1])


def test_nothing_to_compare():
    with pytest.raises(ValueError, match="at least one"):
        compare([])
