"""Classification: scores as scikit-learn counts them, answers from logits, and what weighs in the loss."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

import tiny
from luthier.records import Answer, Row
from luthier.tasks import TASKS

NAMES = ["α", "b", "ç", "neg", "pos", "日本", "z z", "10"]


def task(labels: list[str], **options: object) -> Any:
    kind = TASKS["classification"]
    return kind(kind.Options(**options), {"labels": sorted(labels)})


def row(number: int, label: str) -> Row:
    return Row(str(number), {"text": "x", "label": label})


def test_scores_are_those_of_scikit_learn() -> None:
    draw, cases, unseen = random.Random(0), 0, 0
    for _ in range(1000):
        known = draw.sample(NAMES, draw.randint(1, 5))
        possible = known if draw.random() < 0.6 else NAMES  # labels that training never saw
        gold = [draw.choice(possible) for _ in range(draw.randint(1, 25))]
        given = [draw.choice(known) for _ in gold]
        rows = [row(i, label) for i, label in enumerate(gold)]
        answers = [Answer(label, 1.0) for label in given]
        subject = task(known)
        found = subject.score(rows, answers)
        assert found["accuracy"] == pytest.approx(accuracy_score(gold, given), abs=1e-12)
        assert found["macro_f1"] == pytest.approx(f1_score(gold, given, average="macro", zero_division=0), abs=1e-12)
        assert subject.correct(rows, answers).tolist() == [a == b for a, b in zip(gold, given)]
        unseen += not set(gold) <= set(known)
        cases += 1
    assert cases == 1000
    assert unseen > 100


def test_counts_can_be_summed_over_any_rows() -> None:
    draw = random.Random(1)
    gold, given = ([draw.choice(NAMES[:4]) for _ in range(300)] for _ in range(2))
    subject = task(NAMES[:4])
    counts = subject.counts([row(i, g) for i, g in enumerate(gold)], [Answer(g, 1.0) for g in given])
    drawn = np.random.default_rng(0).integers(0, 300, (20, 300))
    sums = counts[drawn].sum(1)
    scores = subject.scores(sums)
    for i, sample in enumerate(drawn):
        a, b = [gold[j] for j in sample], [given[j] for j in sample]
        assert scores["accuracy"][i] == pytest.approx(accuracy_score(a, b), abs=1e-12)
        assert scores["macro_f1"][i] == pytest.approx(f1_score(a, b, average="macro", zero_division=0), abs=1e-12)


def test_tables_count_what_scikit_learn_counts() -> None:
    draw = random.Random(2)
    gold, given = ([draw.choice(NAMES[:5]) for _ in range(200)] for _ in range(2))
    tables = task(NAMES[:5]).tables([row(i, g) for i, g in enumerate(gold)], [Answer(g, 1.0) for g in given])
    names = sorted(NAMES[:5])
    by_label, confusion = tables
    assert [line[0] for line in by_label.rows] == names
    assert [line[4] for line in by_label.rows] == [
        round(f, 4) for f in f1_score(gold, given, average=None, labels=names)
    ]
    assert [list(line[1:]) for line in confusion.rows] == confusion_matrix(gold, given, labels=names).tolist()


def test_answers_are_the_most_probable_labels() -> None:
    subject = task(["a", "b", "c"])
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 4
    reduced = subject.reduce(logits, {})
    answers = subject.answers([row(i, "a") for i in range(50)], None, reduced)
    assert len(answers) == 50
    for one, line in zip(answers, logits):
        chances = line.double().softmax(-1)
        assert one.prediction == "abc"[int(line.argmax())]
        assert one.confidence == pytest.approx(float(chances.max()))
        assert 0 <= one.confidence <= 1
        assert sum(one.detail["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_labels_are_sorted_whatever_order_they_come_in() -> None:
    rows = [row(i, label) for i, label in enumerate(["pos", "neg", "10", "pos", "α"])]
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        subject = task([])
        subject.learn(rows)
        assert subject.labels == ["10", "neg", "pos", "α"]


def test_a_label_unseen_in_training_weighs_nothing_in_the_loss() -> None:
    rows = [*tiny.reviews(3), Row("9", {"text": "a film", "label": "mixed"})]
    subject = task(["negative", "positive"])
    examples = subject.encode(rows, tiny.wordpiece())
    assert subject.weights(examples).tolist() == [1, 1, 1, 0]
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    batch = examples.batch(range(4))
    known = torch.nn.functional.cross_entropy(logits[:3], batch["labels"][:3], reduction="sum")
    assert torch.equal(subject.loss(logits, batch), known)


@pytest.mark.parametrize("tokenizer", tiny.TOKENIZERS.values(), ids=tiny.TOKENIZERS)
def test_texts_are_cut_to_max_length_and_keep_their_order(tokenizer) -> None:
    rows = [Row(str(i), {"text": "the film is good " * (i % 7 + 1) + f"{i}"}) for i in range(1500)]
    subject, made = task(["a"], max_length=16), tokenizer(["0123456789"])
    examples = subject.encode(rows, made)
    assert len(examples) == 1500
    assert examples.lengths.max() == 16
    assert "labels" not in examples.columns
    for i in (0, 999, 1000, 1499):
        expected = made(rows[i]["text"], truncation=True, max_length=16)["input_ids"]
        assert examples.columns["input_ids"][i].tolist() == expected
    whole = [len(made(r["text"])["input_ids"]) for r in rows]
    assert subject.lengths(rows, made) == whole


@pytest.mark.parametrize("text", ["", " ", "\x00", "\u200b", "🙂" * 400, "e\u0301\r\n"])
def test_odd_texts_are_encoded(text: str) -> None:
    examples = task(["a", "b"]).encode([Row("1", {"text": text, "label": "a"})], tiny.wordpiece())
    assert examples.lengths[0] >= 2
