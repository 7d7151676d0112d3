"""Exact match and F1 of an answer, as the SQuAD evaluation has them (Rajpurkar et al. 2018, arxiv:1806.03822)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

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
