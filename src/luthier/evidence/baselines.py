"""Honest cheap answers to hold a tuned model against: `trivial` and `classical`, chosen by the form's target.

| target | trivial           | classical                                                       |
|--------|-------------------|-----------------------------------------------------------------|
| label  | majority label    | TF-IDF + logistic regression                                    |
| spans  | always no answer  | the sentence of the passage that shares most with the question  |

Both learn from training rows only, look at no answer of the rows they are asked, and answer the same each
time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import LuthierError
from ..records import Answer, Form, Row
from .sentences import WORD, sentences, words

MAX_FEATURES = 100_000
STRENGTHS = (1.0, 4.0, 16.0)  # values of the logistic regression's C to choose from
FOLDS = 3
CHOOSE_UP_TO = 20_000  # more training rows than this: C is not chosen but taken as DEFAULT_STRENGTH
DEFAULT_STRENGTH = 4.0

_NAMES = {
    "label": {"trivial": "majority label", "classical": "TF-IDF + logistic regression"},
    "spans": {"trivial": "always no answer", "classical": "most similar sentence"},
}


def baseline_names(form: Form) -> dict[str, str]:
    """What the baselines of this form are called in reports, by their key."""
    return {**_NAMES.get(form[form.target].kind, {}), "untuned": "untuned model"}


def trivial(form: Form, train_rows: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """The answer that needs no input: the commonest training label, or "no answer"."""
    kind = form[form.target].kind
    if kind == "spans":
        return [Answer("", 1.0)] * len(rows)
    if kind != "label":
        raise LuthierError(
            f"there is no trivial baseline for a {kind} target", where=f'field "{form.target}"'
        )
    shares = _label_shares(form, train_rows)
    best = max(sorted(shares), key=shares.__getitem__)
    return [Answer(best, shares[best], {"probabilities": shares})] * len(rows)


def classical(form: Form, train_rows: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """What a cheap method from before neural networks answers; see the table above."""
    kind = form[form.target].kind
    if kind == "spans":
        return _similar_sentences(form, train_rows, rows)
    if kind == "label":
        return _bag_of_words(form, train_rows, rows)
    raise LuthierError(f"there is no classical baseline for a {kind} target", where=f'field "{form.target}"')


def _label_shares(form: Form, train_rows: Sequence[Row]) -> dict[str, float]:
    if not train_rows:
        raise LuthierError("a label baseline needs training rows", where="baselines")
    counts = Counter(str(row[form.target]) for row in train_rows)
    return {label: number / len(train_rows) for label, number in sorted(counts.items())}


def _text(form: Form, row: Row, without: str | None = None) -> str:
    """All required text inputs of a row, one a line."""
    names = [field.name for field in form.inputs if field.kind == "text" and field.name != without]
    return "\n".join(str(row.get(name) or "") for name in names)


def _bag_of_words(form: Form, train_rows: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """TF-IDF of words and word pairs (at most 100,000, sublinear counts) and a logistic regression.

    Its strength C is chosen among three by cross-validated macro F1 on the training rows. Falls back to the
    trivial baseline where training holds one label or no word at all.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    labels = [str(row[form.target]) for row in train_rows]
    if not rows or len(set(labels)) < 2:
        return trivial(form, train_rows, rows)
    vectorizer = TfidfVectorizer(
        lowercase=True, token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_FEATURES
    )
    try:
        known = vectorizer.fit_transform([_text(form, row) for row in train_rows])
    except ValueError:  # no word in any training row
        return trivial(form, train_rows, rows)
    model = _regression(known, labels, _strength(known, labels))
    asked = vectorizer.transform([_text(form, row) for row in rows])
    names = [str(name) for name in model.classes_]
    answers = []
    for shares in model.predict_proba(asked):
        best = int(shares.argmax())
        probabilities = dict(zip(names, map(float, shares)))
        answers.append(Answer(names[best], float(shares[best]), {"probabilities": probabilities}))
    return answers


def _regression(features: Any, labels: Sequence[str], strength: float) -> Any:
    """A fitted logistic regression; two labels by liblinear, more by multinomial L-BFGS."""
    from sklearn.linear_model import LogisticRegression

    solver = "liblinear" if len(set(labels)) == 2 else "lbfgs"
    return LogisticRegression(C=strength, solver=solver, max_iter=300, random_state=0).fit(features, labels)


def _strength(features: Any, labels: Sequence[str]) -> float:
    """C by cross-validation on the training rows; the default where rows are too many or a label too rare."""
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold

    if len(labels) > CHOOSE_UP_TO or min(Counter(labels).values()) < FOLDS:
        return DEFAULT_STRENGTH
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels))
    scores = dict.fromkeys(STRENGTHS, 0.0)
    for strength in STRENGTHS:
        for fit, held in folds:
            model = _regression(features[fit], [labels[i] for i in fit], strength)
            told = model.predict(features[held])
            scores[strength] += float(
                f1_score([labels[i] for i in held], told, average="macro", zero_division=0.0)
            )
    return max(STRENGTHS, key=scores.__getitem__)


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
