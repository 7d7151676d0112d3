"""Which rows are chosen, and how a row is shown."""

import numpy as np
from evidence_fakes import Labels, Spans, label_rows, span_rows

from luthier.evidence.report.rows import Piece, choose, pieces, show
from luthier.records import Answer, Field, Form, Row


def test_the_most_confident_mistakes_come_first_and_no_row_twice():
    rows = label_rows(40)
    quality = np.array([0.0, 1.0] * 20)
    answers = [Answer("x", (place * 7 % 40) / 40) for place in range(40)]
    chosen = choose(rows, answers, quality, Labels.form, 5)
    sure = [row.confidence for row in chosen.wrong]
    assert sure == sorted(sure, reverse=True) and len(sure) == 5
    assert max(answers[place].confidence for place in range(0, 40, 2)) == sure[0]
    assert all(row.quality == 1 for row in chosen.best) and all(row.quality == 0 for row in chosen.wrong)
    ids = [row.id for part in (chosen.wrong, chosen.worst, chosen.best) for row in part]
    assert len(ids) == len(set(ids)) == 15


def test_a_mistake_whose_own_label_is_doubtful_says_so():
    rows = label_rows(40)
    quality = np.array([0.0, 1.0] * 20)
    answers = [Answer("x", (place * 7 % 40) / 40) for place in range(40)]
    surest = choose(rows, answers, quality, Labels.form, 5).wrong[0]
    doubted = {surest.id: "The label itself is doubtful."}
    chosen = choose(rows, answers, quality, Labels.form, 5, doubted=doubted)
    assert [row.doubt for row in chosen.wrong] == ["The label itself is doubtful.", "", "", "", ""]
    assert all(row.doubt == "" for row in (*chosen.worst, *chosen.best))


def test_all_right_shows_no_mistake():
    rows = label_rows(3)
    chosen = choose(rows, [Answer("x", 0.9)] * 3, np.ones(3), Labels.form)
    assert (chosen.wrong, chosen.worst, len(chosen.best)) == ((), (), 3)


def test_expected_and_given_answer_are_marked_where_they_lie():
    row = span_rows(1)[0]
    context, span = row["context"], row["answers"][0]
    given = "a hormone made by the beta cells"
    shown = show(row, Answer(given, 0.7, {"start": context.index(given)}), 0.4, Spans.form)
    marked = {piece.mark: piece.text for piece in dict(shown.inputs)["context"] if piece.mark}
    assert marked["both"] == "the beta cells"
    assert marked["expected"] == " of the pancreas" and marked["answered"] == "a hormone made by "
    assert "".join(piece.text for piece in dict(shown.inputs)["context"]) == context
    assert shown.place == "helpline.json:12" and shown.expected == span["text"]


def test_a_wrong_start_is_not_believed():
    row = span_rows(1)[0]
    shown = show(row, Answer("glucose", 0.7, {"start": 3}), 0.0, Spans.form)
    assert [piece.text for piece in dict(shown.inputs)["context"] if piece.mark == "answered"] == ["glucose"]


def test_a_long_text_is_cut_around_what_is_marked():
    words = " ".join(f"w{place}" for place in range(3000))
    start = words.index("w2000")
    cut = pieces(words, [(start, start + 5, "expected")])
    assert Piece("w2000", "expected") in cut
    assert sum(len(piece.text) for piece in cut) < 600
    assert cut[0].text == cut[-1].text == " … "
    ends = pieces(words, [])
    assert ends[0].text.startswith("w0 ") and ends[-1].text.endswith("w2999")


def test_marks_far_apart_and_answers_longer_than_the_page():
    text = "a" * 300 + "X" * 5 + "b" * 5000 + "Y" * 5 + "c" * 300
    cut = pieces(text, [(300, 305, "expected"), (5305, 5310, "answered")])
    assert [piece.text for piece in cut if piece.mark] == ["XXXXX", "YYYYY"]
    assert sum(len(piece.text) for piece in cut) < 800
    whole = pieces("z" * 5000, [(0, 5000, "both")])
    assert sum(len(piece.text) for piece in whole) < 1000


def test_no_answer_and_missing_fields():
    shown = show(Row("a", {"question": "?", "context": "c", "answers": []}), Answer("", 0.5), 1.0, Spans.form)
    assert (shown.expected, shown.answered, shown.place) == ("", "", "")


def test_a_dialog_is_shown_as_its_turns():
    form = Form((Field("messages", "messages", "a dialog"), Field("answer", "text", "the answer")), "answer")
    turns = [{"role": "user", "content": "who ?"}, {"role": "assistant", "content": "anna ."}]
    shown = show(Row("1", {"messages": turns, "answer": "yes"}), Answer("no", 0.5), 0.0, form)
    assert [piece.text for piece in dict(shown.inputs)["messages"]] == ["user: who ?\nassistant: anna ."]
