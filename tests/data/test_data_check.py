"""What `check` says about rows that can be read, and that it is silent about good ones."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from data_forms import CLASSIFICATION, QA, questions, reviews

import tiny
from luthier.data.checking.rows import check, check_splits
from luthier.records import Field, Form, Row
from luthier.tasks import TASKS


def codes(faults: list) -> Counter[tuple[str, str]]:
    return Counter((fault.severity, fault.code) for fault in faults)


def row(text: str, label: str, id: str = "x", line: int = 1) -> Row:
    return Row(id, {"text": text, "label": label}, "a.csv", line)


@pytest.mark.parametrize(("rows", "form"), [(reviews(500), CLASSIFICATION), (questions(500, 5), QA)])
def test_good_rows_have_no_faults(rows: list[Row], form: Form) -> None:
    checked = check(rows, form)
    assert checked.faults == []
    assert checked.facts["rows"] == 500
    json.dumps(checked.facts)


def test_facts() -> None:
    facts = check(questions(500, 5), QA, count_tokens=lambda rows: range(1, 501), max_length=400).facts
    assert facts["groups"] == 100 and facts["answerable"] == 1.0
    assert facts["tokens"]["p100"] == 500 and facts["tokens"]["p0"] == 1
    assert facts["windowed"] == {"rows": 100, "share": 0.2}
    labels = check(reviews(500), CLASSIFICATION).facts["labels"]
    assert sum(labels.values()) == 500 and list(labels.values()) == sorted(labels.values(), reverse=True)


def test_copies_and_conflicts() -> None:
    rows = reviews(200)
    rows += [row(rows[3]["text"], rows[3]["label"], "copy", 900)]
    rows += [row(rows[4]["text"], "neg" if rows[4]["label"] == "pos" else "pos", "other", 901)]
    rows += [row(rows[4]["text"], rows[4]["label"], "again", 902)]
    faults = check(rows, CLASSIFICATION).faults
    assert [(f.severity, f.code, f.line) for f in faults] == [
        ("warning", "duplicate", 900),
        ("warning", "conflict", 901),
        ("warning", "duplicate", 902),
    ]
    assert "reviews.csv:5" in faults[0].message and "reviews.csv:6" in faults[1].message
    assert faults[1].field == "label"


def test_conflicting_answers() -> None:
    rows = questions(200, 5)
    first = rows[0]
    empty = Row("e", {**first.fields, "answers": []}, "qa.json", 901)
    other = Row("o", {**first.fields, "answers": [{"text": "x", "start": 3}]}, "qa.json", 902)
    twice = Row("t", {**first.fields, "answers": first["answers"] * 2}, "qa.json", 903)
    faults = check([*rows, empty, other, twice], QA).faults
    assert [(f.code, f.line) for f in faults] == [("conflict", 901), ("conflict", 902), ("duplicate", 903)]
    assert "has an answer, this row has none" in faults[0].message


def test_two_texts_for_one_input_are_only_a_note() -> None:
    form = Form((Field("prompt", "text", "asked"), Field("reply", "text", "said")), target="reply")
    rows = [Row(str(i), {"prompt": f"p{i % 100}", "reply": f"r{i}"}) for i in range(101)]
    assert codes(check(rows, form).faults) == {("note", "conflict"): 1}


@pytest.mark.parametrize(("num", "severity"), [(0, "error"), (9, "error"), (10, "warning"), (99, "warning"), (100, "")])
def test_few_rows(num: int, severity: str) -> None:
    expected = {(severity, "too-few-rows"): 1} if severity else {}
    assert codes(check(questions(num, 1), QA).faults) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": 200}, {("error", "one-label"): 1}),
        ({"a": 200, "b": 12}, {}),
        ({"a": 200, "b": 9}, {("warning", "imbalance"): 1}),
        ({"a": 200, "b": 7}, {("warning", "imbalance"): 1, ("warning", "few-rows"): 1}),
        ({"a": 60, "b": 60, "c": 7}, {("warning", "few-rows"): 1}),
    ],
)
def test_labels(counts: dict[str, int], expected: dict) -> None:
    rows = [row(f"text {label} {i}", label) for label, num in counts.items() for i in range(num)]
    assert codes(check(rows, CLASSIFICATION).faults) == expected


def test_unknown_labels_name_the_nearest() -> None:
    rows = [row(f"t{i}", ["positive", "negative", "postive"][i % 3], line=i + 1) for i in range(120)]
    faults = check(rows, CLASSIFICATION, labels=["positive", "negative"]).faults
    assert codes(faults) == {("error", "unknown-label"): 40}
    assert 'Did you mean "positive"?' in faults[0].message and faults[0].line == 3


def test_a_text_column_taken_for_the_label() -> None:
    rows = [row(f"t{i}", f"a whole sentence {i}") for i in range(200)]
    assert codes(check(rows, CLASSIFICATION).faults) == {("error", "many-labels"): 1}
    rows[7] = row("t7", "a whole sentence 6")
    assert codes(check(rows, CLASSIFICATION).faults) == {("warning", "many-labels"): 1}


def test_no_answers_at_all() -> None:
    rows = [Row(r.id, {**r.fields, "answers": []}) for r in questions(120, 4)]
    assert codes(check(rows, QA).faults) == {("error", "one-label"): 1}


def test_truncation() -> None:
    rows = reviews(200)
    done = check(rows, CLASSIFICATION, count_tokens=lambda rows: [100] * 180 + [600] * 20, max_length=512)
    assert codes(done.faults) == {("warning", "truncation"): 1}
    assert "20 rows (10.0%)" in done.faults[0].message and "600" in done.faults[0].fix
    done = check(rows, CLASSIFICATION, count_tokens=lambda rows: [100] * 199 + [600], max_length=512)
    assert "1 row (0.5%) is longer than 512 tokens and loses its end" in done.faults[0].message
    dialogs = tiny.chats(40)
    form = TASKS["generation"].form
    (fault,) = [
        fault
        for fault in check(dialogs, form, count_tokens=lambda rows: [100] * 38 + [600] * 2, max_length=512).faults
        if fault.code == "truncation"
    ]
    assert "2 rows (5.0%) are longer than 512 tokens and lose their oldest turns" in fault.message


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        ("CafÃ© au lait", True),
        ("donâ€™t", True),
        ("bell \x07 rings", True),
        ("lost \ufffd character", True),
        ("\x85 C1", True),
        ("café, naïve, 👩‍👩‍👧, שלום, e\u0301, tab\there, line\nend, São Tomé, ÂME, £5 «ça»", False),
    ],
)
def test_odd_characters(text: str, odd: bool) -> None:
    rows = [*reviews(150), row(text, "pos", line=7)]
    faults = check(rows, CLASSIFICATION).faults
    assert codes(faults) == ({("note", "odd-characters"): 1} if odd else {})
    assert not odd or (faults[0].line, faults[0].field) == (7, "text")


def test_splits_that_share_rows() -> None:
    rows = reviews(30)
    turned = Row("t", {**rows[1].fields, "label": "new"}, "b.csv", 8)
    faults = check_splits({"train": rows, "test": [rows[0], turned]}, CLASSIFICATION)
    assert [(f.severity, f.code, f.line) for f in faults] == [("error", "leak", 2), ("error", "leak", 8)]
    assert "the same row" in faults[0].message and "the same input" in faults[1].message
    assert check_splits({"train": rows[:20], "test": rows[20:]}, CLASSIFICATION) == []
