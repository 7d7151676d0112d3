"""Before anything is trained: label rates of groups, lengths by label, scripts of splits, near copies."""

from __future__ import annotations

import random
from typing import Any

import pytest

from luthier.data import units_and_copies
from luthier.errors import InputError
from luthier.evidence.bias.label_rates import group_rates, rate_findings
from luthier.evidence.soundness import balance, near_copies, soundness_tables
from luthier.records import Row
from luthier.tasks import TASKS

FORM = TASKS["classification"].form
SEVERAL = {"problem_type": "multi_label_classification"}


def grouped(rates: dict[str, float], count: int = 300, seed: int = 0) -> list[Row]:
    """So many rows of each group, with the label "yes" on that share of them."""
    draw, out = random.Random(seed), list[Row]()
    for name, rate in rates.items():
        for n in range(count):
            label = "yes" if n < rate * count else "no"
            text = " ".join(draw.sample([f"w{i}" for i in range(300)], 8))
            out.append(Row(f"{name}{n}", {"text": text, "label": label, "who": name}))
    return out


def test_label_rates_are_counted_and_a_difference_beyond_chance_is_told() -> None:
    rows = grouped({"a": 0.6, "b": 0.4})
    found = group_rates("who", [*rows, Row("x", {"text": "t", "label": "no", "who": " "})], FORM, None)
    assert found.groups == {"a": 300, "b": 300} and found.missing == 1
    assert [(rate.group, rate.label, rate.value) for rate in found.rates] == [("a", "yes", 0.6), ("b", "yes", 0.4)]
    assert all(0.04 < rate.high - rate.value < 0.07 for rate in found.rates)
    (finding,) = rate_findings(found)
    assert finding.id == "label-rates" and finding.severity == "warning"
    assert 'share of "yes" is 60.0 % in a (300 rows) and 40.0 % in b' in finding.sentence
    (even,) = rate_findings(group_rates("who", grouped({"a": 0.5, "b": 0.48}), FORM, None))
    assert even.id == "label-rates-even" and even.severity == "note"


def test_many_groups_are_compared_without_false_alarms() -> None:
    """Twelve groups of one rate are 66 pairs: without correction some pair differs in nearly every draw."""
    alarms = 0
    for seed in range(10):
        draw = random.Random(seed)
        rows = [
            Row(str(n), {"text": "t", "label": draw.choice(["no", "yes"]), "who": f"g{n % 12}"}) for n in range(480)
        ]
        alarms += rate_findings(group_rates("who", rows, FORM, None, seed))[0].id == "label-rates"
    assert alarms <= 1


def test_more_columns_ask_for_more_evidence() -> None:
    rows = grouped({"a": 0.56, "b": 0.44})
    alone, among = (group_rates("who", rows, FORM, None, columns=count).gaps[0] for count in (1, 50))
    assert alone.told and not among.told and alone.value == among.value


