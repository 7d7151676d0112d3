"""Retrieval and likeness scored: equal to counting by hand over every order of ties, and to scipy's Spearman."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from luthier.records import Answer, Row
from luthier.tasks import TASKS
from luthier.tasks.retrieval import scores as retrieval_scores
from luthier.tasks.retrieval.baselines import K1, B, bm25, retrieval_rival, scored_rival
from luthier.tasks.retrieval.scores import (
    Collection,
    centred_ranks,
    query_weights,
    rank,
    rank_correlation,
    rank_counts,
    text_id,
)


def row(number: int, anchor: str, positive: str, negative: str | None = None) -> Row:
    fields = {"anchor": anchor, "positive": positive}
    return Row(str(number), fields if negative is None else {**fields, "negative": negative})


def by_hand(line: list[float], right: set[int], first: int) -> tuple[float, float]:
    """Mean reciprocal rank of the first right candidate and mean recall, over every order that likeness allows."""
    ranks, recalls = [], []
    for order in itertools.permutations(range(len(line))):
        if any(line[a] < line[b] for a, b in itertools.pairwise(order)):
            continue
        ranks.append(1 / (1 + next(place for place, c in enumerate(order) if c in right)))
        recalls.append(len(right & set(order[:first])) / len(right))
    return sum(ranks) / len(ranks), sum(recalls) / len(recalls)


def test_ranks_are_the_mean_over_every_order_of_ties(monkeypatch) -> None:
    monkeypatch.setattr(retrieval_scores, "FIRST", 2)
    draw, cases, tied = random.Random(0), 0, 0
    for _ in range(300):
        size = draw.randint(1, 6)
        line = [float(draw.randint(0, 3)) for _ in range(size)]
        right = set(draw.sample(range(size), draw.randint(1, size)))
        kept = Collection([0], np.zeros(1, dtype=int), [(0, "x")] * size, [np.array(sorted(right))])
        (found,) = rank(kept, lambda start, end, line=line: np.array([line]))
        expected = by_hand(line, right, 2)
        assert (found.reciprocal_rank, found.recall) == pytest.approx(expected, abs=1e-12)
        assert line[found.first] == max(line) == found.likeness
        shares = np.exp(np.array(line) - max(line))
        assert found.confidence == pytest.approx(1 / shares.sum())
        tied += len(set(line)) < size
        cases += 1
    assert cases == 300
    assert tied > 100


def test_what_is_right_follows_from_all_rows_whatever_case_and_punctuation() -> None:
    rows = [
        row(1, "What is flu?", "an illness"),
        row(2, "what is  FLU", "A virus.", "a bird"),
        row(3, "who sings", "a bird"),
        row(4, "who flies", "a virus"),
    ]
    kept = Collection.of(rows)
    assert kept.texts(rows) == ["an illness", "A virus.", "a bird"]
    assert kept.queries == [0, 2, 3]
    assert kept.query_of.tolist() == [0, 0, 1, 2]
    assert [ids.tolist() for ids in kept.right] == [[0, 1], [2], [1]]
    assert query_weights(rows).tolist() == [0.5, 0.5, 1, 1]
    assert text_id("!") != text_id("?"), "texts without a word are themselves"


def test_a_negative_is_a_candidate_whether_or_not_its_row_has_a_positive() -> None:
    rows = [row(1, "who flies", "a bird"), Row("2", {"anchor": "who flies", "negative": "a stone"})]
    kept = Collection.of(rows)
    assert kept.texts(rows) == ["a bird", "a stone"]
    assert [ids.tolist() for ids in kept.right] == [[0]]


def retrieval(**options: object) -> Any:
    kind = TASKS["embedding"]
    return kind(kind.Options(**options), {"width": 2})


def test_scores_are_means_over_distinct_anchors_and_sums_of_any_rows() -> None:
    rows = [row(1, "q", "a"), row(2, "q", "b"), row(3, "r", "c")]
    angles = {"q": 0.0, "r": 1.5, "a": 0.1, "b": 1.4, "c": 0.3}
    vectors = [
        np.array([[math.cos(angles[r[name]]), math.sin(angles[r[name]])] for name in ("anchor", "positive")])
        for r in rows
    ]
    task = retrieval()
    answers = task.answers(rows, None, vectors)
    assert [a.prediction for a in answers] == ["a", "a", "b"]
    assert [a.detail["reciprocal_rank"] for a in answers] == [1, 1, 0.5]
    assert task.score(rows, answers) == pytest.approx({"mrr": 0.75, "recall_at_10": 1.0})
    assert task.correct(rows, answers).tolist() == [True, True, False]
    assert task.quality(rows, answers).tolist() == [1, 1, 0.5]
    counts = task.counts(rows, answers)
    assert task.scores(counts[2])["mrr"] == 0.5
    assert task.scores(counts[[2, 2, 0, 1]].sum(0))["mrr"] == pytest.approx(2 / 3)
    (table,) = task.tables(rows, answers)
    assert [cells[1] for cells in table.rows] == [0.5, 0.5, 0, 0, 0]


def test_a_model_that_finds_all_texts_alike_gets_what_chance_gets() -> None:
    rows = [row(i, f"q{i}", f"a{i}") for i in range(40)]
    task = retrieval()
    same = task.score(rows, task.answers(rows, None, [np.ones((2, 2))] * 40))
    trivial = task.score(rows, retrieval_rival("trivial", [], rows))
    assert same == trivial
    assert trivial == pytest.approx({"mrr": sum(1 / k for k in range(1, 41)) / 40, "recall_at_10": 0.25})


def test_the_order_of_rows_and_blocks_changes_nothing(monkeypatch) -> None:
    draw = np.random.default_rng(0)
    rows = [row(i, f"q{i // 2}", f"a{i % 23}", f"n{i}" if i % 3 else None) for i in range(60)]
    by_text = {text: draw.normal(size=4) for r in rows for text in ["", *r.fields.values()]}
    names = ("anchor", "positive", "negative")
    vectors = [np.stack([by_text[r.get(name, "")] for name in names]) for r in rows]
    task = retrieval()
    whole = dict(zip([r.id for r in rows], task.answers(rows, None, vectors)))
    monkeypatch.setattr(retrieval_scores, "_HELD", 100)
    other = draw.permutation(60)
    again = task.answers([rows[i] for i in other], None, [vectors[i] for i in other])
    for i, answer in zip(other, again):
        assert answer.prediction == whole[rows[i].id].prediction
        assert answer.detail == pytest.approx(whole[rows[i].id].detail)


@pytest.mark.parametrize("seed", range(20))
def test_spearman_is_scipys_ties_included(seed: int) -> None:
    draw = np.random.default_rng(seed)
    given, expected = (draw.integers(0, 8, 50) + 0.3 * draw.normal(size=50) * (seed % 2) for _ in range(2))
    given = given + expected * (seed % 3)
    counts = rank_counts(list(given), list(expected))
    assert rank_correlation(counts.sum(0)) == pytest.approx(spearmanr(given, expected).statistic, abs=1e-12)
    part = draw.integers(0, 50, 30)
    ranks = centred_ranks(list(given))[part], centred_ranks(list(expected))[part]
    assert rank_correlation(counts[part].sum(0)) == pytest.approx(pearsonr(*ranks).statistic, abs=1e-9)


def test_a_constant_answer_orders_nothing_and_one_row_still_tells_two_models_apart() -> None:
    expected = [0.1, 0.5, 0.9, 0.3]
    flat, good = rank_counts([2.0] * 4, expected), rank_counts([1, 2, 3, 1.5], expected)
    assert rank_correlation(flat.sum(0)) == 0
    assert rank_correlation(good.sum(0)) == pytest.approx(1)
    assert rank_correlation(flat).tolist() == [0] * 4
    assert all(value > 0 for value in rank_correlation(good))
    assert np.isnan(rank_correlation(np.zeros(6)))


def test_scored_pairs_are_answered_on_the_scale_of_the_scores() -> None:
    task = retrieval(loss="cosine")
    rows = [Row(str(i), {"anchor": "a", "positive": "b", "score": s}) for i, s in enumerate([0.0, 2.5, 5.0])]
    task.learn(rows)
    assert task.state["range"] == [0, 5]
    vectors = [np.array([[1.0, 0], [math.cos(x), math.sin(x)]]) for x in (1.5, 1.0, 0.0)]
    answers = task.answers(rows, None, vectors)
    assert [round(a.prediction, 3) for a in answers] == [round(5 * math.cos(x), 3) for x in (1.5, 1.0, 0.0)]
    assert task.score(rows, answers) == {"spearman": pytest.approx(1)}
    assert task.quality(rows, answers).tolist() == pytest.approx([1, 1, 1])
    trivial = scored_rival("trivial", rows, rows)
    assert {a.prediction for a in trivial} == {2.5}
    assert task.score(rows, trivial) == {"spearman": 0}
    for scores in ([0.0, 1.0], [-1.0, 0.5], [3.0, 3.0]):
        task.learn([Row("1", {"score": s}) for s in scores])
        assert task.state["range"] == [0, 1]


def test_bm25_is_its_formula() -> None:
    texts = ["the cat sat on the mat", "a dog", "the dog and the cat fight", "nothing here"]
    queries = ["Cat, dog!", "the the", "unknown"]
    split = [text.split() for text in texts]
    mean = sum(map(len, split)) / len(split)

    def one(query: list[str], text: list[str]) -> float:
        total = 0.0
        for word in query:
            holding = sum(word in other for other in split)
            rarity = math.log(1 + (len(split) - holding + 0.5) / (holding + 0.5))
            count = text.count(word)
            total += rarity * count * (K1 + 1) / (count + K1 * (1 - B + B * len(text) / mean))
        return total

    counts, weights = bm25(queries, texts)
    asked = [["cat", "dog"], ["the", "the"], ["unknown"]]
    expected = [[one(query, text) for text in split] for query in asked]
    assert np.allclose((counts @ weights).toarray(), expected)
    assert bm25(["a"], ["!", "?"]) is None


def test_the_classical_baselines_find_what_shares_words() -> None:
    rows = [row(i, f"what about {name}", f"{name} is here") for i, name in enumerate(["oslo", "rome", "paris"])]
    answers = retrieval_rival("classical", [], rows)
    assert [a.prediction for a in answers] == [r["positive"] for r in rows]
    assert retrieval().score(rows, answers)["mrr"] == 1
    empty = [row(1, "!", "!!"), row(2, "?", "??")]
    assert retrieval().score(empty, retrieval_rival("classical", [], empty))["mrr"] == pytest.approx(0.75)
    scored = [
        Row(str(i), {"anchor": "a big dog", "positive": text, "score": s})
        for i, (text, s) in enumerate([("a big dog", 1.0), ("a big cat", 0.5), ("so it is", 0.0)])
    ]
    given = [a.prediction for a in scored_rival("classical", scored, scored)]
    assert given[0] == pytest.approx(1) and given[0] > given[1] > given[2] == 0
    assert isinstance(retrieval_rival("classical", [], rows)[0], Answer)
