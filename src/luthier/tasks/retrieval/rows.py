"""The rows of embedding: their forms, the texts in them, and which text is which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from luthier.records import Field, Form, Row

from .scores import text_id

PARTS = {"a_": "anchor", "b_": "positive", "c_": "negative"}  # what a text's columns begin with -> its field

_ANCHORS = "query question sentence1 sentence_1 text1 premise source text title"
_POSITIVES = "answer passage document context sentence2 sentence_2 text2 pos hypothesis response target paraphrase body"
_NEGATIVES = "hard_negative negative_passage neg sentence3 sentence_3 text3"
_SCORES = "similarity similarity_score label rating relatedness_score gold target"


def _negative(required: bool) -> Field:
    words = "a text that does not, and could be taken for one that does"
    return Field("negative", "text", words, required, tuple(_NEGATIVES.split()))


_ANCHOR = Field("anchor", "text", "a question, or the first of two texts", aliases=tuple(_ANCHORS.split()))
_POSITIVE = Field("positive", "text", "a text that answers it, or that it is like", aliases=tuple(_POSITIVES.split()))
_SCORE = Field("score", "number", "how like the two texts are; more is more like", aliases=tuple(_SCORES.split()))
_PASSAGE = Field("passage", "text", "a text that is searched")

PAIRS = Form((_ANCHOR, _POSITIVE, _negative(False)), "positive", "positive", several=True)
TRIPLETS = Form((_ANCHOR, _POSITIVE, _negative(True)), "positive", "positive", several=True)
SCORED = Form((_ANCHOR, _POSITIVE, _SCORE), "score", "positive")


def asked_form(names: Iterable[str]) -> Form:
    """Of a row that is only to be given a vector one text is enough: its anchor, or else its passage."""
    alone = _PASSAGE if "passage" in names and "anchor" not in names else _ANCHOR
    return Form((alone,), alone.name)


def texts_of(row: Row, target: str, query_prefix: str, passage_prefix: str) -> dict[str, str]:
    """What a text's columns begin with -> the text with its prefix. Without its `target` a row has one text."""
    if target in row.fields:
        here = {part: name for part, name in PARTS.items() if row.get(name) is not None}
    else:
        here = {"a_": "anchor" if "anchor" in row.fields else "passage"}
    return {
        part: (query_prefix if name == "anchor" else passage_prefix) + str(row[name]) for part, name in here.items()
    }


def scores_of(rows: Sequence[Row], low: float, high: float) -> dict[str, Any]:
    """The rows' scores as the cosines they stand for."""
    return {"score": [np.float32((float(row["score"]) - low) / (high - low)) for row in rows]}


def text_ids(rows: Sequence[Row]) -> dict[str, Any]:
    """Which text is which, and which are right for a row's anchor by any of the rows; 0: the row has no negative."""
    anchors = [text_id(str(row["anchor"])) for row in rows]
    positives = [text_id(str(row["positive"])) for row in rows]
    right: dict[int, set[int]] = {}
    for anchor, positive in zip(anchors, positives):
        right.setdefault(anchor, set()).add(positive)
    # Rows that share an anchor share the array.
    known = {anchor: np.array(sorted(ids), dtype=np.int64) for anchor, ids in right.items()}
    negatives = [0 if row.get("negative") is None else text_id(str(row["negative"])) for row in rows]
    columns: dict[str, Any] = {"positive_id": positives, "right_ids": [known[a] for a in anchors]}
    return columns | ({"negative_id": negatives} if any(negatives) else {})
