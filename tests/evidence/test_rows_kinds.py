"""How rows with tags, labels and numbers are shown."""

from __future__ import annotations

from test_baselines_kinds import MANY, NUMBER, TAGS, sentence

from luthier.evidence.report.rows import show
from luthier.records import Answer, Row


def test_entities_are_marked_among_the_words_and_listed() -> None:
    row = sentence("Anna saw New York", (0, 1, "per"), (2, 4, "loc"))
    shown = show(row, Answer(["B-per", "O", "O", "B-loc"], 0.5), 0.5, TAGS)
    pieces = dict(shown.inputs)["tokens"]
    assert "".join(piece.text for piece in pieces) == "Anna saw New York"
    marked = {piece.text: piece.mark for piece in pieces if piece.mark}
    assert marked == {"Anna": "both", "New ": "expected", "York": "both"}
    assert shown.expected == "per: Anna; loc: New York"
    assert shown.answered == "per: Anna; loc: York"
    assert show(row, Answer(["O"] * 4, 0.5), 0.0, TAGS).answered == "none"


def test_labels_and_numbers_are_said_in_words() -> None:
    row = Row("1", {"text": "x", "labels": ["a", "b"], "score": 2.50})
    assert show(row, Answer([], 0.5), 0.0, MANY).expected == "a, b"
    assert show(row, Answer([], 0.5), 0.0, MANY).answered == "none"
    assert (
        show(row, Answer(1.0, 1.0), 0.0, NUMBER).expected,
        show(row, Answer(1.0, 1.0), 0.0, NUMBER).answered,
    ) == (
        "2.5",
        "1",
    )
