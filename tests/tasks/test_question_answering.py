"""Question answering: spans to tokens and back, windows, the best span, the threshold."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections import Counter

import numpy as np
import pytest
import torch

import tiny
from luthier.errors import LuthierError
from luthier.records import Answer, Row
from luthier.tasks import TASKS
from luthier.tasks.question_answering import SILENCE
from luthier.tasks.squad_scores import normalise

WORDS = (
    "Paris London lives the house 1,000 x 👨\u200d👩\u200d👧 ❤️ 🏳️\u200d🌈 🙂 𝒳𝓎𝓏 𐍈 naïve Straße İzmir ＡＢＣ ﬁne ½ ① "
    "cafe\u0301 e\u0301cole A\u030angstro\u0308m שלום עולם مرحبا بالعالم שָׁלוֹם 漢字 仮名交じり文 ภาษาไทย हिन्दी"
)
PIECES = WORDS.split()
GLUE = [
    " ",
    " ",
    " ",
    "  ",
    "\r\n",
    "\n",
    "\t",
    "\u00a0",
    " \u200f",
    ", ",
    ". ",
    " (",
    ") ",
    "\u3000",
    "\u2028",
]
WINDOWS = [(16, 0), (24, 8), (48, 20), (384, 128)]


def task(threshold: float | None = None, **options: int):
    kind = TASKS["question-answering"]
    return kind(kind.Options(**options), {"no_answer_threshold": threshold})


def row(number: int, context: str, answer: str | None = None, start: int = 0, question: str = "where ?") -> Row:
    spans = [] if answer is None else [{"text": answer, "start": start}]
    return Row(str(number), {"question": question, "context": context, "answers": spans})


def passage(draw: random.Random, pieces: int) -> tuple[str, list[tuple[int, int]]]:
    """(context, where each piece begins and ends)."""
    text, places = "", []
    for _ in range(pieces):
        piece = draw.choice(PIECES)
        places.append((len(text), len(text) + len(piece)))
        text += piece + draw.choice(GLUE)
    return text, places


def spans(count: int, seed: int, most: int) -> list[Row]:
    draw, rows = random.Random(seed), []
    for number in range(count):
        context, places = passage(draw, draw.randint(1, 40))
        first = draw.randrange(len(places))
        last = min(len(places) - 1, first + draw.choice([0, 0, 1, 2, most]))
        begin, stop = places[first][0], places[last][1]
        rows.append(row(number, context, context[begin:stop], begin))
    return rows


@pytest.mark.parametrize("name", tiny.TOKENIZERS)
@pytest.mark.parametrize(("max_length", "stride"), WINDOWS)
def test_a_span_becomes_labels_and_the_same_span_again(name: str, max_length: int, stride: int) -> None:
    """1,000 spans for each family of tokenizers and each window: 12,000 in all."""
    rows = spans(1000, max_length, 3)
    tokenizer = tiny.TOKENIZERS[name](PIECES)
    subject = task(max_length=max_length, stride=stride, max_answer_length=1000)
    examples = subject.encode(rows, tokenizer)
    null = np.asarray(examples.columns["null"])
    start, end = np.asarray(examples.columns["start"]), np.asarray(examples.columns["end"])
    found: Counter[int] = Counter()
    for i in np.flatnonzero(start != null):
        one = rows[examples.rows[i]]
        reduced = [np.array([0.0, -9.0, 0.0, start[i], end[i], -1.0])]
        alone = type(examples)({}, {}, np.zeros(1, dtype=int), examples.lengths[[i]], [examples.notes[i]])
        (answer,) = subject.answers([one], alone, reduced)
        due = one["answers"][0]
        assert (answer.prediction, answer.detail["start"]) == (due["text"], due["start"]), (
            name,
            one["context"],
        )
        found[int(examples.rows[i])] += 1
    room = stride if max_length < 384 else 200
    for number, one in enumerate(rows):
        begin = one["answers"][0]["start"]
        stop = begin + len(one["answers"][0]["text"])
        places = tokenizer(one["context"], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        if sum(a < stop and b > begin for a, b in places) <= room:
            assert found[number], f"{one} is in no window"
    assert len(found) >= {0: 300, 8: 500}.get(stride, 700)


@pytest.mark.parametrize("name", tiny.TOKENIZERS)
@pytest.mark.parametrize(("max_length", "stride"), WINDOWS)
def test_windows_cover_every_token_and_overlap_by_the_stride(name: str, max_length: int, stride: int) -> None:
    rows = spans(60, 1, 3)
    tokenizer = tiny.TOKENIZERS[name](PIECES)
    subject = task(max_length=max_length, stride=stride)
    examples = subject.encode(rows, tokenizer)
    assert examples.lengths.max() <= max_length
    assert [len(ids) for ids in examples.columns["input_ids"]] == examples.lengths.tolist()
    assert len(examples) > 2 * len(rows) or max_length > 24
    question = tokenizer("where ?", add_special_tokens=False)["input_ids"]
    front = tokenizer("where ?", "x").sequence_ids(0).index(1)
    checked = 0
    for number, one in enumerate(rows):
        whole: list[int] = []
        for i in np.flatnonzero(examples.rows == number):
            ids = examples.columns["input_ids"][i].tolist()
            assert ids[1 : 1 + len(question)] == question
            allowed = examples.columns["allowed"][i].astype(bool)
            assert allowed[0], "the first token stands for no answer"
            assert not allowed[1:front].any()
            assert not allowed[-1]
            here = ids[front:-1]
            if whole:
                shared = min(stride, len(here))
                assert here[:shared] == whole[len(whole) - shared :]
                here = here[shared:]
            whole += here
            checked += 1
        assert whole == tokenizer(one["context"], add_special_tokens=False)["input_ids"]
    assert checked == len(examples)


@pytest.mark.parametrize("name", tiny.TOKENIZERS)
@pytest.mark.parametrize(
    ("max_length", "stride"), [(16, 0), (16, 7), (20, 9), (28, 13), (64, 31), (384, 191), (384, 128)]
)
def test_a_question_longer_than_the_window_is_cut(name: str, max_length: int, stride: int) -> None:
    context = "anna lives in paris . " * 6
    rows = [row(1, context, "paris", context.index("paris"), question="where does anna live " * 200)]
    examples = task(max_length=max_length, stride=stride).encode(rows, tiny.TOKENIZERS[name]())
    assert examples.lengths.max() <= max_length
    covered = {
        o
        for note, ok in zip(examples.notes, examples.columns["allowed"])
        for o in map(tuple, note[ok == 1][1:].tolist())
    }
    assert max(stop for _, stop in covered) == len(context.rstrip())


@pytest.mark.parametrize("context", ["", " ", "\r\n", "\u200f", "\u200b", "\x00", "\u0301"])
@pytest.mark.parametrize("name", tiny.TOKENIZERS)
def test_a_passage_of_nothing_has_no_answer(name: str, context: str) -> None:
    subject = task(0.0)
    rows = [row(1, context), row(2, "anna lives in paris", "paris", 14)]
    examples = subject.encode(rows, tiny.TOKENIZERS[name]())
    batch = examples.batch(range(len(examples)))
    logits = torch.zeros(*batch["input_ids"].shape, 2)
    answers = subject.answers(rows, examples, subject.reduce(logits, batch))
    if not context.strip():
        assert answers[0].prediction == ""
    assert 0 <= answers[0].confidence <= 1


def brute_force(row: Row, examples, indices: list[int], logits: torch.Tensor, reach: int) -> dict[str, float]:
    """Every span of every window, one by one."""
    best, none, every = (-np.inf, 0, 0), np.inf, []
    for i in indices:
        start, end = logits[i].double().numpy().T
        allowed, offsets = examples.columns["allowed"][i], examples.notes[i]
        none = min(none, start[0] + end[0])
        places = [t for t in range(1, len(allowed)) if allowed[t]]
        for a, b in itertools.combinations_with_replacement(places, 2):
            if b - a < reach:
                every.append(start[a] + end[b])
                if every[-1] > best[0]:
                    best = (every[-1], int(offsets[a][0]), int(offsets[b][1]))
    total = np.logaddexp.reduce(every) if every else -np.inf
    out = {
        "margin": none - best[0],
        "none": np.exp(none - np.logaddexp(total, none)),
        "text": row["context"][best[1] : best[2]],
    }
    out["answer"] = np.exp(best[0] - np.logaddexp(total, none))
    return out | {"always": np.exp(best[0] - total)}


@pytest.mark.parametrize("reach", [1, 3, 30])
def test_the_answer_is_the_best_span_of_all_windows(reach: int) -> None:
    rows = tiny.questions(20)
    subject = task(0.0, max_length=24, stride=8, max_answer_length=reach)
    examples = subject.encode(rows, tiny.wordpiece())
    assert len(examples) > 2 * len(rows)
    batch = examples.batch(range(len(examples)))
    logits = 3 * torch.randn(
        len(examples), batch["input_ids"].shape[1], 2, generator=torch.Generator().manual_seed(reach)
    )
    reduced = subject.reduce(logits, batch)
    assert all(len(one) == 6 for one in reduced), "six numbers a window are kept, no logits"
    answers = subject.answers(rows, examples, reduced)
    assert len(answers) == len(rows)
    answered = 0
    for number, (one, answer) in enumerate(zip(rows, answers)):
        expected = brute_force(
            one, examples, [i for i in range(len(examples)) if examples.rows[i] == number], logits, reach
        )
        detail = answer.detail
        assert detail["text"] == expected["text"]
        assert one["context"][detail["start"] :].startswith(detail["text"])
        assert detail["margin"] == pytest.approx(expected["margin"], abs=1e-4)
        for name, key in (
            ("answer", "answer_probability"),
            ("none", "no_answer_probability"),
            ("always", "always_probability"),
        ):
            assert detail[key] == pytest.approx(expected[name], rel=1e-3)
        assert 0 <= detail["answer_probability"] + detail["no_answer_probability"] <= 1 + 1e-9
        assert answer.prediction == ("" if expected["margin"] > 0 else expected["text"])
        key = "answer_probability" if answer.prediction else "no_answer_probability"
        assert answer.confidence == detail[key]
        answered += bool(answer.prediction)
    assert answered >= 5


def test_the_loss_is_that_of_start_and_end_over_what_may_be_pointed_at() -> None:
    rows = tiny.questions(4)
    subject = task(0.0, max_length=32, stride=8)
    examples = subject.encode(rows, tiny.wordpiece())
    batch = examples.batch(range(len(examples)))
    logits = torch.randn(*batch["input_ids"].shape, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = subject.loss(logits, batch)
    expected = 0.0
    for i in range(len(examples)):
        ok = torch.as_tensor(examples.columns["allowed"][i]).bool()
        for column, name in ((0, "start"), (1, "end")):
            line = logits[i, : len(ok), column][ok].double()
            place = int(ok[: examples.columns[name][i]].sum())
            expected += float((torch.logsumexp(line, 0) - line[place]).detach()) / 2
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert not logits.grad[batch["allowed"] == 0].any(), "padding and question are never pushed up or down"
    assert subject.weights(examples).tolist() == [1.0] * len(examples)


def weighed(margins: np.ndarray, f1: np.ndarray, silent: np.ndarray) -> tuple[list[Row], list[Answer]]:
    """Rows and answers of these margins, whose best spans have these F1: 1, 2/3 or 0."""
    texts = {1.0: "paris", 0.667: "in paris", 0.0: "rome"}
    rows = [row(i, "anna lives in paris", None if no else "paris", 14) for i, no in enumerate(silent)]
    even = {"answer_probability": 0.5, "no_answer_probability": 0.5}
    details = [
        {"text": texts[round(float(value), 3)], "margin": float(margin), **even} for margin, value in zip(margins, f1)
    ]
    return rows, [Answer(str(detail["text"]), 0.5, detail) for detail in details]


def drawn(draw: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weak model's rows: margins, F1 of spans, and whether there is no answer, a little likelier at a large one."""
    margins = draw.normal(0, 2, count)
    silent = draw.random(count) < 1 / (1 + np.exp(-0.25 * margins))
    f1 = np.where(silent, 0.0, draw.choice([1.0, 2 / 3, 0.0], size=count, p=[0.5, 0.2, 0.3]))
    return margins, f1, silent


