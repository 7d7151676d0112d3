"""Honest cheap answers to hold a tuned model against: `trivial` and `classical`, chosen by the form's target.

| target | trivial             | classical                                                       |
|--------|---------------------|-----------------------------------------------------------------|
| label  | majority label      | TF-IDF + logistic regression                                    |
| labels | majority set        | TF-IDF + logistic regression, one a label                       |
| number | mean of training    | TF-IDF + ridge regression                                       |
| tags   | never an entity     | the entities of training, by heart                              |
| spans  | always no answer    | the sentence of the passage that shares most with the question  |
| text   | the commonest text  | the most similar training row's text, or the input's beginning  |

Both learn from training rows only, look at no answer of the rows they are asked, and answer the same each
time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ...errors import LuthierError
from ...records import Answer, Form, Row
from ..scores.score import UNTUNED
from .bag_of_words import features, one_label, one_number, some_labels
from .dictionary import by_heart
from .sentences import sentences, words
from .texts import commonest, nearest_or_lead

_NAMES = {
    "label": {"trivial": "majority label", "classical": "TF-IDF + logistic regression"},
    "labels": {"trivial": "majority set of labels", "classical": "TF-IDF + logistic regression, one a label"},
    "number": {"trivial": "mean of the training rows", "classical": "TF-IDF + ridge regression"},
    "tags": {"trivial": "never an entity", "classical": "dictionary of the training entities"},
    "spans": {"trivial": "always no answer", "classical": "most similar sentence"},
    "text": {"trivial": "commonest text", "classical": "text of the most similar row, or the beginning"},
}


def baseline_names(form: Form) -> dict[str, str]:
    """What the baselines of this form are called in reports, by their key."""
    return {**_NAMES.get(form[form.target].kind, {}), "untuned": UNTUNED, "few-shot": f"{UNTUNED} with examples"}


def trivial(form: Form, train_rows: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """The answer that needs no input: the commonest of training, the mean, or nothing at all."""
    target = form[form.target]
    if target.kind == "spans":
        return [Answer("", 1.0)] * len(rows)
    if target.kind == "text":
        return commonest(form, train_rows, rows)
    if target.kind == "tags":
        return [Answer(["O"] * len(row[target.within or ""]), 1.0) for row in rows]
    if target.kind not in ("label", "labels", "number"):
        raise LuthierError(f"there is no trivial baseline for a {target.kind} target", where=f'field "{form.target}"')
    if not train_rows:
        raise LuthierError("this baseline needs training rows", where="baselines")
    if target.kind == "number":
        return [Answer(fmean(row[form.target] for row in train_rows), 1.0)] * len(rows)
    if target.kind == "labels":
        counts = Counter(tuple(row[form.target]) for row in train_rows)
        common = max(sorted(counts), key=counts.__getitem__)
        return [Answer(list(common), counts[common] / len(train_rows))] * len(rows)
    shares = _label_shares(form, train_rows)
    best = max(sorted(shares), key=shares.__getitem__)
    return [Answer(best, shares[best], {"probabilities": shares})] * len(rows)


def classical(form: Form, train_rows: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """What a cheap method from before neural networks answers; see the table above.

    Falls back to the trivial baseline where training holds one label alone or no word at all.
    """
    target = form[form.target]
    if target.kind == "spans":
        return _similar_sentences(form, train_rows, rows)
    if target.kind == "text":
        return nearest_or_lead(form, train_rows, rows)
    if target.kind == "tags":
        return by_heart(train_rows, rows, target.within or "", form.target)
    if target.kind not in ("label", "labels", "number"):
        raise LuthierError(f"there is no classical baseline for a {target.kind} target", where=f'field "{form.target}"')
    due = [row[form.target] for row in train_rows]
    if not rows or len({str(value) for value in due}) < 2:
        return trivial(form, train_rows, rows)
    found = features([_text(form, row) for row in train_rows], [_text(form, row) for row in rows])
    if found is None:
        return trivial(form, train_rows, rows)
    if target.kind == "number":
        return one_number(found, due)
    return some_labels(found, due) if target.kind == "labels" else one_label(found, [str(v) for v in due])


def _label_shares(form: Form, train_rows: Sequence[Row]) -> dict[str, float]:
    counts = Counter(str(row[form.target]) for row in train_rows)
    return {label: number / len(train_rows) for label, number in sorted(counts.items())}


def _text(form: Form, row: Row, without: str | None = None) -> str:
    """All required text inputs of a row, one a line."""
    names = [field.name for field in form.inputs if field.kind == "text" and field.name != without]
    return "\n".join(str(row.get(name) or "") for name in names)


def _similar_sentences(form: Form, train_rows: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """For each row the sentence of its passage that shares most words with the question, weighted by rarity.

    Rarity (inverse document frequency) is counted over the distinct training passages. A tie goes to the
    earlier sentence. A sentence must share a word that carries content (none of scikit-learn's English stop
    words); where none does the answer is "no answer". Confidence is the share of the question's weight that
    the sentence covers; 1 for "no answer".
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    within = form[form.target].within
    if within is None:
        raise LuthierError("a spans target must say which text it lies in", where=f'field "{form.target}"')
    weigh = _rarity([str(row.get(within) or "") for row in train_rows])
    cut: dict[str, list[_Sentence]] = {}
    answers = []
    for row in rows:
        passage = str(row.get(within) or "")
        if passage not in cut:
            spans = sentences(passage)
            cut[passage] = [(start, end, frozenset(words(passage[start:end]))) for start, end in spans]
        asked = sorted(set(words(_text(form, row, without=within))))
        content = set(asked) - ENGLISH_STOP_WORDS
        able = [sentence for sentence in cut[passage] if sentence[2] & content]
        answers.append(_best_sentence(passage, able, {word: weigh(word) for word in asked}))
    return answers


_Sentence = tuple[int, int, frozenset[str]]  # start and end in the passage, and its words


def _best_sentence(passage: str, able: Sequence[_Sentence], weights: Mapping[str, float]) -> Answer:
    """The first of the `able` sentences that covers most of `weights` (word of the question -> weight)."""
    if not able:
        return Answer("", 1.0, {"start": None})
    shared = [sum(weight for word, weight in weights.items() if word in found) for _, _, found in able]
    best = shared.index(max(shared))
    start, end, _ = able[best]
    return Answer(passage[start:end], min(1.0, shared[best] / sum(weights.values())), {"start": start})


def _rarity(passages: Sequence[str]) -> Any:
    """word -> ln((1 + n) / (1 + passages that hold it)) + 1, over the n distinct passages; never 0."""
    distinct = list(dict.fromkeys(passages))
    holding = Counter(word for passage in distinct for word in set(words(passage)))

    def weigh(word: str) -> float:
        return math.log((1 + len(distinct)) / (1 + holding[word])) + 1

    return weigh
