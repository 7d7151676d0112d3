"""Scores of written texts are sacrebleu's and rouge-score's, whatever the texts, and sums of rows are enough."""

from __future__ import annotations

import random

import numpy as np
import pytest

from luthier.tasks.text_scores import WIDTH, _is_latin, rouge_l, text_counts, text_scores

PIECES = (
    "the cat sat on a mat , . ! don't U.S. 3,000 1.5 2-3 &quot; &amp;lt; <skipped> naïve Straße é ﬁ CAT (hi) "
    "東京 한국어 e\u0301 😀 👩‍👩‍👧 नमस्ते العربية Ⅷ ½ x_y İstanbul \u200b a-\nb \u00a0 \t \n"
)
WORDS = [*PIECES.split(" "), ""]


def cases(count: int, seed: int) -> list[tuple[list[str], str]]:
    """(accepted texts, one to four; the text given): empty, alike but for a word, alike but for blanks, or unlike.

    What is accepted is mostly Latin: in other scripts rouge-score finds no words, and luthier does.
    """
    draw = random.Random(seed)

    def text() -> str:
        size = draw.choice((0, 0, 1, 2, 3, 4, 5, 8, 20, 90))
        return draw.choice((" ", " ", "")).join(draw.choices(WORDS, k=size))

    out = []
    for _ in range(count):
        accepted = [text() for _ in range(draw.choice((1, 1, 1, 2, 4)))]
        accepted = [one if _is_latin(one) else one + "cat " * len(one) for one in accepted]
        near = draw.choice(accepted)
        given = draw.choice((text(), near, f" {near}\n", near.upper(), near + " " + text(), near[::-1], ""))
        if draw.random() < 0.2:
            accepted.append(accepted[0])
        out.append((accepted, given))
    return out


def reference(rows: list[tuple[list[str], str]]) -> dict[str, float]:
    """The same scores by the tools of the field."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu, corpus_chrf

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    given = [text for _, text in rows]
    most = max(len(accepted) for accepted, _ in rows)
    # sacrebleu takes one list for each place; a row with fewer texts has None there.
    streams = [[a[i] if i < len(a) else None for a, _ in rows] for i in range(most)]
    return {
        "exact_match": float(np.mean([any(a.strip() == t.strip() for a in texts) for texts, t in rows])),
        "rouge_l": float(np.mean([scorer.score_multi(a, t)["rougeL"].fmeasure for a, t in rows])),
        "bleu": corpus_bleu(given, streams, force=True).score,
        "chrf": corpus_chrf(given, streams).score,
    }


def test_each_of_a_thousand_texts_has_the_scores_of_the_reference_tools() -> None:
    rows = cases(1000, 0)
    counts = np.stack([text_counts(*row) for row in rows])
    assert counts.shape == (1000, WIDTH)
    ours = text_scores(counts)
    for i, row in enumerate(rows):
        for key, value in reference([row]).items():
            assert ours[key][i] == pytest.approx(value, abs=1e-9), (key, row)
    assert sum(ours["bleu"] > 0) > 300 and sum(ours["rouge_l"] == 1) > 50


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1000])
def test_sums_of_rows_have_the_scores_of_the_corpus(size: int) -> None:
    rows = cases(size, size)
    sums = np.sum([text_counts(*row) for row in rows], axis=0)
    ours = text_scores(sums)
    for key, value in reference(rows).items():
        assert float(ours[key]) == pytest.approx(value, abs=1e-9), key


def test_a_row_drawn_twice_counts_twice() -> None:
    rows = cases(40, 3)
    counts = np.stack([text_counts(*row) for row in rows])
    weights = np.random.default_rng(0).integers(0, 4, size=(5, 40))
    ours = text_scores(weights @ counts)
    for i, times in enumerate(weights):
        drawn = [row for row, n in zip(rows, times) for _ in range(n)]
        for key, value in reference(drawn).items():
            assert ours[key][i] == pytest.approx(value, abs=1e-9), key


def test_without_rows_no_score_is_defined_and_case_counts_for_exact_match() -> None:
    assert all(np.isnan(value) for value in text_scores(np.zeros(WIDTH)).values())
    assert text_scores(text_counts(["Yes."], " Yes.\n"))["exact_match"] == 1
    assert text_scores(text_counts(["Yes."], "yes."))["exact_match"] == 0
    assert text_scores(text_counts([], ""))["exact_match"] == 1


@pytest.mark.parametrize(
    ("expected", "given", "score"),
    [
        ("Анна живёт в Берлине.", "анна живёт в Берлине", 1.0),
        ("Анна живёт в Берлине в 2024", "Карл живёт в Риме в 2024", 4 / 6),
        ("東京は大きい", "東京は小さい", 4 / 6),
        ("บ้าน", "บ้าน", 1.0),
        ("घर बड़ा है", "घर छोटा है", 2 / 3),
        ("Анна", "Anna", 0.0),
        ("ωδη", "", 0.0),
    ],
)
def test_rouge_has_words_in_every_script(expected: str, given: str, score: float) -> None:
    assert rouge_l(expected, given) == pytest.approx(score)


def test_rouge_takes_the_longest_common_subsequence_not_substring() -> None:
    assert rouge_l("a b c d", "a x b y c z d") == pytest.approx(2 * (4 / 7) * 1 / (4 / 7 + 1))
    assert rouge_l("a b", "b a") == 0.5