def test_copies_count_once() -> None:
    """Ten texts, thirty times each, are ten witnesses and not three hundred."""
    rows = grouped({"a": 0.6, "b": 0.4})
    whose = [n // 30 for n in range(len(rows))]
    assert group_rates("who", rows, FORM, None).gaps[0].told
    assert not group_rates("who", rows, FORM, whose).gaps[0].told


@pytest.mark.parametrize(
    ("task", "settings", "targets", "metric", "values"),
    [
        (
            "classification",
            {"problem_type": "multi_label_classification"},
            (["x", "y"], ["x"]),
            "label_rate",
            (1, 1, 1, 0),
        ),
        ("classification", {"problem_type": "regression"}, (4.0, 1.5), "mean_number", (4.0, 1.5)),
        ("question-answering", {}, ([{"text": "t", "start": 0}], []), "unanswerable_rate", (0, 1)),
        ("token-classification", {}, (["B-person"], ["O"]), "entity_rate", (1, 0)),
        ("seq2seq", {}, ("out", "out"), "", ()),
    ],
)
def test_every_kind_of_target_has_its_rate(task: str, settings: Any, targets: Any, metric: str, values: Any) -> None:
    kind = TASKS[task](TASKS[task].Options(**settings))
    rows = [
        Row(f"{name}{n}", {kind.form.target: target, "tokens": ["t"], "who": name})
        for name, target in zip("ab", targets)
        for n in range(20)
    ]
    found = group_rates("who", rows, kind.form, None)
    assert [rate.value for rate in found.rates] == pytest.approx(list(values))
    assert {rate.metric for rate in found.rates} == ({metric} if metric else set())
    ids = [finding.id for finding in rate_findings(found)]
    assert ids == (["label-rates"] if metric else [])


def test_tiny_groups_are_named_and_columns_that_are_none_refused() -> None:
    rows = [*grouped({"a": 0.5, "b": 0.5}), *grouped({"c": 0.5}, 8)]
    tiny = [one for one in rate_findings(group_rates("who", rows, FORM, None)) if one.id == "group-tiny"]
    assert [one.numbers["groups"] for one in tiny] == [{"c": 8}] and "c (8)" in tiny[0].sentence
    assert not [one for one in rate_findings(group_rates("who", rows[:600], FORM, None)) if one.id == "group-tiny"]
    with pytest.raises(InputError, match="only one value"):
        group_rates("who", rows[:300], FORM, None)
    with pytest.raises(InputError, match="at most 20 groups"):
        group_rates("who", [Row(str(n), {"label": "x", "who": str(n)}) for n in range(30)], FORM, None)


def labelled(sizes: dict[str, tuple[int, int]], count: int = 80, seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    return [
        Row(f"{label}{n}", {"text": "x" * draw.randint(*ends), "label": label})
        for label, ends in sizes.items()
        for n in range(count)
    ]


def test_length_that_tells_the_label_is_named_and_like_lengths_are_not() -> None:
    found = balance(FORM, {"train": labelled({"good": (10, 60), "bad": (40, 90)})})
    assert found is not None
    (finding,) = found.findings()
    assert finding.id == "length-tells-label" and finding.severity == "warning"
    by = {one.label: one for one in found.lengths}
    # Of two even draws that overlap by 20 of 50: the longer is the bad one in 1 - 0.4² / 2 of all pairs.
    assert by["bad"].longer == pytest.approx(0.92, abs=0.03) and by["good"].longer == pytest.approx(
        1 - by["bad"].longer
    )
    assert by["good"].low < by["good"].median == pytest.approx(35, abs=6) and by["good"].rows == 80
    alike = balance(FORM, {"train": labelled({"good": (10, 60), "bad": (12, 62)})})
    assert alike is not None and alike.findings() == [] and len(alike.lengths) == 2
    slight = balance(FORM, {"train": labelled({"good": (10, 60), "bad": (17, 67)}, 200)})
    assert slight is not None and slight.findings() == [] and 0.55 < max(o.longer or 0 for o in slight.lengths) < 0.7
    few = balance(FORM, {"train": labelled({"good": (10, 20), "bad": (80, 90)}, 20)})
    assert few is not None and few.findings() == [] and few.lengths[0].longer is None


def test_a_script_that_training_hardly_has_is_named() -> None:
    latin, cyrillic = "plain words", "обычные слова"
    rows = lambda part, odd, count: [
        Row(f"{part}{n}", {"text": cyrillic if n < odd else latin, "label": "x"}) for n in range(count)
    ]
    found = balance(FORM, {"train": rows("t", 5, 300), "validation": rows("v", 1, 50), "test": rows("e", 20, 60)})
    assert found is not None
    assert found.scripts["test"] == {"Latin": pytest.approx(2 / 3), "Cyrillic": pytest.approx(1 / 3)}
    (finding,) = found.findings()
    assert finding.id == "scripts-uneven" and "33 % of the test rows" in finding.sentence
    assert set(finding.numbers) == {"test Cyrillic", "test Latin"}
    even = balance(FORM, {"train": rows("t", 90, 300), "test": rows("e", 20, 60)})
    assert even is not None and even.findings() == []


def test_near_copies_are_counted_and_those_with_another_label_named_first() -> None:
    rows = grouped({"a": 0.5}, 60)
    text = " ".join(f"word{n}" for n in range(40))
    rows += [
        Row("n1", {"text": f"{text} one", "label": "yes"}),
        Row("n2", {"text": f"{text} two", "label": "yes"}),
        Row("e1", {"text": "the very same words again", "label": "yes"}),
        Row("e2", {"text": "The very same words, again!", "label": "yes"}),
    ]
    (finding,) = near_copies(FORM, rows, units_and_copies(rows, FORM, None)[1])
    assert finding.numbers["rows"] == 2 and set(finding.rows) == {"n1", "n2"} and finding.severity == "note"
    rows.append(Row("n3", {"text": f"{text} three", "label": "no"}))
    (finding,) = near_copies(FORM, rows, units_and_copies(rows, FORM, None)[1])
    assert finding.numbers["labelled_differently"] == 1 and finding.severity == "warning" and "n3" in finding.rows[:2]
    assert near_copies(FORM, rows[:60], units_and_copies(rows[:60], FORM, None)[1]) == []


def test_near_copies_across_the_users_own_splits_are_a_warning() -> None:
    text = " ".join(f"word{n}" for n in range(40))
    rows = [*grouped({"a": 0.5}, 60), *(Row(f"n{n}", {"text": f"{text} {n}", "label": "yes"}) for n in range(2))]
    pairs = units_and_copies(rows, FORM, None)[1]
    (apart,) = near_copies(FORM, rows, pairs, ["train"] * 61 + ["test"])
    assert apart.severity == "warning" and apart.numbers["across_splits"] == 1
    assert "1 of 1 such pairs stands in two splits" in apart.sentence and "stay in one split" not in apart.sentence
    assert "one split" in apart.remedy
    (whole,) = near_copies(FORM, rows, pairs, ["train"] * 62)
    assert whole.severity == "note" and "They stay in one split" in whole.sentence
    (alone,) = near_copies(FORM, rows, pairs)
    assert "split" not in alone.sentence


def test_the_report_shows_groups_lengths_and_scripts() -> None:
    found = group_rates("who", grouped({"a": 0.6, "b": 0.4}), FORM, None)
    spread = balance(FORM, {"train": labelled({"good": (10, 60), "bad": (40, 90)}), "test": [Row("1", {"text": "да"})]})
    assert spread is not None
    tables = soundness_tables({"groups": [found.as_json()], "balance": spread.as_json()}, [], FORM)
    assert [table.title for table in tables] == ["Groups before training: who", "Lengths by label", "Scripts by split"]
    group, rows, share, rates = tables[0].rows[0]
    assert (group, rows, share) == ("a", 300, "50.0 %") and rates.startswith("yes 60.0 % (")
