"""Real files, where they are at hand: nothing is lost, and their own counts come out."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from data_forms import CHAT, PAIRS, TAGS, TEXTS

from luthier.data.checking.rows import check, check_splits
from luthier.data.load import load
from luthier.data.splitting.split import split
from luthier.records import SPLITS

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LUTHIER_DATA", ROOT.parent / "shared" / "data"))


def real(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not here: name its folder in LUTHIER_DATA")
    return path


@pytest.mark.parametrize(("name", "num"), [("train", 3394), ("dev", 1009), ("test", 1287)])
def test_wnut17(name: str, num: int) -> None:
    path = real(f"wnut17_{name}.conll")
    loaded = load(str(path), TAGS)
    assert loaded.format == "conll (BIO)" and loaded.faults == []
    assert len(loaded.rows) == loaded.read == num
    lines = path.read_text("utf-8").split("\n")
    tags = Counter(line.split("\t")[1] for line in lines if line.strip())
    facts = check(loaded.rows, TAGS).facts
    assert facts["tags"] == tags and facts["words"] == sum(tags.values())
    for row in loaded.rows:
        cells = [line.split("\t") for line in lines[row.line - 1 : row.line - 1 + len(row["tokens"])]]
        assert [row["tokens"], row["tags"]] == [list(column) for column in zip(*cells)]


def test_wnut17_types_are_in_every_split() -> None:
    rows = load(str(real("wnut17_train.conll")), TAGS).rows
    done = split(rows, TAGS, validation=0.1, test=0.1)
    parts = {name: done.parts(rows)[name] for name in SPLITS}
    assert check_splits(parts, TAGS) == []
    for part in parts.values():
        assert len(check(part, TAGS).facts["entities"]) == 6


def test_alpaca() -> None:
    path = real("alpaca_en_demo.json")
    loaded = load(str(path), CHAT)
    assert loaded.format == "json (alpaca)" and loaded.faults == [] and len(loaded.rows) == 999
    for row, raw in zip(loaded.rows, json.loads(path.read_text("utf-8"))):
        asked = raw["instruction"] + ("\n" + raw["input"] if raw["input"] else "")
        assert row["messages"] == [{"role": "user", "content": asked}] and row["answer"] == raw["output"]
    assert check(loaded.rows, CHAT).facts["roles"] == {"assistant": 999, "user": 999}


def test_medical_questions_in_three_forms() -> None:
    path = str(real("niddk_qa.jsonl"))
    chat, pairs, texts = load(path, CHAT), load(path, PAIRS), load(path, TEXTS, columns={"text": "answer"})
    assert (chat.format, pairs.format, texts.format) == ("jsonl (prompt-completion)", "jsonl", "jsonl")
    for loaded, form in ((chat, CHAT), (pairs, PAIRS), (texts, TEXTS)):
        assert len(loaded.rows) == 1192 and loaded.errors == []
        assert all(row["focus"] for row in loaded.rows)  # kept, to group by
        done = split(loaded.rows, form, validation=0.1, test=0.1, group_by="focus")
        topics = [{row["focus"] for row in done.parts(loaded.rows)[name]} for name in SPLITS]
        assert all(topics) and not topics[0] & topics[1] and not topics[0] & topics[2]
