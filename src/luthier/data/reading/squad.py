"""SQuAD's nested form (1.1 and 2.0): articles of paragraphs of questions, one record a question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ...records import Fault
from .raw import Raw, kind_of, shown
from .strict_json import repeated_key


class Places(Protocol):
    """Where the objects inside an article stand, and which keys they held twice."""

    def line(self, part: Any) -> int: ...

    def repeated(self, part: Any) -> list[str]: ...


def article_rows(article: dict[str, Any], file: str, places: Places) -> Iterator[Raw]:
    """One Raw a question.

    A paragraph or question that is not what it should be is one rejected row, and the rest is kept.
    """
    line, paragraphs = places.line(article), article.get("paragraphs")
    if not isinstance(paragraphs, list):
        yield _wrong(file, line, "paragraphs", paragraphs, "a list of paragraphs", "paragraphs" in article)
        return
    title = article.get("title")
    for p, paragraph in enumerate(paragraphs):
        path = f"paragraphs[{p}]"
        if not isinstance(paragraph, dict):
            yield _wrong(file, line, path, paragraph, "an object with context and qas", True)
            continue
        here = places.line(paragraph)
        questions = paragraph.get("qas")
        if not isinstance(questions, list):
            yield _wrong(file, here, f"{path}.qas", questions, "a list of questions", "qas" in paragraph)
            continue
        for q, question in enumerate(questions):
            if not isinstance(question, dict):
                yield _wrong(file, here, f"{path}.qas[{q}]", question, "an object with question and answers", True)
                continue
            values = dict(question)
            if "context" in paragraph:
                values["context"] = paragraph["context"]
            if title is not None:
                values.setdefault("title", title)
            at = places.line(question)
            faults = [repeated_key(key, file, at) for key in _repeated(question, places)]
            yield Raw(at, None if faults else values, faults)


def _repeated(question: dict[str, Any], places: Places) -> list[str]:
    """Keys that stand twice in the question or in one of its answers."""
    answers = question.get("answers")
    parts = [question, *(a for a in (answers if isinstance(answers, list) else []) if isinstance(a, dict))]
    return [key for part in parts for key in places.repeated(part)]


def _wrong(file: str, line: int, field: str, value: Any, expected: str, there: bool) -> Raw:
    found = kind_of(value) if there else "missing"
    code = "wrong-type" if there else "missing-field"
    message = f"{field} is {found}, expected {expected}"
    return Raw(line, None, [Fault("error", code, message, file, line, field, shown(value), "correct or remove it")])