def gain(threshold: float, margins: np.ndarray, f1: np.ndarray, silent: np.ndarray) -> float:
    return float(np.where(margins <= threshold, f1 - silent, 0).mean())


def test_the_threshold_of_few_rows_serves_other_rows_better_than_the_one_that_is_best_on_them() -> None:
    draw, subject, ours, theirs = np.random.default_rng(0), task(0.0), [], []
    others = drawn(draw, 20_000)
    for _ in range(60):
        few = drawn(draw, 100)
        rows, answers = weighed(*few)
        subject.choose(rows, answers)
        ours.append(gain(subject.state["no_answer_threshold"], *others))
        theirs.append(gain(max(few[0], key=lambda cut: gain(cut, *few)), *others))
    best = max(gain(cut, *others) for cut in np.linspace(-8, 8, 300))
    assert best > 0.015
    assert np.mean(ours) > 0.5 * best > 1.5 * np.mean(theirs)


def test_where_margins_tell_all_the_threshold_lies_between() -> None:
    subject, draw = task(0.0), np.random.default_rng(1)
    for count in (2, 5, 40):
        right, wrong = draw.normal(-6, 1, count), draw.normal(3, 1, count)
        silent = np.arange(2 * count) >= count
        subject.choose(*weighed(np.concatenate([right, wrong]), np.where(silent, 0.0, 1.0), silent))
        assert right.max() < subject.state["no_answer_threshold"] < wrong.min()


