"""Texts written differently, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from luthier.evidence.robustness import KINDS, Robustness, measure_robustness, perturbed
from luthier.evidence.robustness.measured import Written
from luthier.records import Answer, Row
from luthier.tasks import TASKS

TEXT = TASKS["classification"].form
QUESTION = TASKS["question-answering"].form
SAID = "It is not easy to say, but the whole film works."


def row(text: str, label: str = "good", id: str = "1") -> Row:
    return Row(id, {"text": text, "label": label})


def changed(kind: str, text: str = SAID) -> str:
    found = perturbed(TEXT, row(text), kind, Random(1))
    assert found is not None
    return str(found["text"])


def test_each_way_changes_what_it_says_and_nothing_else() -> None:
    assert sorted(changed("typos")) == sorted(SAID) and changed("typos") != SAID
    assert changed("capitals") == SAID.upper()
    assert changed("capitals", "ALL LOUD") == "all loud"
    assert changed("punctuation") == "It is not easy to say but the whole film works"
    assert changed("punctuation", "costs 3.50, or 4,000") == "costs 3.50 or 4,000"
    assert changed("punctuation", "bare words") == "bare words !!"
    assert changed("contractions") == SAID.replace("It is", "It's")
    assert changed("contractions", "We don't know") == "We do not know"
    assert changed("distractors").startswith(SAID + " ")
    assert changed("negation") == SAID.replace(" not", "")
    assert changed("negation", "The plot is thin.") == "The plot is not thin."
    assert changed("negation", "It isn't good") == "It is good"


def test_what_cannot_be_written_differently_is_left_out() -> None:
    assert perturbed(TEXT, row("a b c"), "typos", Random(1)) is None
    assert perturbed(TEXT, row("good film"), "contractions", Random(1)) is None
    assert perturbed(TEXT, row("good film"), "negation", Random(1)) is None
    assert perturbed(TEXT, row("123"), "capitals", Random(1)) is None


def test_a_letter_whose_capital_is_two_moves_nothing() -> None:
    assert len(changed("capitals", "die Straße")) == len("die Straße")


@pytest.mark.parametrize("kind", KINDS)
def test_answers_keep_their_place_in_their_passage(kind: str) -> None:
    passage = "The bridge was built in 1931. It is not short."
    fields = {"question": "When was the bridge built?", "context": passage, "answers": [{"text": "1931", "start": 24}]}
    found = perturbed(QUESTION, Row("1", fields), kind, Random(2))
    if found is None:
        assert kind == "contractions"
        return
    span = found["answers"][0]
    assert found["context"][span["start"] : span["start"] + 4] == "1931"
    assert (found["context"] == passage) == (kind != "distractors")
    assert (found["question"] == fields["question"]) == (kind == "distractors")


def test_tagged_words_stay_as_many_and_names_keep_their_letters() -> None:
    form = TASKS["token-classification"].form
    words = ["yesterday", "Barbara", "travelled", "happily", "towards", "Paris"]
    tags = ["O", "B-person", "O", "O", "O", "B-place"]
    found = perturbed(form, Row("1", {"tokens": words, "tags": tags}), "typos", Random(0))
    assert found is not None and len(found["tokens"]) == 6 and found["tokens"] != words
    assert found["tokens"][1] == "Barbara" and found["tokens"][5] == "Paris"
    assert perturbed(form, Row("1", {"tokens": words, "tags": tags}), "negation", Random(0)) is None


def test_of_a_dialogue_the_last_request_is_rewritten() -> None:
    form = TASKS["generation"].form
    turns = [
        {"role": "user", "content": "Hello there."},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Name a river."},
    ]
    target = form.target
    name = next(field.name for field in form.fields if field.kind == "messages")
    found = perturbed(form, Row("1", {name: turns, target: "Rhine"}), "capitals", Random(0))
    assert found is not None
    assert [turn["content"] for turn in found[name]] == ["Hello there.", "Yes?", "NAME A RIVER."]


def _rows() -> list[Row]:
    said = ("A lovely, warm film that is worth it.", "A clumsy, stale film that is wasted time.")
    return [row(said[n % 2], ("good", "bad")[n % 2], str(n)) for n in range(120)]


def _measured(answer):  # type: ignore[no-untyped-def]
    task = TASKS["classification"](TASKS["classification"].Options())
    task.learn(_rows())
    predict = lambda rows: [answer(str(one["text"])) for one in rows]
    return measure_robustness(task, _rows(), predict(_rows()), predict)


def _by_words(text: str, good: Sequence[str] = ("lovely",)) -> Answer:
    return Answer("good" if any(word in text for word in good) else "bad", 0.9, {"probabilities": {"good": 0.5}})


def test_a_model_that_hangs_on_small_letters_is_called_fragile_there_alone() -> None:
    found = _measured(lambda text: _by_words(text, ("lovely", "lov", "warm")))
    ids = {finding.id for finding in found.findings()}
    assert "fragile-capitals" in ids and "fragile-punctuation" not in ids and "robust" not in ids
    way = next(way for way in found.ways if way.kind == "capitals")
    assert way.before == 1 and way.after < 0.5 and way.gain[2] < 0 and way.rows == 120
    assert way.changed == pytest.approx(0.5)
    told = next(finding for finding in found.findings() if finding.id == "fragile-capitals")
    assert told.severity == "warning" and told.remedy and "100.0 %" in told.sentence


def test_a_model_that_reads_past_it_all_is_called_robust_and_deaf_to_not() -> None:
    found = _measured(lambda text: _by_words("".join(sorted(text.lower()[:30])), ("v",)))
    assert {finding.id for finding in found.findings()} == {"robust", "negation-unread"}
    assert {way.kind for way in found.ways} == set(KINDS) - {"contractions"} | {
        way.kind for way in found.ways if way.kind == "contractions"
    }
    table = found.table()
    assert len(table.rows) == len(found.ways) and len(table.header) == len(table.rows[0])


def test_the_same_seed_writes_the_same() -> None:
    one, other = ([perturbed(TEXT, r, "typos", Random("1 typos")) for r in _rows()[:5]] for _ in range(2))
    assert one == other


def test_of_a_loss_the_table_tells_what_it_rises_by_and_the_finding_what_it_costs() -> None:
    way = Written("capitals", 52, 2.3, 3.4, (-1.1, -1.2, -1.0), 1.0)
    (row,) = Robustness("loss", (way,)).table().rows
    assert "+1.100 (+1.000 to +1.200)" in row
    small = Written("typos", 52, 0.80, 0.77, (-0.03, -0.05, -0.01), 0.1)
    (row,) = Robustness("f1", (small,)).table().rows
    assert "−3.0 (−5.0 to −1.0)" in row
    (note,) = Robustness("f1", (small,)).findings()
    assert note.id == "robust" and "about as well. The largest loss is 3.0 points (typos)." in note.sentence


def test_a_cost_that_may_be_chance_is_called_so() -> None:
    unsure = Written("typos", 20, 0.80, 0.66, (-0.141, -0.35, 0.05), 0.1)
    (note,) = Robustness("f1", (unsure,)).findings()
    assert (
        note.id == "robust"
        and "no loss that is beyond chance. The largest loss is 14.1 points (typos)." in note.sentence
    )
    assert "about as well" not in note.sentence
    better = Written("typos", 20, 0.80, 0.82, (0.02, -0.01, 0.05), 0.1)
    (note,) = Robustness("f1", (better,)).findings()
    assert "about as well" in note.sentence and "chance" not in note.sentence
