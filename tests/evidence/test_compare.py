"""Runs side by side."""

import json
from dataclasses import replace

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


def counted(name, pairs, groups=None):
    """A run with (due, given) of 0 or 1 for each row, scored by F1 of the ones, which is no mean of rows."""
    counts = {id: np.array([due * given, due, given], dtype=float) for id, (due, given) in pairs.items()}
    quality = {id: float(due == given) for id, (due, given) in pairs.items()}

    def scores(sums):
        return {"macro_f1": 2 * sums[..., 0] / (sums[..., 1] + sums[..., 2])}

    score = float(scores(sum(counts.values()))["macro_f1"])
    evaluation = Evaluation("classification", len(pairs), len(pairs), {"macro_f1": score}, {"macro_f1": (0.0, 1.0)})
    same = dict.fromkeys(pairs, "same")
    return Contender(
        name, "classification", "macro_f1", evaluation, quality, same, groups, counts=counts, scores=scores
    )


def test_the_difference_is_of_the_score_beside_it():
    random = np.random.default_rng(0)
    due = random.random(300) < 0.2
    tell = lambda wrong: {f"r{i}": (int(d), int(d != (random.random() < wrong))) for i, d in enumerate(due)}
    first, second = counted("one", tell(0.2)), counted("two", tell(0.1))
    found = compare([first, second])
    one, two = found.runs
    assert found.difference_of == found.as_json()["difference_of"] == "macro_f1"
    assert two.difference[0] == pytest.approx(two.score - one.score)
    by_quality = np.mean(list(second.quality.values())) - np.mean(list(first.quality.values()))
    assert abs(two.difference[0] - by_quality) > 0.05, "the two are told apart"
    assert two.difference[1] < two.difference[0] < two.difference[2]
    assert compare([first, first]).runs[1].difference == (0.0, 0.0, 0.0)


def test_where_one_run_cannot_be_counted_all_are_held_by_quality():
    random = np.random.default_rng(0)
    pairs = {f"r{i}": (int(random.random() < 0.5), int(random.random() < 0.5)) for i in range(60)}
    plain = replace(counted("plain", pairs), counts=None, scores=None)
    found = compare([counted("one", pairs), counted("two", pairs), plain])
    assert found.difference_of == "quality" and all(run.difference[0] == 0 for run in found.runs[1:])


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
