"""Token classification: words and pieces in any script, windows, the loss, answers, and the task in words."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from luthier.engine.entities.bio import entities, spelled
from luthier.engine.entities.pieces import frame, pieces, windows
from luthier.errors import DataError, RecipeError
from luthier.records import Row
from luthier.serve.sentences import sentence_row
from luthier.tasks import TASKS

TYPES = ["group", "person", "作品"]
ODD = [
    "é",
    "e\u0301",
    "ﬁ",
    "İ",
    "ß",
    "東京",
    "ไทย",
    "नमस्ते",
    "👨\u200d👩\u200d👧",
    "🇩🇪",
    "½",
    "㍿",
    "don't",
    "@x_y",
    "New York",
    "C++",
]
DROPPED = ["\u200b", "\u0301", "\ufe0f", " ", "\x07"]  # some tokenizers make nothing of these
FAMILIES = {**tiny.TOKENIZERS, "chat-bpe": tiny.chat_bpe, "t5": tiny.t5_bpe}


def task(types: list[str] = TYPES, **options: object) -> Any:
    kind = TASKS["token-classification"]
    made = kind(kind.Options(**options))
    made.learn([Row("0", {"tokens": list(types), "tags": [f"B-{name}" for name in types]})])
    return made


def sentence(draw: random.Random, length: int, words: list[str]) -> Row:
    found, at = [], 0
    while at < length:
        end = min(length, at + draw.randint(1, 4))
        if draw.random() < 0.5:
            found.append((at, end, draw.choice(TYPES)))
        at = end
    tokens = [draw.choice(words) for _ in range(length)]
    return Row(str(draw.random()), {"tokens": tokens, "tags": spelled(found, length)})


def told(subject: Any, rows: list[Row], examples: Any) -> list[Any]:
    """Answers from logits that are sure of each label that training would ask for."""
    reduced: list[Any] = []
    for i in range(len(examples)):
        batch = examples.batch([i])
        labels = batch["labels"]
        logits = torch.nn.functional.one_hot(labels.clamp(min=0), len(subject.labels)).float() * 20
        reduced += subject.reduce(logits, batch)
    return subject.answers(rows, examples, reduced)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_tags_to_labels_and_back_is_exact_in_any_script_and_through_windows(family: Any) -> None:
    draw, words = random.Random(0), tiny.WORDS + ODD * 4
    rows = [sentence(draw, draw.choice([0, 1, 3, 8, 40, 120]), words) for _ in range(200)]
    subject, tokenizer = task(max_length=24, stride=6), family(ODD)
    examples = subject.encode(rows, tokenizer)
    assert examples.lengths.max() <= 24
    assert len(examples) > 400
    answers = told(subject, rows, examples)
    num_spans = 0
    for row, answer in zip(rows, answers):
        assert answer.prediction == row["tags"]
        num_spans += len(answer.detail["entities"])
    assert num_spans >= 1000


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_words_that_give_no_piece_have_a_tag_all_the_same(family: Any) -> None:
    subject, tokenizer, draw = task(), family(ODD), random.Random(1)
    rows = [sentence(draw, 12, ["paul", *DROPPED]) for _ in range(200)]
    answers = told(subject, rows, subject.encode(rows, tokenizer))
    assert [len(a.prediction) for a in answers] == [12] * 200
    lost = 0
    for row, answer in zip(rows, answers):
        (_, words), gone = next(pieces([row["tokens"]], tokenizer)), set(range(12))
        seen = gone & set(words.tolist())
        lost += len(gone - seen)
        # An entity is what can be seen of it.
        inside = [([i for i in range(a, b) if i in seen], kind) for a, b, kind in entities(row["tags"])]
        assert entities(answer.prediction) == [(own[0], own[-1] + 1, kind) for own, kind in inside if own]
    assert lost > 0 or family not in (tiny.wordpiece, tiny.unigram)


def test_pieces_are_those_of_words_given_apart() -> None:
    """transformers' own way for split words gives the same pieces and places, where it has one."""
    draw, tokenizer = random.Random(2), tiny.wordpiece(ODD)
    texts = [[draw.choice(tiny.WORDS + ODD + DROPPED) for _ in range(30)] for _ in range(50)]
    apart = tokenizer(texts, is_split_into_words=True, add_special_tokens=False)
    for i, (ids, words) in enumerate(pieces(texts, tokenizer)):
        assert ids.tolist() == apart["input_ids"][i]
        assert words.tolist() == apart.word_ids(i)


