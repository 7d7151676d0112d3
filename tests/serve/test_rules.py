"""Rules for answers: what they do, and what is no rule."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from luthier.errors import InputError
from luthier.records import Answer, Row
from luthier.serve.rules import read_rules


def rules(place: Path, text: str):
    file = place / "rules.yaml"
    file.write_text(f"rules:\n{text}")
    return read_rules(file)


def given(place: Path, text: str, said: str, answer: object = "he is a nurse", sure: float = 0.6) -> Answer:
    (out,) = rules(place, text).applied([Row("1", {"text": said})], [Answer(answer, sure, {"probabilities": {"a": 1}})])
    return out


def test_what_rules_do(tmp_path: Path) -> None:
    assert given(tmp_path, "- {words: [nurse], then: refuse}", "x").prediction is None
    assert given(tmp_path, "- {words: [nurs], then: refuse}", "x").prediction == "he is a nurse"
    assert given(tmp_path, "- {name: n, words: [NURSE], then: replace, with: no}", "x") == Answer(
        "no", 0.6, {"replaced": "n"}
    )
    refused = given(tmp_path, "- {in: input, words: [she], then: refuse, below: 0.7}", "she left")
    assert (refused.prediction, refused.detail) == (None, {"refused": "rule 1"})
    assert given(tmp_path, "- {in: input, words: [she], then: refuse, below: 0.6}", "she left").prediction
    both = "- {name: a, pattern: 'n\\w+e', then: flag}\n- {name: b, words: [is], then: flag}"
    assert given(tmp_path, both, "x").detail["flagged"] == ["a", "b"]
    assert given(tmp_path, both, "x", ["a nurse", "is"]).detail["flagged"] == ["a", "b"]
    assert "flagged" not in given(tmp_path, both, "x", 3.5).detail
    first = "- {words: [nurse], then: replace, with: x}\n- {words: [nurse], then: refuse}"
    assert given(tmp_path, first, "x").prediction == "x"


def test_a_pattern_that_runs_away_counts_as_found(tmp_path: Path) -> None:
    began = time.monotonic()
    out = given(tmp_path, "- {pattern: '(a+)+$', then: refuse}", "x", "a" * 4000 + "b")
    assert out.prediction is None and time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {words: [a]}", "then must be"),
        ("- {words: [a], pattern: a, then: flag}", "either words or pattern"),
        ("- {then: flag}", "either words or pattern"),
        ("- {words: [], then: flag}", "list of texts"),
        ("- {pattern: '(', then: flag}", "no regular expression"),
        ("- {words: [a], then: replace}", "with stands"),
        ("- {words: [a], then: refuse, with: x}", "with stands"),
        ("- {words: [a], then: refuse, below: high}", "below must be"),
        ("- {words: [a], then: drop}", "then must be"),
        ("- {word: [a], then: flag}", "expected keys"),
        ("- 3", "expected keys"),
        ("  a: 3", "no list named"),
    ],
)
def test_what_is_no_rule(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        rules(tmp_path, text)
    assert error.value.fix and "rules.yaml" in error.value.where
