"""The forms these tests judge data by, one a kind of target, and small ways to write files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from luthier.records import Field, Form, Row

CLASSIFICATION = Form(
    fields=(
        Field(
            "text",
            "text",
            "what is to be judged",
            aliases=(
                "sentence",
                "content",
                "review",
                "document",
                "body",
                "message",
                "comment",
                "utterance",
                "tweet",
                "question",
                "title",
                "input",
                "review_text",
                "headline",
            ),
        ),
        Field(
            "label",
            "label",
            "the class it belongs to",
            aliases=(
                "labels",
                "class",
                "category",
                "target",
                "sentiment",
                "intent",
                "rating",
                "y",
                "tag",
                "topic",
                "output",
            ),
        ),
    ),
    target="label",
)
QA = Form(
    fields=(
        Field("question", "text", "what is asked", aliases=("query", "q")),
        Field(
            "context",
            "text",
            "the passage that may hold the answer",
            aliases=("passage", "paragraph", "document", "text"),
        ),
        Field(
            "answers",
            "spans",
            "the answer's words and where they start",
            within="context",
            aliases=("answer",),
        ),
        Field("title", "text", "the document the passage comes from", required=False),
    ),
    target="answers",
    group_by="context",
)

TEXT = Field("text", "text", "what is judged", aliases=("sentence", "comment"))
LABELS = Form((TEXT, Field("labels", "labels", "what it is about", aliases=("topics", "label"))), "labels")
NUMBER = Form((TEXT, Field("score", "number", "how good it is", aliases=("rating", "label"))), "score")
TAGS = Form(
    fields=(
        Field("tokens", "tokens", "the words", aliases=("words", "token")),
        Field("tags", "tags", "a tag a word", aliases=("ner_tags", "ner", "labels", "tag"), within="tokens"),
    ),
    target="tags",
)
CHAT = Form(
    fields=(
        Field("messages", "messages", "what was said", aliases=("conversations",)),
        Field("answer", "text", "what is said next", aliases=("reply", "chosen")),
    ),
    target="answer",
)
TEXTS = Form((Field("text", "text", "what is read", aliases=("content", "document")),), "text")
_ANCHOR = Field(
    "anchor", "text", "what is searched with", aliases=("query", "question", "sentence1", "text1", "premise")
)
_POSITIVE = Field(
    "positive", "text", "what is found", aliases=("passage", "answer", "sentence2", "text2", "hypothesis")
)
PAIRS = Form(
    (
        _ANCHOR,
        _POSITIVE,
        Field("negative", "text", "what is not", required=False, aliases=("hard_negative",)),
    ),
    "positive",
    "positive",
)
SCORED = Form((_ANCHOR, _POSITIVE, Field("score", "number", "how alike", aliases=("similarity", "label"))), "score")
SEQ2SEQ = Form(
    fields=(
        Field("source", "text", "what is read", aliases=("document", "article", "text", "dialogue", "input")),
        Field("target", "text", "what is written", aliases=("summary", "highlights", "output", "translation")),
    ),
    target="target",
)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def prose(rng: random.Random, num_words: int, vocabulary: int = 3000) -> str:
    """Words that no other text shares by more than chance."""
    return " ".join(f"{'abcdefghij'[n % 10]}word{n}" for n in (rng.randrange(vocabulary) for _ in range(num_words)))


def reviews(num: int, seed: int = 0, labels: tuple[str, ...] = ("neg", "pos")) -> list[Row]:
    rng = random.Random(seed)
    return [
        Row(f"{seed}-{i}", {"text": prose(rng, 14), "label": rng.choice(labels)}, "reviews.csv", i + 2)
        for i in range(num)
    ]


def questions(num: int, per_context: int, seed: int = 0, titles: int = 0) -> list[Row]:
    """`num` questions, `per_context` about each passage, in `titles` documents if any."""
    rng = random.Random(seed)
    rows: list[Row] = []
    context = ""
    for i in range(num):
        if i % per_context == 0:
            context = prose(rng, 40)
        first = context.split()[0]
        fields = {"question": prose(rng, 7), "context": context, "answers": [{"text": first, "start": 0}]}
        if titles:
            fields["title"] = f"title {i // per_context % titles}"
        rows.append(Row(f"{seed}-{i}", fields, "qa.json", i + 1))
    return rows