def test_rows_of_one_margin_are_answered_together_and_spans_that_are_not_there_tell_nothing() -> None:
    subject = task(0.0)
    silent = np.array([False, False, False, True])
    rows, answers = weighed(np.array([1.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0]), silent)
    nothing = Answer("", 0.5, {**answers[0].detail, "text": "", "margin": 1e9})
    subject.choose([*rows, row(9, "anna lives in paris", None, 14)], [*answers, nothing])
    assert subject.state["no_answer_threshold"] == pytest.approx(2.0)  # above them all
    subject.choose(rows[:3], answers[:3])  # every one has an answer
    assert subject.state["no_answer_threshold"] == pytest.approx(2.0)
    subject.choose(rows[3:], answers[3:])
    assert subject.state["no_answer_threshold"] == pytest.approx(0.0)
    subject.choose(rows[:1], [nothing])
    assert subject.state["no_answer_threshold"] == 0.0


def test_data_without_unanswerable_questions_gets_an_answer_every_time() -> None:
    subject = task()
    rows = tiny.questions(5, unanswerable=False)
    subject.learn(rows)
    assert subject.state == {"no_answer_threshold": None}
    sure = {
        "text": "paris",
        "margin": 50.0,
        "always_probability": 0.9,
        "answer_probability": 0.1,
        "no_answer_probability": 0.8,
    }
    answers = [Answer("paris", 0.9, sure)] * len(rows)
    subject.choose(rows, answers)
    assert [(a.prediction, a.confidence) for a in subject.settle(rows, answers)] == [("paris", 0.9)] * len(rows)
    subject.learn(tiny.questions(5))
    assert subject.state == {"no_answer_threshold": 0.0}


