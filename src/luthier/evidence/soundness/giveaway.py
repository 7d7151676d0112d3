"""A label that stands in its own text: a word that tells it by itself, which will not stand in the texts of use.

A word (or pair of words) gives a label away if many rows hold it and nearly all of these have one label. In honest
text no single word does: "excellent" stands in one review of twenty, and some of these are bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...records import Finding, Form, Row
from ..baselines.sentences import WORD
from ..scores.intervals import wilson

FEWEST = 100  # rows under which nothing is said
SPREAD = 0.1  # of the rows of a label: a word in fewer of them gives little away
PURE = 0.95  # of the rows with the word: so many, at the least, have the one label
NAMED = 20
MOST = 5_000  # rows that are looked at, and characters from either end of each
ENDS = 1_000
_WORDS = 50_000


def giveaways(form: Form, rows: Sequence[Row]) -> list[Finding]:
    """A warning that names the words which tell a label by themselves, in how many rows; nothing otherwise."""
    kind, names = form[form.target].kind, [field.name for field in form.inputs if field.kind == "text"]
    if kind != "label" or len(rows) < FEWEST or not names:
        return []
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int).tolist()]
    matrix, words = _counted([_ends("\n".join(str(row.get(name) or "") for name in names)) for row in rows])
    if matrix is None:
        return []
    labels, place = np.unique([str(row[form.target]) for row in rows], return_inverse=True)
    found: dict[str, tuple[str, Any]] = {}
    for number, label in enumerate(labels):
        inside = place == number
        here, everywhere = (np.asarray(part.sum(axis=0)).ravel() for part in (matrix[inside], matrix))
        if not SPREAD < inside.mean() < 1 - SPREAD / 2:  # of rare labels any word is rare, and of nearly all any tells
            continue
        for column in np.flatnonzero((here >= SPREAD * inside.sum()) & (here >= PURE * everywhere)):
            if wilson(here[column] / everywhere[column], int(everywhere[column]))[0] > max(PURE, inside.mean()) - 0.02:
                found[words[column]] = (str(label), matrix[:, column].toarray().ravel() > 0)
    if not found:
        return []
    told = np.any([holds for _, holds in found.values()], axis=0)
    ranked = sorted(found, key=lambda word: -int(found[word][1].sum()))
    shown = ", ".join(f'"{word}" ({found[word][0]})' for word in ranked[:3])
    more = f" and {len(ranked) - 3} more" if len(ranked) > 3 else ""
    share = float(told.mean())
    said = (
        f"{shown}{more} tell the label by themselves: of {int(told.sum()):,} rows ({100 * share:.0f} %) the label "
        "can be read off one word."
    )
    remedy = "If that word comes from how rows were collected, take it out of the texts: it will be missing in use."
    numbers = {"words": {word: found[word][0] for word in ranked[:NAMED]}, "share": share, "rows": int(told.sum())}
    ids = tuple(rows[i].id for i in np.flatnonzero(told)[:NAMED])
    return [Finding("label-in-text", "warning", said, numbers, ids, remedy)]


def _ends(text: str) -> str:
    return text if len(text) <= 2 * ENDS else f"{text[:ENDS]}\n{text[-ENDS:]}"


def _counted(texts: Sequence[str]) -> tuple[Any, Any]:
    """([rows x words] zero or one, words); (None, None) without any."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        lowercase=True, token_pattern=WORD, ngram_range=(1, 2), binary=True, min_df=5, max_features=_WORDS
    )
    try:
        return counter.fit_transform(texts).tocsc(), counter.get_feature_names_out()
    except ValueError:  # no word at all, or none that five texts share
        return None, None
