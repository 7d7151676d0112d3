"""EM and F1 against the SQuAD 2.0 evaluation, written out here from its published definition; BLEU and ROUGE-L against
sacrebleu and rouge-score.
"""

from __future__ import annotations

import collections
import random
import re
import string
from types import SimpleNamespace

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from luthier.records import Answer, Row
from luthier.tasks import TASKS
from luthier.tasks.text_scores import _is_latin, _words_of_any_script

# Rajpurkar et al. 2018 (arxiv.org/abs/1806.03822), evaluation script of SQuAD 2.0, in its own steps.


def official_normal(text: str) -> str:
    text = text.lower()
    text = "".join(ch for ch in text if ch not in set(string.punctuation))
    text = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)
    return " ".join(text.split())


def official_f1(gold: str, given: str) -> float:
    gold_tokens = official_normal(gold).split() if gold else []
    given_tokens = official_normal(given).split() if given else []
    same = sum((collections.Counter(gold_tokens) & collections.Counter(given_tokens)).values())
    if len(gold_tokens) == 0 or len(given_tokens) == 0:
        return int(gold_tokens == given_tokens)
    if same == 0:
        return 0
    precision, recall = same / len(given_tokens), same / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


def official_scores(answers: list[list[str]], given: list[str]) -> dict[str, float]:
    exact, f1, has = [], [], []
    for texts, prediction in zip(answers, given):
        golds = golds_of(texts)
        exact.append(max(int(official_normal(gold) == official_normal(prediction)) for gold in golds))
        f1.append(max(official_f1(gold, prediction) for gold in golds))
        has.append(bool(texts))
    out = {"exact_match": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}
    for name, value in (("has_answer_f1", True), ("no_answer_f1", False)):
        some = [score for score, kind in zip(f1, has) if kind == value]
        if some:
            out[name] = sum(some) / len(some)
    written = [(golds_of(texts), said) for texts, said in zip(answers, given) if texts]
    if written:
        longest = max(len(golds) for golds, _ in written)
        references = [[golds[i] if i < len(golds) else None for golds, _ in written] for i in range(longest)]
        out["bleu"] = BLEU(force=True).corpus_score([said for _, said in written], references).score
        best = [max(rouge(gold, said) for gold in golds) for golds, said in written]
        out["rouge_l"] = sum(best) / len(best)
    return out


ROUGE = RougeScorer(["rougeL"], use_stemmer=False)
OF_ANY_SCRIPT = RougeScorer(["rougeL"], tokenizer=SimpleNamespace(tokenize=_words_of_any_script))


def rouge(gold: str, said: str) -> float:
    """rouge-score's, with luthier's words where it knows none."""
    return (ROUGE if _is_latin(gold) else OF_ANY_SCRIPT).score(gold, said)["rougeL"].fmeasure


def golds_of(texts: list[str]) -> list[str]:
    return [text for text in texts if official_normal(text)] or [""]


TEXTS = (
    "the a an The AN theatre Paris paris PARIS, 1,000 1000 3.5 3 5 U.S. us - — – … ! ?! '' “quoted” \"q\" café "
    "cafe\u0301 straße STRASSE ＡＢＣ 漢字 仮名 שלום مرحبا 👨\u200d👩\u200d👧 ❤️ ﬁne İstanbul ß ſ "
    "\u00a0 \u200b \u2028 _ $5 a.b an-the"
)
PIECES = [*TEXTS.split(" "), "", " ", "\t", "\r\n"]


def text_of(draw: random.Random, most: int) -> str:
    return draw.choice([" ", "  ", "", "-"]).join(draw.choice(PIECES) for _ in range(draw.randint(0, most)))


def case_of(draw: random.Random) -> tuple[list[str], str]:
    golds = [text_of(draw, 4) for _ in range(draw.choice([0, 1, 1, 1, 3]))]
    kind = draw.random()
    if kind < 0.4 or not golds:
        return golds, text_of(draw, 4)
    near = draw.choice(golds).split()
    draw.shuffle(near)
    return golds, " ".join(near[: draw.randint(0, len(near))] + ([draw.choice(PIECES)] if kind < 0.6 else []))


def subject():
    kind = TASKS["question-answering"]
    return kind(kind.Options())


def rows_of(answers: list[list[str]]) -> list[Row]:
    fields = [{"question": "q", "context": "c", "answers": [{"text": t, "start": 0} for t in some]} for some in answers]
    return [Row(str(i), one) for i, one in enumerate(fields)]


def test_scores_equal_the_official_evaluation_row_by_row() -> None:
    draw, kinds = random.Random(0), collections.Counter()
    for _ in range(1000):
        golds, given = case_of(draw)
        found = subject().score(rows_of([golds]), [Answer(given, 1.0)])
        expected = official_scores([golds], [given])
        assert found.keys() == expected.keys(), (golds, given)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-9), (name, golds, given)
        kinds[1 if expected["f1"] == 1 else 0 if expected["f1"] == 0 else 0.5] += 1
        kinds["no answer"] += not golds
        kinds["only punctuation"] += bool(golds) and not any(map(official_normal, golds))
        kinds["empty prediction"] += not given
    assert sum(kinds[k] for k in (0, 0.5, 1)) == 1000
    assert min(kinds.values()) >= 40, kinds


def test_scores_of_many_rows_and_of_any_sample_of_them() -> None:
    draw = random.Random(1)
    cases = [case_of(draw) for _ in range(400)]
    rows, answers = rows_of([g for g, _ in cases]), [Answer(t, 1.0) for _, t in cases]
    found, expected = subject().score(rows, answers), official_scores(*map(list, zip(*cases)))
    assert found == pytest.approx(expected, abs=1e-9)
    sample = np.random.default_rng(0).integers(0, 400, (10, 150))
    sums = subject().scores(subject().counts(rows, answers)[sample].sum(1))
    for i, drawn in enumerate(sample):
        expected = official_scores(*map(list, zip(*(cases[j] for j in drawn))))
        for name, value in expected.items():
            assert sums[name][i] == pytest.approx(value, abs=1e-9)


def test_what_there_is_none_of_has_no_score() -> None:
    assert set(subject().score(rows_of([["x"]]), [Answer("x", 1.0)])) == {
        "f1",
        "exact_match",
        "has_answer_f1",
        "bleu",
        "rouge_l",
    }
    assert set(subject().score(rows_of([[]]), [Answer("", 1.0)])) == {"f1", "exact_match", "no_answer_f1"}


def test_quality_and_correctness_are_f1_and_exact_match() -> None:
    rows = rows_of([["the blue house"], [], ["x", "blue"]])
    answers = [Answer("Blue", 1.0), Answer("", 1.0), Answer("blue.", 1.0)]
    assert subject().quality(rows, answers).tolist() == pytest.approx([2 / 3, 1, 1])
    assert subject().correct(rows, answers).tolist() == [False, True, True]


def test_tables_cover_every_row() -> None:
    draw = random.Random(2)
    cases = [case_of(draw) for _ in range(200)]
    rows, answers = rows_of([g for g, _ in cases]), [Answer(t, 1.0) for _, t in cases]
    kinds, *bands = subject().tables(rows, answers)
    assert sum(line[1] for line in kinds.rows) == 200
    assert kinds.rows[0][1] == sum(bool(g) for g, _ in cases)
    assert len(bands) == 2
    assert sum(line[1] for line in bands[1].rows) == 200
