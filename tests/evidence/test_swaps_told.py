"""What is said of swapped groups: of a few pairs one note, of answers that changed the texts themselves."""

from __future__ import annotations

import pytest

from luthier.evidence.bias.counterfactual import Swapped
from luthier.evidence.bias.findings import swap_findings, swap_tables


def swapped(axis: str, pairs: int, flips: float = 0.0, low: float = 0.0, high: float = 0.9) -> Swapped:
    told = {"row": "r1", "before": "she laughs", "after": "he laughs", "answer": "bad", "swapped_answer": None}
    examples = [{**told, "flipped": number < flips * pairs, "shift": 0.1} for number in range(pairs)]
    return Swapped(axis, pairs, pairs, flips, (low, high), 0.0, (0.0, 0.0), [], examples)


def test_kinds_of_which_few_texts_speak_are_told_together() -> None:
    found = swap_findings([swapped("gender", 40), swapped("age", 3), swapped("race", 9)], "run")
    assert [one.id for one in found] == ["swaps-even", "swaps-few"]
    assert "age (3), race (9)" in found[1].sentence and found[1].numbers == {"rows": {"age": 3, "race": 9}}


@pytest.mark.parametrize("pairs", [9, 10])
def test_a_change_is_told_of_however_few(pairs: int) -> None:
    (found,) = swap_findings([swapped("age", pairs, 0.5, 0.2)], "run")
    assert found.id == "swap-flips" and found.severity == "warning"


def test_texts_whose_answer_changed_are_shown_by_axis_in_turn() -> None:
    (table,) = swap_tables([swapped("gender", 40, 0.5), swapped("age", 2, 0.5), swapped("race", 4)])
    assert len(table.rows) == 5 and table.rows[0] == ("r1", "she laughs", "bad", "he laughs", "(refused)")
    assert swap_tables([swapped("race", 4)]) == []


def test_few_pairs_of_which_some_changed_are_told() -> None:
    (found,) = swap_findings([swapped("age", 4, 0.75, 0.0)], "run")
    assert found.id == "swaps-even" and "75.0 % of 4 answers" in found.sentence


@pytest.mark.parametrize(
    ("answer", "said"), [(0.53, "0.53"), (1234.5, "1234"), (["a", "b"], "a, b"), ([], "(none)"), (None, "(refused)")]
)
def test_answers_of_all_kinds_are_words(answer: object, said: str) -> None:
    one = swapped("age", 1, 1.0)
    one.examples[0]["answer"] = answer
    assert swap_tables([one])[0].rows[0][2] == said


def test_long_texts_are_cut_where_they_differ() -> None:
    one = swapped("age", 1, 1.0)
    one.examples[0] |= {"before": "so " * 100 + "she laughs", "after": "so " * 100 + "he laughs"}
    _, before, _, after, _ = swap_tables([one])[0].rows[0]
    assert before.endswith("she laughs") and after.endswith("so he laughs") and before.startswith("… so")
    assert len(before) < 90
