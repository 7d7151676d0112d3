"""Word lists, texts with groups swapped, and what a swap changes in answers of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.errors import InputError
from luthier.evidence.bias.counterfactual import difference, make_pairs, measure_swaps, swap_row
from luthier.evidence.bias.terms import applied, moved, read_terms
from luthier.records import Answer, Row
from luthier.tasks import TASKS

TERMS = read_terms()
GENDER = TERMS["gender"]


def swapped(text: str, axis: str = "gender", turn: int = 1) -> str | None:
    edits = TERMS[axis].edits(text, turn)
    return None if edits is None else applied(text, edits)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("She saw her yesterday and took her car.", "He saw him yesterday and took his car."),
        ("HER dog is his.", "HIS dog is hers."),
        ("A waitress met an uncle.", "A waiter met an aunt."),
        ("An actress, a man", "An actor, a woman"),
        ("a god and an actor", "a goddess and an actress"),
        ("It is hers, not his.", "It is his, not hers."),
        ("the shed, there, human, mankind", "the shed, there, human, mankind"),
        ("She herself loves her mother", "He himself loves his father"),
    ],
)
def test_gender_both_ways(text: str, other: str) -> None:
    assert swapped(text) == other
    assert swapped(other) == text


def test_axes_of_many_groups() -> None:
    assert swapped("a Muslim and two CHRISTIANS", "religion") == "a Jewish and two MUSLIMS"
    assert swapped("an imam", "religion", 4) == "a priest"
    assert swapped("The Chinese live in China", "nationality") == "The Russian live in Russia"
    assert swapped("polish the turkey in china", "nationality") == "polish the turkey in china"
    assert swapped("Indians", "nationality") is None  # the group that comes next has no such word
    assert swapped("a white man, white paint", "race") == "a black man, white paint"


def test_every_own_word_comes_back() -> None:
    """Round all groups of an axis a word becomes itself again, unless the list joins two words in one."""
    count = 0
    for axis in TERMS.axes:
        for row in axis.rows:
            for turn, word in enumerate(row):
                if word:
                    assert axis.groups_in(word) == {axis.groups[turn]}
                    other = swapped(word, axis.name, 1)
                    assert other is None or axis.groups_in(other) == {axis.groups[(turn + 1) % len(row)]}
                    count += 1
    assert count > 350


def test_places_move_with_their_words() -> None:
    text = "the actress and her mother left"
    edits = GENDER.edits(text)
    assert edits is not None
    new = applied(text, edits)
    for word, other in (("left", "left"), ("mother", "father"), ("actress", "actor"), ("and", "and")):
        start = text.index(word)
        assert new[moved(start, edits) : moved(start + len(word), edits, end=True)] == other


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gender:\n  groups: [a]\n  rows: [[x]]\n", "at least two"),
        ("gender:\n  groups: [a, b]\n  rows: [[x]]\n", "one word for each"),
        ("gender:\n  groups: [a, b]\n  rows: [[x, '']]\n", "fewer than two"),
        ("gender:\n  groups: [a, b]\n  rows: []\n", "no words"),
        ("gender:\n  groups: [a, b]\n  rows: [[x, y], [y, z]]\n", "stands for two"),
        ("gender:\n  groups: [a, b]\n  row: [[x, y]]\n", 'no key "row"'),
        ("gender: [x]\n", "no mapping"),
        ("[x]\n", "a list"),
        ("gender:\n  groups: [a, b]\n  proper: 3\n  rows: [[x, y]]\n", "proper"),
    ],
)
def test_word_lists_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "terms.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as found:
        read_terms(file)
    assert found.value.fix and "recipe" not in found.value.found
    with pytest.raises(InputError, match="cannot be read"):
        read_terms(tmp_path / "none.yaml")


# rows


FORMS = {name: task.form for name, task in TASKS.items()}


def row_of(**fields: Any) -> Row:
    return Row("r", fields)


def test_answers_in_a_passage_move_with_it() -> None:
    context = "The princess gave her mother a ring. Her brother left."
    spans = [{"text": "her mother", "start": context.index("her mother")}]
    row = row_of(question="Who got a ring from the princess?", context=context, answers=spans)
    made = swap_row(row, FORMS["question-answering"], GENDER)
    assert made is not None
    new = made[0]
    assert new["context"] == "The prince gave his father a ring. His sister left."
    assert new["question"] == "Who got a ring from the prince?"
    (span,) = new["answers"]
    assert span["text"] == "his father" == new["context"][span["start"] : span["start"] + len(span["text"])]


def test_words_with_tags_keep_them() -> None:
    row = row_of(tokens=["Her", "uncle", "Bob", "left"], tags=["O", "O", "B-person", "O"])
    made = swap_row(row, FORMS["token-classification"], GENDER)
    assert made is not None
    assert made[0]["tokens"] == ["His", "aunt", "Bob", "left"] and made[0]["tags"] == row["tags"]
    two = row_of(tokens=["young", "man"], tags=["O", "O"])
    assert swap_row(two, FORMS["token-classification"], TERMS["age"]) is None  # it would take two words for one


def test_dialogues_are_swapped_in_every_turn() -> None:
    turns = [{"role": "user", "content": "who is she ?"}, {"role": "assistant", "content": "her mother"}]
    made = swap_row(row_of(messages=turns, answer="she is a queen"), FORMS["generation"], GENDER)
    assert made is not None
    assert [turn["content"] for turn in made[0]["messages"]] == ["who is he ?", "his father"]
    assert made[0]["answer"] == "he is a king"


def test_pairs_name_their_direction() -> None:
    rows = [Row("a", {"text": "she left"}), Row("b", {"text": "she saw him"}), Row("c", {"text": "it rains"})]
    pairs = make_pairs(rows, FORMS["classification"], TERMS.axes)
    assert [(p.index, p.axis.name, p.origin, p.goal) for p in pairs] == [
        (0, "gender", "female", "male"),
        (1, "gender", "", ""),
    ]
    many = make_pairs([Row("d", {"text": "a German"})], FORMS["classification"], TERMS.axes)
    assert len(many) == 3 == len({pair.row["text"] for pair in many})
    assert [p.row for p in many] == [
        p.row for p in make_pairs([Row("d", {"text": "a German"})], FORMS["classification"], TERMS.axes)
    ]


# what a swap changes


def one_pair(form: Any, **fields: Any) -> Any:
    (pair,) = make_pairs([row_of(**fields)], form, [GENDER])
    return pair


def told(prediction: Any, **detail: Any) -> Answer:
    return Answer(prediction, 0.9, detail)


def test_difference_by_kind_of_answer() -> None:
    label, text = FORMS["classification"], {"text": "she left"}
    pair = one_pair(label, **text)
    flip = difference(
        told("a", probabilities={"a": 0.7, "b": 0.3}), told("b", probabilities={"a": 0.4, "b": 0.6}), pair, label
    )
    assert flip == (True, pytest.approx(0.3))
    tags = FORMS["token-classification"]
    pair = one_pair(tags, tokens=["she", "met", "Bob"], tags=["O", "O", "O"])
    assert difference(told(["O", "O", "B-x"]), told(["O", "O", "B-x"]), pair, tags) == (False, 0.0)
    assert difference(told(["O", "O", "B-x"]), told(["B-x", "O", "B-x"]), pair, tags) == (True, 0.5)
    spans = FORMS["question-answering"]
    context = "the princess gave her mother a ring"
    pair = one_pair(spans, question="who ?", context=context, answers=[])
    old = told("her mother", start=context.index("her mother"))
    assert difference(old, told("his father"), pair, spans)[0] is False
    assert difference(told("her", start=context.index("her mother")), told("his"), pair, spans)[0] is False
    assert difference(old, told("a ring"), pair, spans) == (True, 1.0)
    assert difference(told(""), told(""), pair, spans)[0] is False
    free = FORMS["generation"]
    pair = one_pair(free, messages=[{"role": "user", "content": "who is she ?"}], answer="x")
    assert difference(told("she is a queen"), told("He is a king."), pair, free)[0] is False
    changed, shift = difference(told("she is a queen"), told("he is a nurse"), pair, free)
    assert changed and shift == pytest.approx(0.25)
    alone = FORMS["pretraining"]
    pair = one_pair(alone, text="she left")
    assert difference(told("", nll=4.0, tokens=2), told("", nll=6.0, tokens=2), pair, alone) == (None, 1.0)


def test_several_labels_and_numbers() -> None:
    from luthier.tasks.multi_label import MultiLabel
    from luthier.tasks.regression import Regression

    several = MultiLabel(MultiLabel.Options(problem_type="multi_label_classification")).form
    number = Regression(Regression.Options(problem_type="regression")).form
    pair = one_pair(several, text="she left")
    old, new = told(["a"], probabilities={"a": 0.9, "b": 0.2}), told(["a", "b"], probabilities={"a": 0.9, "b": 0.6})
    assert difference(old, new, pair, several) == (True, pytest.approx(0.4))
    assert difference(told(2.0), told(2.2), pair, number, 2.0) == (False, pytest.approx(0.1))
    assert difference(told(2.0), told(3.0), pair, number, 2.0) == (True, pytest.approx(0.5))


@pytest.mark.parametrize(("leans", "flips"), [(0.4, True), (0.0, False)])
def test_measured_flips_and_leanings(leans: float, flips: bool) -> None:
    """A model that adds `leans` to the chance of "good" for men: flip rate and leaning say so, or nothing."""
    draw = np.random.default_rng(0)
    rows = [Row(str(i), {"text": f"{'she' if i % 2 else 'he'} left {i}"}) for i in range(300)]
    pairs = make_pairs(rows, FORMS["classification"], [GENDER])
    base = draw.uniform(0.2, 0.6, len(rows))

    def answer(i: int, text: str) -> Answer:
        good = float(base[i] + (leans if text.startswith("he") else 0.0))
        return told("good" if good > 0.5 else "bad", probabilities={"good": good, "bad": 1 - good})

    before = [answer(i, row["text"]) for i, row in enumerate(rows)]
    after = [answer(pair.index, pair.row["text"]) for pair in pairs]
    (found,) = measure_swaps(pairs, rows, before, after, FORMS["classification"], None, seed=0)
    wanted = np.mean([a.prediction != before[p.index].prediction for p, a in zip(pairs, after)])
    assert found.flips == pytest.approx(wanted) and (found.flips > 0.2) is flips
    assert found.flips_interval[0] <= found.flips <= found.flips_interval[1]
    assert found.shift == pytest.approx(leans)
    good = next(lean for lean in found.leanings if lean.label == "good")
    assert (good.origin, good.goal, good.pairs) == ("female", "male", 300)
    assert good.shift == pytest.approx(leans) and good.told is flips
    assert bool(found.flipped_rows) is flips
