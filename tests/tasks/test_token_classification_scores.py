"""Scores of entities are those of seqeval's strict mode, and functions of sums over rows."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
from seqeval import metrics as seqeval

from luthier.records import Answer, Row
from luthier.tasks import TASKS

NAMES = ["a", "loc", "per-son", "日本", "z z"]


def task(types: list[str]) -> Any:
    kind = TASKS["token-classification"]
    made = kind(kind.Options())
    made.learn([Row("0", {"tokens": types, "tags": [f"B-{name}" for name in types]})])
    return made


def tags(draw: random.Random, length: int, names: list[str], wild: bool) -> list[str]:
    """Mostly what makes sense; wild ones also hold an "I-" after anything."""
    out = []
    for _ in range(length):
        kind = draw.choice(names)
        before = out[-1] if out else "O"
        choices = ["O", "O", f"B-{kind}", *([f"I-{before[2:]}"] * 3 if before != "O" else [])]
        out.append(draw.choice([*choices, *([f"I-{kind}"] if wild else [])]))
    return out


def near(draw: random.Random, gold: list[str]) -> list[str]:
    return [tag if draw.random() < 0.8 else draw.choice(["O", tag.replace("B-", "I-"), "B-a"]) for tag in gold]


def case(draw: random.Random) -> tuple[list[list[str]], list[list[str]]]:
    names, wild = draw.sample(NAMES, draw.randint(1, 4)), draw.random() < 0.5
    lengths = [draw.randint(0, 9) for _ in range(draw.randint(1, 8))]
    gold = [["O"] * n if draw.random() < 0.1 else tags(draw, n, names, wild) for n in lengths]
    return gold, [near(draw, g) if draw.random() < 0.7 else tags(draw, len(g), NAMES, wild) for g in gold]


def rows_of(gold: list[list[str]]) -> list[Row]:
    return [Row(str(i), {"tokens": ["x"] * len(g), "tags": g}) for i, g in enumerate(gold)]


def test_scores_are_those_of_seqeval() -> None:
    from seqeval.scheme import IOB2

    draw, empty, wild = random.Random(0), 0, 0
    strict = {"mode": "strict", "scheme": IOB2}
    for _ in range(1000):
        gold, given = case(draw)
        found = task(NAMES[:3]).score(rows_of(gold), [Answer(g, 1.0) for g in given])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = {
                "f1": seqeval.f1_score(gold, given, **strict),
                "precision": seqeval.precision_score(gold, given, **strict),
                "recall": seqeval.recall_score(gold, given, **strict),
            }
        if not found:  # nothing there and nothing found: seqeval says 0, we say nothing
            assert set(wanted.values()) == {0}
            empty += 1
            continue
        assert found == pytest.approx(wanted, abs=1e-12)
        wild += any(tag.startswith("I") for g in given for tag in g[:1])
    assert empty > 10
    assert wild > 100


def test_counts_can_be_summed_over_any_rows() -> None:
    from seqeval.scheme import IOB2

    draw = random.Random(1)
    gold = [tags(draw, 6, NAMES, False) for _ in range(200)]
    given = [near(draw, g) for g in gold]
    subject = task(NAMES)
    counts = subject.counts(rows_of(gold), [Answer(g, 1.0) for g in given])
    drawn = np.random.default_rng(0).integers(0, 200, (10, 200))
    scores = subject.scores(counts[drawn].sum(1))
    for i, sample in enumerate(drawn):
        a, b = [gold[j] for j in sample], [given[j] for j in sample]
        assert scores["f1"][i] == pytest.approx(seqeval.f1_score(a, b, mode="strict", scheme=IOB2), abs=1e-12)


def test_quality_and_rightness_of_rows() -> None:
    gold = [["B-a", "O"], ["O", "O"], ["O", "O"], ["B-a", "I-a"], ["I-a", "O"]]
    given = [["B-a", "O"], ["O", "O"], ["B-a", "O"], ["B-a", "O"], ["O", "O"]]
    rows, answers = rows_of(gold), [Answer(g, 1.0) for g in given]
    subject = task(["a"])
    assert subject.quality(rows, answers).tolist() == [1, 1, 0, 0, 1]
    assert subject.correct(rows, answers).tolist() == [True, True, False, False, True]


def test_tables_count_what_seqeval_counts_and_every_entity_once() -> None:
    from seqeval.scheme import IOB2

    draw = random.Random(2)
    gold = [tags(draw, 8, NAMES, False) for _ in range(150)]
    given = [near(draw, g) for g in gold]
    rows, answers = rows_of(gold), [Answer(g, 1.0) for g in given]
    by_type, outcomes = task(NAMES).tables(rows, answers)
    report = seqeval.classification_report(gold, given, mode="strict", scheme=IOB2, output_dict=True)
    assert [line[0] for line in by_type.rows] == sorted(NAMES)
    for name, due, _, precision, recall, f1 in by_type.rows:
        wanted = report[name]
        assert due == wanted["support"]
        expected = [round(float(wanted[key]), 4) for key in ("precision", "recall", "f1-score")]
        assert [precision, recall, f1] == expected
    counted = dict(outcomes.rows)
    num_due, num_given = (sum(line[i] for line in by_type.rows) for i in (1, 2))
    assert sum(n for what, n in counted.items() if what != "invented") == num_due
    assert sum(n for what, n in counted.items() if what != "missed") == num_given
    assert counted["right"] == sum(round(line[1] * line[4]) for line in by_type.rows)
    assert min(counted.values()) > 0