def test_rows_without_labels_are_encoded_without_them() -> None:
    bare = [Row("1", {"question": "where ?", "context": "anna lives in paris"})]
    examples = task().encode(bare, tiny.wordpiece())
    assert {"start", "end"}.isdisjoint(examples.columns)
    assert "token_type_ids" in examples.columns


def test_an_answer_in_marks_that_the_tokenizer_drops_is_whole() -> None:
    context = "le cafe\u0301, l'e\u0301cole\u0301 et ❤️ ici"
    for word in ("cafe\u0301", "e\u0301cole\u0301", "❤️"):
        one = row(1, context, word, context.index(word))
        subject = task(0.0)
        examples = subject.encode([one], tiny.wordpiece())
        labels = [examples.columns[name][0] for name in ("start", "end")]
        (answer,) = subject.answers([one], examples, [np.array([1.0, -1.0, 1.0, *labels, 0.0])])
        assert answer.prediction == word
        assert unicodedata.category(word[-1]).startswith("M")


@pytest.mark.parametrize(
    "options",
    [{"max_length": 32, "stride": 16}, {"max_length": 15}, {"stride": -1}, {"max_answer_length": 0}],
)
def test_windows_that_make_no_way_are_refused(options: dict[str, int]) -> None:
    with pytest.raises((ValueError, LuthierError)):
        task(**options)


def test_in_words_it_tells_and_hears_what_it_asks_for() -> None:
    rows = tiny.questions(4)
    subject = task()
    subject.learn(rows)
    for row in rows:
        asked, told = subject.ask(row), subject.tell(row)
        assert row["context"] in asked
        assert row["question"] in asked
        assert SILENCE in asked
        heard = subject.hear(row, told)
        assert heard.prediction == (row["answers"][0]["text"] if row["answers"] else "")
        allowed = subject.allowed(row)
        assert (allowed.text, allowed.besides) == (row["context"], (SILENCE,))
        if row["answers"]:
            start = heard.detail["start"]
            assert row["context"][start : start + len(heard.prediction)] == heard.prediction
    assert subject.score(rows, [subject.hear(row, subject.tell(row)) for row in rows])["f1"] == 1
    assert subject.settle(rows[:1], [subject.hear(rows[0], "berlin")])[0].prediction == "berlin"


def test_where_every_row_has_an_answer_silence_is_not_offered() -> None:
    rows = tiny.questions(4, unanswerable=False)
    subject = task()
    subject.learn(rows)
    assert SILENCE not in subject.ask(rows[0])
    assert subject.allowed(rows[0]).besides == ()
    assert subject.hear(rows[0], SILENCE).prediction == SILENCE


@pytest.mark.parametrize("said", ["", "  ", "\n", "NO ANSWER.", "no answer", "\ufffd", "x" * 5000, "Berlin"])
def test_whatever_was_written_is_heard(said: str) -> None:
    rows = tiny.questions(2)
    subject = task(0.0)
    answer = subject.hear(rows[0], said)
    assert answer.confidence == 1
    if normalise(said) in ("", "no answer"):
        assert answer.prediction == ("" if said.strip().lower().startswith("no") else said.strip())
    elif said == "Berlin" and "berlin" in rows[0]["context"]:
        assert answer.prediction == "berlin"
