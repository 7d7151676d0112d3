"""Rows to predict, one of which cannot be answered."""

from __future__ import annotations

from typing import Any

import pytest

from luthier.cli.rows import Asked, answered
from luthier.errors import DataError, ModelError
from luthier.records import Answer, Row
from luthier.serve.predict import line


class Picky:
    """A tuned model that refuses one text."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(row["text"] == "bad" for row in rows):
            raise self.error("too long", where="row 2")
        return [{"id": row["id"], "prediction": row["text"], "confidence": 1.0} for row in rows]


@pytest.mark.parametrize("error", [DataError, ModelError])
def test_one_row_that_cannot_be_answered_leaves_the_others(error: type[Exception]) -> None:
    rows = [Asked(str(i), {"text": text}) for i, text in enumerate(("one", "bad", "two"), 1)]
    lines = list(answered(Picky(error), rows, lambda done: None))  # type: ignore[arg-type]
    assert [(line["id"], line["prediction"], line.get("error")) for line in lines] == [
        ("1", "one", None),
        ("2", None, "too long"),
        ("3", "two", None),
    ]


def test_a_number_has_no_digits_that_mean_nothing() -> None:
    for given, told in ((2.5677739340977923, 2.567774), (-1.23456789e-8, -1.234568e-8), (3.0, 3.0)):
        assert line(Row("1", {}), Answer(given, 0.5))["prediction"] == told
    assert line(Row("1", {}), Answer("2.5677739340977923", 0.5))["prediction"] == "2.5677739340977923"
