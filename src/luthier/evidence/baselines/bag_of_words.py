"""Words counted and weighed, and a linear model on them: the classical baseline for labels and numbers.

TF-IDF of words and word pairs (at most 100,000, sublinear counts); what the linear model has to choose is chosen by
cross-validation on the training rows.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...records import Answer
from .sentences import WORD

MAX_FEATURES = 100_000
STRENGTHS = (1.0, 4.0, 16.0)  # values of the logistic regression's C to choose from
DAMPINGS = (0.25, 1.0, 4.0)  # values of the ridge's alpha to choose from
FOLDS = 3
CHOOSE_UP_TO = 20_000  # more training rows than this: nothing is chosen, the defaults are taken
DEFAULT_STRENGTH = 4.0
DEFAULT_DAMPING = 1.0
Features = tuple[Any, Any]  # of the training rows, of the rows asked


def features(train_texts: Sequence[str], texts: Sequence[str]) -> Features | None:
    """rows x words, sparse; None where no training row holds a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        lowercase=True, token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_FEATURES
    )
    try:
        known = vectorizer.fit_transform(train_texts)
    except ValueError:
        return None
    return known, vectorizer.transform(texts)


def one_label(found: Features, labels: Sequence[str]) -> list[Answer]:
    """Logistic regression; its strength C is chosen by macro F1."""
    known, asked = found
    model = _regression(known, labels, _strength(known, labels))
    names = [str(name) for name in model.classes_]
    answers = []
    for shares in model.predict_proba(asked):
        best = int(shares.argmax())
        probabilities = dict(zip(names, map(float, shares)))
        answers.append(Answer(names[best], float(shares[best]), {"probabilities": probabilities}))
    return answers


def some_labels(found: Features, label_sets: Sequence[Sequence[str]]) -> list[Answer]:
    """A logistic regression for each label; their strength C and one threshold for all are chosen by micro F1."""
    known, asked = found
    names = sorted({label for labels in label_sets for label in labels})
    due = np.array([[name in labels for name in names] for labels in label_sets], dtype=int)
    strength, threshold = DEFAULT_STRENGTH, 0.5
    if FOLDS <= len(due) <= CHOOSE_UP_TO:
        tried = [(*_threshold(_held_out(known, due, c), due), c) for c in STRENGTHS]
        _, threshold, strength = max(tried, key=lambda one: one[0])
    answers = []
    for shares in _each_label(known, due, asked, strength):
        given = [name for name, share in zip(names, shares) if share >= threshold]
        sure = float(np.where(shares >= threshold, shares, 1 - shares).prod())
        answers.append(Answer(given, sure, {"probabilities": dict(zip(names, map(float, shares)))}))
    return answers


def one_number(found: Features, values: Sequence[float]) -> list[Answer]:
    """Ridge regression; its damping alpha is chosen by squared error."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold, cross_val_predict

    known, asked = found
    due = np.asarray(values, dtype=float)
    damping = DEFAULT_DAMPING
    if FOLDS <= len(due) <= CHOOSE_UP_TO:
        folds = KFold(FOLDS, shuffle=True, random_state=0)
        errors = {a: np.square(cross_val_predict(Ridge(a), known, due, cv=folds) - due).mean() for a in DAMPINGS}
        damping = min(errors, key=errors.__getitem__)
    told = Ridge(damping).fit(known, due).predict(asked)
    return [Answer(float(value), 1.0) for value in told]


def _regression(known: Any, labels: Sequence[str], strength: float) -> Any:
    """A fitted logistic regression; two labels by liblinear, more by multinomial L-BFGS."""
    from sklearn.linear_model import LogisticRegression

    solver = "liblinear" if len(set(labels)) == 2 else "lbfgs"
    return LogisticRegression(C=strength, solver=solver, max_iter=300, random_state=0).fit(known, labels)


def _strength(known: Any, labels: Sequence[str]) -> float:
    """C by cross-validation on the training rows; the default where rows are too many or a label too rare."""
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold

    if len(labels) > CHOOSE_UP_TO or min(Counter(labels).values()) < FOLDS:
        return DEFAULT_STRENGTH
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels))
    scores = dict.fromkeys(STRENGTHS, 0.0)
    for strength in STRENGTHS:
        for fit, held in folds:
            model = _regression(known[fit], [labels[i] for i in fit], strength)
            told = model.predict(known[held])
            scores[strength] += float(f1_score([labels[i] for i in held], told, average="macro", zero_division=0.0))
    return max(STRENGTHS, key=scores.__getitem__)


def _each_label(known: Any, due: np.ndarray, asked: Any, strength: float) -> np.ndarray:
    """asked rows x labels: each label's probability; that of one that no fitted row (or every one) has is 0 (or 1)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    one = LogisticRegression(C=strength, solver="liblinear", max_iter=300, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Label .* present in all training examples")
        return np.asarray(OneVsRestClassifier(one).fit(known, due).predict_proba(asked)).reshape(-1, due.shape[1])


def _held_out(known: Any, due: np.ndarray, strength: float) -> np.ndarray:
    """rows x labels: each label's probability, by models that did not see the row."""
    from sklearn.model_selection import KFold

    out = np.zeros(due.shape)
    for fit, held in KFold(FOLDS, shuffle=True, random_state=0).split(due):
        out[held] = _each_label(known[fit], due[fit], known[held], strength)
    return out


def _threshold(shares: np.ndarray, due: np.ndarray) -> tuple[float, float]:
    """(the best micro F1, the threshold that reaches it)."""
    order = np.argsort(-shares, axis=None, kind="stable")
    sorted_shares, right = shares.ravel()[order], due.ravel()[order].cumsum()
    f1 = 2 * right / (np.arange(1, len(order) + 1) + due.sum())
    last = np.append(sorted_shares[1:] < sorted_shares[:-1], True)  # equal shares are given together
    best = int(np.where(last, f1, -1.0).argmax())
    below = sorted_shares[best + 1] if best + 1 < len(order) else 0.0
    return float(f1[best]), float((sorted_shares[best] + below) / 2)