def test_each_word_is_answered_once_where_it_has_most_around_it() -> None:
    draw, shared = random.Random(3), 0
    for _ in range(300):
        words = np.sort(np.array([draw.randint(-1, 40) for _ in range(draw.randint(0, 90))], dtype=int))
        draw_room = draw.randint(6, 30)
        stride = draw.randint(0, draw_room // 2 - 1)
        made = list(windows(words, draw_room, stride))
        firsts = sorted({int(np.flatnonzero(words == w)[0]) for w in set(words.tolist()) - {-1}})
        assert sorted(int(f) for _, _, own in made for f in own) == firsts
        assert made[0][0] == 0
        assert made[-1][1] == len(words)
        for (_, end, _), (begin, _, _) in pairwise(made):
            assert end - begin == stride

        def around(place: int, begin: int, end: int, length: int = len(words)) -> float:
            left = place - begin if begin else np.inf
            return min(left, end - 1 - place if end < length else np.inf)

        for begin, end, own in made:
            for place in own:
                best = [around(place, a, b) for a, b, _ in made if a <= place < b]
                assert around(place, begin, end) == max(best)
                shared += len(best) > 1
    assert shared > 500


def test_special_tokens_stand_around_every_window() -> None:
    tokenizer, subject = tiny.byte_bpe(), task(max_length=10, stride=2)
    row = Row("1", {"tokens": ["paul", "lives", "in", "rome"] * 6, "tags": ["O"] * 24})
    examples = subject.encode([row], tokenizer)
    before, after = frame(tokenizer)
    assert (before.tolist(), after.tolist()) == ([0], [2])
    whole = next(pieces([row["tokens"]], tokenizer))[0].tolist()
    joined: list[int] = []
    for ids in examples.columns["input_ids"]:
        assert (ids[0], ids[-1]) == (0, 2)
        inside = ids[1:-1].tolist()
        joined += inside[2:] if joined else inside
    assert joined == whole
    assert subject.lengths([row], tokenizer) == [len(whole) + 2]


def test_labels_stand_on_first_pieces_or_on_all() -> None:
    tokenizer = tiny.wordpiece()
    row = Row("1", {"tokens": ["the-cat", "film", "a-b"], "tags": ["B-person", "I-person", "O"]})
    first = task().encode([row], tokenizer).columns["labels"][0]
    every = task(label_all_pieces=True).encode([row], tokenizer).columns["labels"][0]
    assert first.tolist() == [-100, 3, -100, -100, 4, 0, -100, -100, -100]
    assert every.tolist() == [-100, 3, 4, 4, 4, 0, 0, 0, -100]


def test_the_loss_is_that_of_transformers_and_every_word_weighs_the_same() -> None:
    subject, tokenizer = task(), tiny.wordpiece()
    rows = [sentence(random.Random(i), 3 + i, tiny.WORDS) for i in range(6)]
    rows.append(Row("x", {"tokens": ["paul", "rome"], "tags": ["B-unseen", "O"]}))
    examples = subject.encode(rows, tokenizer)
    assert subject.weights(examples).tolist() == [3, 4, 5, 6, 7, 8, 1]
    logits = torch.randn(7, int(examples.lengths.max()), 7, generator=torch.Generator().manual_seed(0))
    batch = {name: value[:, : logits.shape[1]] for name, value in examples.batch(range(7)).items()}
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
    assert float(subject.loss(logits, batch) / subject.weights(examples).sum()) == pytest.approx(float(mean))


def test_weights_of_tags_and_types() -> None:
    subject, tokenizer = task(), tiny.wordpiece()
    rows = [Row("1", {"tokens": ["paul", "in", "rome", "is"], "tags": ["B-person", "O", "O", "O"]})]
    subject.regularise(0.0, {"person": 3.0, "O": 0.5}, rows)
    examples = subject.encode(rows, tokenizer)
    assert subject.weights(examples).tolist() == [3 + 1.5]
    subject.regularise(0.0, "balanced", rows)
    assert subject.weights(examples).tolist() == [pytest.approx(2 + 3 * 2 / 3)]
    with pytest.raises(RecipeError, match=r'no label "persn".*person'):
        subject.regularise(0.0, {"persn": 1.0}, rows)


def test_a_doubtful_row_is_computed_again_with_all_its_windows() -> None:
    subject, tokenizer = task(max_length=16, stride=4), tiny.wordpiece()
    rows = [sentence(random.Random(i), n, tiny.WORDS) for i, n in enumerate((5, 40, 6))]
    examples = subject.encode(rows, tokenizer)
    sure = [np.log(np.full((len(n), 7), 1e-9)) for n in examples.notes]
    for chances in sure:
        chances[:, 0] = 0.0
    assert subject.unsure(examples, sure).tolist() == []
    sure[2][0, 1] = -0.01
    windows_of_1 = np.flatnonzero(examples.rows == 1)
    assert len(windows_of_1) >= 3
    assert subject.unsure(examples, sure).tolist() == windows_of_1.tolist()
    # "B I" against "O O": each word by itself is sure of what the other forbids.
    sure[2][0, 1] = np.log(1e-9)
    sure[0][0, 1], sure[0][1, 0], sure[0][1, 2] = -2.0, -2.0, 0.0
    assert 0 in subject.unsure(examples, sure)


def test_answers_say_where_entities_stand_in_words_and_text() -> None:
    subject, tokenizer = task(), tiny.wordpiece()
    given = sentence_row("Anna  met\nBen-Paul in rome.", "tokens", 4)
    assert given["tokens"] == ["Anna", "met", "Ben-Paul", "in", "rome", "."]
    tags = ["B-person", "O", "B-person", "O", "O", "O"]
    row = Row(given.id, {**given.fields, "tags": tags})
    answer = told(subject, [row], subject.encode([row], tokenizer))[0]
    one, two = answer.detail["entities"]
    assert (one["text"], one["start"], one["end"], one["start_char"], one["end_char"]) == ("Anna", 0, 1, 0, 4)
    assert (two["text"], two["label"], two["start_char"]) == ("Ben-Paul", "person", 10)
    assert answer.detail["tokens"] == given["tokens"]
    assert 0.99 < one["score"] <= 1
    assert 0.99 < answer.confidence <= 1
    bare = Row("2", {"tokens": given["tokens"], "tags": tags})
    plain = told(subject, [bare], subject.encode([bare], tokenizer))[0].detail
    assert "tokens" not in plain
    assert "start_char" not in plain["entities"][0]
    searched = Row("3", {**bare.fields, "text": given["text"]})
    found = told(subject, [searched], subject.encode([searched], tokenizer))[0].detail["entities"]
    assert [e["start_char"] for e in found] == [0, 10]


@pytest.mark.parametrize(
    "row",
    [3, {"tokens": 3}, {"words": ["a"]}, {"tokens": ["a", ""]}, {"tokens": ["a", 1]}, " ", {"tokens": "\n"}],
)
def test_what_is_neither_words_nor_a_text_is_refused(row: Any) -> None:
    with pytest.raises(DataError, match="row 7"):
        sentence_row(row, "tokens", 7)
    with pytest.raises(DataError, match="half a character"):
        sentence_row({"tokens": ["a", "\ud83d"]}, "tokens", 7)


def test_rows_to_answer_may_be_words_or_texts() -> None:
    assert sentence_row(["a", "b"], "tokens", 1) == Row("1", {"tokens": ["a", "b"]})
    assert sentence_row({"tokens": ("a",), "id": 5, "tags": ["O"]}, "tokens", 1) == Row("5", {"tokens": ["a"]})
    assert sentence_row({"text": "a b"}, "tokens", 1)["offsets"] == [(0, 1), (2, 3)]


def test_telling_and_hearing_are_one_another() -> None:
    subject, draw = task(), random.Random(5)
    for _ in range(200):
        row = sentence(draw, draw.randint(1, 12), tiny.WORDS)
        asked = Row(row.id, {"tokens": row["tokens"]})
        assert "group, person, 作品" in subject.ask(asked)
        heard = subject.hear(asked, subject.tell(row))
        # A mention that stands twice is found in order; one inside another may be taken for it.
        if len(set(row["tokens"])) == len(row["tokens"]):
            assert heard.prediction == row["tags"]
        assert len(heard.prediction) == len(row["tags"])
    assert subject.tell(Row("1", {"tokens": ["a"], "tags": ["O"]})) == "none"


@pytest.mark.parametrize(
    "types", [["geo", "geo:city"], ["LOC", "loc"], ["creative-work", "creative_work"], ["a=b", "1"], ["x", "none"]]
)
def test_types_of_any_letters_are_told_and_heard(types: list[str]) -> None:
    subject = task(types)
    row = Row("1", {"tokens": ["None", "saw", "Rome"], "tags": [f"B-{types[1]}", "O", f"B-{types[0]}"]})
    assert subject.hear(row, subject.tell(row)).prediction == row["tags"]
    assert all(name in subject.ask(row) for name in types)
    names: dict[str, Any] = {}
    exec("import re\nimport unicodedata\n" + subject.hear_code(), names)  # noqa: S102, our own lines
    assert names["hear"](subject.tell(row), tokens=row["tokens"]) == row["tags"]


@pytest.mark.parametrize("given", [[[0, 1]], [[0, 1], [2]], [[0, 1], 5], [[0, 1], ["a", "b"]], [[0, 1], [2, 9]]])
def test_offsets_that_are_not_where_words_stand_are_refused(given: Any) -> None:
    row = sentence_row({"tokens": ["a", "b"], "text": "a b", "offsets": given, "id": "q7"}, "tokens", 1)
    with pytest.raises(DataError, match=r"row q7: offsets is .*each of the 2 words"):
        task().hear(row, "person: b")


@pytest.mark.parametrize("given", ["0 5", 5, None])
def test_a_column_that_is_called_offsets_is_passed_over(given: Any) -> None:
    row = Row("1", {"tokens": ["a", "b"], "text": "a b", "offsets": given})
    detail = task().hear(row, "person: b").detail
    assert detail["entities"][0]["start_char"] == 2
    assert "tokens" not in detail


def test_learning_takes_every_type_and_keeps_the_order() -> None:
    rows = [Row("1", {"tokens": ["a", "b"], "tags": ["I-z", "B-a"]}), Row("2", {"tokens": [], "tags": []})]
    subject = task()
    subject.learn(rows)
    assert subject.labels == ["O", "B-a", "I-a", "B-z", "I-z"]
    subject.inherit({"labels": ["O", "B-m", "I-m"]})
    assert subject.labels == ["O", "B-m", "I-m", "B-a", "I-a", "B-z", "I-z"]
    assert subject.types == ["m", "a", "z"]


def test_a_stride_that_leaves_no_way_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.stride is 32: it must be below half"):
        task(max_length=64)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_lines_of_the_model_card_answer_the_same(family: Any) -> None:
    """With a model that is a table of random numbers: windows, dropped words and the way through the tags."""
    subject, tokenizer, draw = task(max_length=16, stride=5), family(ODD), random.Random(6)
    table = torch.randn(len(tokenizer), 7, generator=torch.Generator().manual_seed(0))
    rows = [sentence(draw, n, tiny.WORDS + ODD + DROPPED) for n in (0, 1, 2, 9, 30, 60) for _ in range(6)]

    def predict(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        ids = inputs["input_ids"]
        return table[ids] + 0.3 * torch.cumsum(table[ids], 1)

    names: dict[str, Any] = {
        "tokenizer": tokenizer,
        "predict": predict,
        "torch": torch,
        "LABELS": subject.labels,
    }
    exec(subject.card_code(), names)  # noqa: S102, these are our own lines
    examples = subject.encode(rows, tokenizer)
    reduced = [
        subject.reduce(predict(batch), batch)[0] for batch in (examples.batch([i]) for i in range(len(examples)))
    ]
    num_found = 0
    for row, answer in zip(rows, subject.answers(rows, examples, reduced)):
        assert names["answer"](row["tokens"]) == answer.prediction
        num_found += len(answer.detail["entities"])
    assert num_found > 100
