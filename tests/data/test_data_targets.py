"""What `check` says by the kind of target: tags, several labels, numbers, dialogues, pairs of texts."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from data_forms import CHAT, CLASSIFICATION, LABELS, NUMBER, PAIRS, SCORED, SEQ2SEQ, TAGS, TEXTS, prose

from luthier.data.checking.rows import check, check_splits
from luthier.records import Fault, Form, Row


def codes(faults: list[Fault]) -> Counter[tuple[str, str]]:
    return Counter((fault.severity, fault.code) for fault in faults)


def rows_of(values: list[Any], form: Form, seed: int = 0) -> list[Row]:
    """Rows with these targets and inputs that no other row has."""
    rng = random.Random(seed)
    out = []
    for i, value in enumerate(values):
        fields = {f.name: prose(rng, 12) for f in form.inputs}
        out.append(Row(f"{seed}-{i}", {**fields, form.target: value}, "a.jsonl", i + 1))
    return out


def sentence(tags: list[str], i: int) -> Row:
    tokens = [f"w{i}x{k}" for k in range(len(tags))]
    return Row(f"s{i}", {"tokens": tokens, "tags": tags}, "a.conll", i + 1)


def chat(question: str, answer: str, i: int, **more: Any) -> Row:
    messages = [{"role": "user", "content": question}] if question else []
    return Row(f"c{i}", {"messages": messages, "answer": answer, **more}, "a.jsonl", i + 1)


GOOD: dict[str, tuple[list[Row], Form]] = {
    "tags": ([sentence(["B-x", "I-x", "O", "B-y"], i) for i in range(120)], TAGS),
    "labels": (rows_of([[["a"], ["a", "b"], ["b"]][i % 3] for i in range(120)], LABELS), LABELS),
    "numbers": (rows_of([i / 7 for i in range(120)], NUMBER), NUMBER),
    "chat": ([chat(f"q{i}", f"a{i}", i) for i in range(120)], CHAT),
    "plain text": ([chat("", f"text {i}", i) for i in range(120)], CHAT),
    "texts": (rows_of([f"text {i}" for i in range(120)], TEXTS), TEXTS),
    "pairs": (rows_of([f"p{i}" for i in range(120)], PAIRS), PAIRS),
    "scored": (rows_of([i % 5 for i in range(120)], SCORED), SCORED),
    "seq2seq": (rows_of([f"t{i}" for i in range(120)], SEQ2SEQ), SEQ2SEQ),
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_rows_have_no_faults(kind: str) -> None:
    rows, form = GOOD[kind]
    checked = check(rows, form)
    assert checked.faults == [] and checked.facts["duplicates"] == checked.facts["conflicts"] == 0
    json.dumps(checked.facts)


@pytest.mark.parametrize("kind", GOOD)
def test_a_copy_is_found_in_every_kind(kind: str) -> None:
    rows, form = GOOD[kind]
    copy = Row("copy", dict(rows[3].fields), rows[3].file, 900)
    assert [(f.code, f.line) for f in check([*rows, copy], form).faults] == [("duplicate", 900)]
    other = Row("copy", dict(rows[3].fields), "b.jsonl", 900)
    fault = check([*rows, other], form).faults[0]
    assert "in another file" in fault.message and "remove one of the two" in fault.fix
    leaks = check_splits({"train": rows, "test": [copy]}, form)
    assert [(f.code, f.line) for f in leaks] == [("leak", 900)]
    assert check_splits({"train": rows[:60], "test": rows[60:]}, form) == []


def test_tags_are_counted() -> None:
    rows = [*GOOD["tags"][0], sentence(["O", "O"], 500), sentence(["B-rare", "I-rare", "B-rare"], 501)]
    checked = check(rows, TAGS)
    assert checked.facts["entities"] == {"x": 120, "y": 120, "rare": 2}
    assert checked.facts["tags"]["I-x"] == 120 and checked.facts["words"] == 485
    assert checked.facts["rows_with_entities"] == 121
    assert codes(checked.faults) == {("warning", "few-rows"): 1}
    assert 'mentions of the type "rare": 2, expected' in checked.faults[0].message
    nothing = [sentence(["O", "O"], i) for i in range(120)]
    assert codes(check(nothing, TAGS).faults) == {("error", "one-label"): 1}


def test_a_sentence_tagged_in_two_ways() -> None:
    rows = GOOD["tags"][0]
    other = Row("o", {**rows[5].fields, "tags": ["B-x", "O", "O", "B-y"]}, "a.conll", 901)
    faults = check([*rows, other], TAGS).faults
    assert [(f.severity, f.code, f.line) for f in faults] == [("warning", "conflict", 901)]
    assert 'word 2, "w5x1", is I-x there and O here' in faults[0].message


def test_unknown_types_and_labels_name_the_nearest() -> None:
    rows = [sentence(["B-person"] if i % 2 else ["B-persn"], i) for i in range(120)]
    faults = check(rows, TAGS, labels=["person", "place"]).faults
    assert codes(faults) == {("error", "unknown-label"): 60}
    assert 'type of entity "persn"' in faults[0].message and 'Did you mean "person"' in faults[0].message
    rows = rows_of([["a", "c"], ["b"]] * 60, LABELS)
    found = check(rows, LABELS, labels=["a", "b", "d"]).faults
    assert codes(found) == {("error", "unknown-label"): 60, ("warning", "constant-label"): 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([["a", "b"], ["a"]] * 60, {("warning", "constant-label"): 1}),
        ([["a"]] * 120, {("error", "one-label"): 1}),
        ([["a"], []] * 60, {("note", "no-labels"): 1}),
        ([[]] * 120, {("error", "one-label"): 1}),
        ([["a"], ["b"]] * 60 + [["a", "c"]] * 3, {("warning", "few-rows"): 1}),
        ([[f"l{i}"] for i in range(120)], {("warning", "many-labels"): 1}),
    ],
)
def test_several_labels(values: list[list[str]], expected: dict[tuple[str, str], int]) -> None:
    checked = check(rows_of(values, LABELS), LABELS)
    assert codes(checked.faults) == expected
    assert sum(checked.facts["labels"].values()) == sum(map(len, values))
    assert checked.facts["rows_without_label"] == sum(not labels for labels in values)


SPELLED: list[tuple[Form, list[Any], list[Any], str]] = [
    (CLASSIFICATION, ["positive", "negative"], ["Positive", "negative "], "rows"),
    (LABELS, [["food"], ["drink"]], [["Food"], ["Drink"]], "rows"),
    (TAGS, [["B-person", "I-person"], ["B-place", "O"]], [["B-Person", "O"], ["B-PLACE", "O"]], "mentions"),
]


def targets(values: list[Any], form: Form) -> list[Row]:
    return [sentence(tags, i) for i, tags in enumerate(values)] if form is TAGS else rows_of(values, form)


@pytest.mark.parametrize(("form", "values", "others", "what"), SPELLED)
def test_labels_in_several_spellings(form: Form, values: list[Any], others: list[Any], what: str) -> None:
    assert check(targets(values * 60, form), form).faults == []
    faults = check(targets(values * 60 + others * 10, form), form).faults
    assert codes(faults) == {("warning", "label-spelling"): 2}
    for fault in faults:
        assert fault.message.count(f" {what})") == 2 and f"(10 {what})" in fault.message
        assert fault.value.islower() and f'write them alike, "{fault.value}"' in fault.fix


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["0", "1"], False),
        (["1", "2", "3", "4", "5"], False),
        (["0.5", "1.5"], False),
        (["a", "b", "c", "1.5", "2.5", "3.5"], False),
        (["1", "2", "3", "4.5", "5"], True),
        ([str(i) for i in range(6)], True),
        ([f"{i / 10}" for i in range(100)], True),
        (["1", "2", "3", "4.5", "5"] * 8 + ["unknown"], True),
    ],
)
def test_labels_that_look_like_measured_numbers(values: list[str], found: bool) -> None:
    rows = rows_of((values * 400)[:400], CLASSIFICATION)
    faults = [fault for fault in check(rows, CLASSIFICATION).faults if fault.code == "numeric-labels"]
    assert [(f.severity, f.field, "problem_type: regression" in f.fix) for f in faults] == [
        ("note", "label", True)
    ] * found
    assert not any(f.code == "numeric-labels" for f in check(rows, CLASSIFICATION, labels=set(values)).faults)


def test_numbers() -> None:
    checked = check(GOOD["numbers"][0], NUMBER)
    facts = checked.facts["numbers"]
    assert (facts["low"], round(facts["high"], 6), round(facts["mean"], 6)) == (0, 17, 8.5)
    assert codes(check(rows_of([3.0] * 120, NUMBER), NUMBER).faults) == {("error", "one-label"): 1}
    rows = rows_of([float(i % 11) for i in range(120)], NUMBER)
    near = Row("n", {**rows[5].fields, "score": 5.5}, "a.jsonl", 901)
    far = Row("f", {**rows[5].fields, "score": 9.0}, "a.jsonl", 902)
    faults = check([*rows, near, far], NUMBER).faults
    assert [(f.severity, f.code, f.line) for f in faults] == [
        ("note", "conflict", 901),
        ("warning", "conflict", 902),
    ]


def test_dialogues_are_counted() -> None:
    rows = [*GOOD["chat"][0][:60], *GOOD["plain text"][0][:60]]
    system = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    rows.append(Row("x", {"messages": system, "answer": "a", "tools": [{"type": "function"}]}))
    facts = check(rows, CHAT).facts
    assert facts["roles"] == {"assistant": 61, "user": 61, "system": 1}
    assert facts["turns"]["p0"] == 0 and facts["turns"]["p100"] == 3 and facts["rows_with_tools"] == 1


def test_two_answers_to_one_question_are_only_a_note() -> None:
    for kind in ("chat", "pairs", "seq2seq"):
        rows, form = GOOD[kind]
        other = Row("o", {**rows[5].fields, form.target: "another"}, rows[5].file, 901)
        assert codes(check([*rows, other], form).faults) == {("note", "conflict"): 1}


def test_fields_that_hold_the_same_text() -> None:
    rows, form = GOOD["pairs"]
    same = [Row(f"s{i}", {"anchor": f"same {i}", "positive": f"same {i}"}, "a.jsonl", 900 + i) for i in range(3)]
    wrong = Row("w", {"anchor": "a", "positive": "b", "negative": "b"}, "a.jsonl", 950)
    faults = check([*rows, *same, wrong], form).faults
    assert [(f.severity, f.code, f.line, f.field) for f in faults] == [
        ("note", "same-text", 900, "positive"),
        ("note", "same-text", 950, "negative"),
    ]
    assert "3 rows" in faults[0].message
    equal = [Row(f"e{i}", {"anchor": f"x{i}", "positive": f"x{i}", "score": 5.0}) for i in range(3)]
    assert check([*GOOD["scored"][0], *equal], SCORED).faults == []  # two equal sentences may well be scored


def test_words_about_several_files() -> None:
    rows = [Row(str(i), {"text": f"t{i}", "score": i}, f"{'ab'[i % 2]}.csv", i) for i in range(6)]
    fault = check(rows, NUMBER).faults[0]
    assert fault.message.startswith("6 usable rows in 2 files together") and fault.file == ""
    fault = check(rows[::2], NUMBER).faults[0]
    assert fault.message.startswith("3 usable rows, expected") and fault.file == "a.csv"


def test_long_texts_to_learn_are_no_note() -> None:
    rows, form = GOOD["texts"]
    long = Row("l", {"text": "word " * 20_000}, "a.txt", 1)
    assert check([*rows, long], form).faults == []
    done = check(rows, form, count_tokens=lambda rows: [900] * len(rows), max_length=512)
    assert codes(done.faults) == {("note", "truncation"): 1} and "blocks" in done.faults[0].message
    asked = chat("word " * 20_000, "yes", 900)
    assert codes(check([*GOOD["chat"][0], asked], CHAT).faults) == {("note", "long-row"): 1}


def test_odd_characters_inside_turns_and_words() -> None:
    for row, form in ((chat("CafÃ© au lait", "yes", 900), CHAT), (sentence(["B-x"], 900), TAGS)):
        if form is TAGS:
            row = Row("t", {"tokens": ["donâ€™t"], "tags": ["B-x"]}, "a.conll", 901)
        kind = "chat" if form is CHAT else "tags"
        faults = check([*GOOD[kind][0], row], form).faults
        assert [(f.code, f.line, f.field) for f in faults] == [("odd-characters", 901, form.inputs[0].name)]
