"""Cheap answers in words: the commonest text, the most similar row's, the beginning; none looks at what it is asked."""

from __future__ import annotations

import pytest

from luthier.evidence.baselines.by_target import baseline_names, classical, trivial
from luthier.records import Field, Form, Row

SHORTEN = Form((Field("source", "text", ""), Field("target", "text", "")), "target")
CHAT = Form((Field("messages", "messages", ""), Field("answer", "text", "")), "answer")
THINGS = ["kettle", "lamp", "ladder", "carpet", "window", "garden", "bicycle", "piano", "candle", "engine"]


def to_shorten(count: int, begins: bool) -> list[Row]:
    """Texts whose first sentence is their summary, or whose summary follows from what they are about."""
    rows = []
    for i in range(count):
        thing, other = THINGS[i % 10], THINGS[(i * 7 + 3) % 10]
        lead = f"The {thing} was sold on day {i}."
        source = f"{lead} Nobody knew why the {other} stayed. It rained for {i} hours."
        rows.append(Row(str(i), {"source": source, "target": lead if begins else f"all about one {thing}"}))
    return rows


@pytest.mark.parametrize("begins", [True, False])
def test_the_beginning_or_the_most_similar_row_whatever_is_nearer_on_the_training_rows(begins: bool) -> None:
    rows = to_shorten(80, begins)
    answers = classical(SHORTEN, rows[:60], rows[60:])
    right = sum(a.prediction == row["target"] for a, row in zip(answers, rows[60:]))
    assert right == 20 if begins else right >= 12


def test_no_baseline_looks_at_the_targets_it_is_asked_for() -> None:
    rows = to_shorten(40, False)
    blind = [Row(row.id, {"source": row["source"]}) for row in rows[30:]]
    for answer in (trivial, classical):
        assert answer(SHORTEN, rows[:30], blind) == answer(SHORTEN, rows[:30], rows[30:])


def test_the_commonest_text_or_none() -> None:
    rows = to_shorten(40, False)
    given = trivial(SHORTEN, rows[:31], rows[31:])
    assert {a.prediction for a in given} == {"all about one kettle"} and given[0].confidence == 4 / 31
    assert {a.prediction for a in trivial(SHORTEN, to_shorten(40, True), rows)} == {""}
    assert baseline_names(SHORTEN)["trivial"] == "commonest text"


def test_messages_are_compared_by_what_was_said() -> None:
    def row(i: int, *said: str, answer: str) -> Row:
        turns = [{"role": "user" if k % 2 == 0 else "assistant", "content": text} for k, text in enumerate(said)]
        return Row(str(i), {"messages": turns, "answer": answer})

    train = [
        row(1, "what boils water", answer="a kettle"),
        row(2, "hello", "good day", "what gives light at night", answer="a lamp"),
        row(3, "what has two wheels", answer="a bicycle"),
    ]
    asked = [row(9, "tell me what boils", answer="?"), row(8, "night light", answer="?")]
    assert [a.prediction for a in classical(CHAT, train, asked)] == ["a kettle", "a lamp"]
    assert classical(CHAT, train, [row(7, "xyz", answer="?")])[0].prediction == ""
