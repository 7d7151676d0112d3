"""Exact match and F1 of an answer as the SQuAD evaluation has them (Rajpurkar et al. 2018, arxiv.org/abs/1806.03822),
and the threshold from which there is none."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=200_000)
def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra blanks: the comparison of the SQuAD evaluation."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def golds(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The accepted texts; [""] where there is no answer, or none that is more than articles and punctuation."""
    return [a["text"] for a in answers if normalise(a["text"])] or [""]


def exact(prediction: str, answers: Sequence[Mapping[str, Any]]) -> float:
    return float(max(normalise(prediction) == normalise(gold) for gold in golds(answers)))


def best_f1(prediction: str, answers: Sequence[Mapping[str, Any]]) -> float:
    """Token F1 against the nearest accepted answer, as in the SQuAD 2.0 evaluation."""
    return max(_f1(normalise(gold), normalise(prediction)) for gold in golds(answers))


def _f1(gold: str, given: str) -> float:
    due, said = gold.split(), given.split()
    if not due or not said:
        return float(due == said)
    common = sum((Counter(due) & Counter(said)).values())
    return 0.0 if not common else 2 * common / (len(due) + len(said))


def no_answer_threshold(margins: np.ndarray, if_answered: np.ndarray, if_not: np.ndarray) -> float:
    """The margin from which "no answer" is expected to score more than the best span, in the middle between two rows'.

    Of every row [rows]: by how much "no answer" beats its best span, its F1 if that span is given, and if none is. What
    is expected at a margin are two logistic curves (Platt 1999), one for either F1. The threshold that is best on the
    very rows, as SQuAD's script has it, follows the noise of few rows: what it wins on them is mostly lost on others.
    Of several as good the one nearest to zero, the model's own.
    """
    if not len(margins):
        return 0.0
    order = np.argsort(margins, kind="stable")
    margins = margins[order]
    gain = _curve(margins, if_answered[order]) - _curve(margins, if_not[order])
    # Answering the k rows of smallest margin is expected to bring this much more than silence.
    totals = np.concatenate([[0.0], np.cumsum(gain)])
    edges = np.concatenate([[margins[0] - 2], margins, [margins[-1] + 2]])
    # Rows of equal margin are answered together or not at all.
    totals = np.where(edges[:-1] < edges[1:], totals, -np.inf)
    thresholds = ((edges[:-1] + edges[1:]) / 2)[totals >= totals.max() - 1e-9]
    return float(thresholds[np.abs(thresholds).argmin()])


def _curve(margins: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """What is expected of scores (0 to 1) at each of these margins: a logistic curve, weakly held to be flat."""
    from sklearn.linear_model import LogisticRegression

    if scores.min() == scores.max():
        return scores.astype(float)
    places = ((margins - margins.mean()) / (margins.std() or 1.0))[:, None]
    right = np.repeat([True, False], len(scores))
    curve = LogisticRegression().fit(np.concatenate([places, places]), right, np.concatenate([scores, 1 - scores]))
    return np.asarray(curve.predict_proba(places)[:, 1])
