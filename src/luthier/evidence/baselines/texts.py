"""Cheap answers where a text is to be written: the commonest one, the one to the most similar request, or, of a text
that is to be shortened, how it begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from ...errors import LuthierError
from ...records import Answer, Form, Row
from .sentences import WORD, sentences

LEADS = (1, 2, 3)  # sentences from the beginning that are tried
CHOOSE_ON = 500  # training rows by which one of the ways is chosen
AT_ONCE = 1_000  # rows compared with the training rows at once


def commonest(form: Form, train_rows: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """The commonest expected text of training; an empty one where none stands twice."""
    if not train_rows:
        raise LuthierError("this baseline needs training rows", where="baselines")
    counts = Counter(str(row[form.target]) for row in train_rows)
    text = max(sorted(counts), key=counts.__getitem__)
    share = counts[text] / len(train_rows)
    return [Answer(text, share) if counts[text] > 1 else Answer("", 0.0)] * len(rows)


def nearest_or_lead(form: Form, train_rows: Sequence[Row], rows: Sequence[Row]) -> list[Answer]:
    """The expected text of the training row whose input is most similar (cosine of TF-IDF; the commonest text where
    they share no word), or the first one, two or three sentences of the input where that is a plain text: what has the
    best ROUGE-L on the training rows, none compared with itself.
    """
    similar = _Similar(form, train_rows)
    source = next((f.name for f in form.inputs if f.kind == "text" and f.name != form.target), None)
    count = _best_lead(form, train_rows, source, similar) if source is not None else 0
    if source is not None and count:
        return [Answer(_lead(str(row[source]), count), 1.0) for row in rows]
    default = commonest(form, train_rows, rows)
    found = similar.to([_asked(form, row) for row in rows])
    targets = [str(row[form.target]) for row in train_rows]
    return [
        Answer(targets[place], min(1.0, nearness)) if nearness > 0 else plain
        for (place, nearness), plain in zip(found, default)
    ]


class _Similar:
    """The training rows by their inputs' words and pairs of words."""

    def __init__(self, form: Form, train_rows: Sequence[Row]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.words = TfidfVectorizer(
            lowercase=True, token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True, max_features=100_000
        )
        self.known: Any = None
        try:
            self.known = self.words.fit_transform([_asked(form, row) for row in train_rows])
        except ValueError:  # no word in any training row
            return

    def to(self, texts: Sequence[str], own: Sequence[int] = ()) -> list[tuple[int, float]]:
        """(most similar training row, cosine) of each text, the first of several; `own`: the row each text is from,
        which does not count.
        """
        if self.known is None:
            return [(0, 0.0)] * len(texts)
        out: list[tuple[int, float]] = []
        for start in range(0, len(texts), AT_ONCE):
            near = (self.words.transform(texts[start : start + AT_ONCE]) @ self.known.T).tolil()
            for i, place in enumerate(own[start : start + AT_ONCE]):
                near[i, place] = 0.0
            near = near.tocsr()
            best = np.asarray(near.argmax(axis=1)).ravel()
            out += [(int(place), float(near[i, place])) for i, place in enumerate(best)]
        return out


def _best_lead(form: Form, train_rows: Sequence[Row], source: str, similar: _Similar) -> int:
    """How many first sentences answer the training rows best; 0: the most similar row's text is better."""
    from ...tasks.text_scores import rouge_l

    chosen = np.linspace(0, len(train_rows) - 1, min(CHOOSE_ON, len(train_rows))).round().astype(int).tolist()
    some = [train_rows[i] for i in chosen]
    due = [str(row[form.target]) for row in some]
    found = similar.to([_asked(form, row) for row in some], chosen)
    scores = [fmean(rouge_l(a, str(train_rows[place][form.target])) for a, (place, _) in zip(due, found))]
    scores += [fmean(rouge_l(a, _lead(str(row[source]), n)) for a, row in zip(due, some)) for n in LEADS]
    return int(np.argmax(scores))


def _lead(text: str, count: int) -> str:
    spans = sentences(text)[:count]
    return text[spans[0][0] : spans[-1][1]] if spans else ""


def _asked(form: Form, row: Row) -> str:
    """All that a row gives to a model, as one text: of messages what was said."""
    parts = []
    for field in form.inputs:
        value = row.get(field.name)
        if field.name == form.target or value is None:
            continue
        said = [str(turn.get("content") or "") for turn in value] if isinstance(value, list) else [str(value)]
        parts += said
    return "\n".join(parts)
