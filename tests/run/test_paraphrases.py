"""Test rows in other words, from a file and by a model: what is refused before training, what a run makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import luthier
import tiny
from luthier.engine.device import Machine
from luthier.errors import DataError, InputError, ModelError
from luthier.evidence.options import EvidenceOptions
from luthier.files import read_json, read_jsonl
from luthier.run.augment import Makers
from luthier.run.paraphrases import paraphrases, require_paraphrases
from luthier.tasks import TASKS

FP32 = Machine("cpu", "float32", "test", 1)


def task(name: str = "classification") -> Any:
    return TASKS[name](TASKS[name].Options())


def test_a_run_asks_the_rows_that_its_user_says_otherwise(recipe, data, tmp_path) -> None:
    """Scored beside the other ways of writing, told in the findings, kept row by row."""
    lines = [json.loads(line) for line in data["classification"].read_text().splitlines()]
    said = [{"id": line["id"], "text": f"{line['text']} and so it is"} for line in lines]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe(), "evidence": {"paraphrases": "said.jsonl"}}))
    run = luthier.train(tmp_path / "recipe.yaml", out=tmp_path / "run")
    found = read_json(run.folder.evidence)["robustness"]
    test = len(read_jsonl(run.folder.predictions / "test.jsonl"))
    assert found["paraphrases"]["used"] == test and found["ways"][-1]["kind"] == "paraphrase"
    assert sum(found["paraphrases"]["left_out"].values()) == len(lines) - test  # of training and validation
    told = next(finding for finding in run.findings if finding["id"] == "paraphrased")
    assert "said.jsonl gave" in told["sentence"]
    kept = read_jsonl(run.folder.robustness)
    assert sum(line["kind"] == "paraphrase" for line in kept) == test
    assert run.recipe.evidence.paraphrases == str((tmp_path / "said.jsonl").resolve())


def test_the_rows_that_a_user_says_otherwise_are_asked_first(recipe, runs, tmp_path) -> None:
    """Twenty of the test rows are enough, whichever they are, though fewer than all are asked."""
    test = read_jsonl(runs["classification", "full"].folder.predictions / "test.jsonl")
    said = [{"id": line["id"], "text": f"so it is, number {n}"} for n, line in enumerate(test[-20:])]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    off = dict.fromkeys(("label_errors", "learning_curve", "variety", "general", "slices"), False)
    evidence = {**off, "swaps": 0, "robustness": 22, "paraphrases": str(tmp_path / "said.jsonl")}
    run = luthier.train({**recipe(), "evidence": evidence}, out=tmp_path / "run")
    found = read_json(run.folder.evidence)["robustness"]
    assert len(test) > 22 and found["paraphrases"]["used"] == 20
    assert found["ways"][-1]["kind"] == "paraphrase" and max(way["rows"] for way in found["ways"]) == 22


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("writers")
    return {name: tiny.save_model(place / name, name) for name in ("llama", "t5", "bert")}


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_model_says_rows_otherwise_by_its_kind(kind: str, writers: dict[str, Path], monkeypatch: Any) -> None:
    """A fake writer in place of the tiny model's own words, which are noise: they are all left out, and counted."""
    rows, options = tiny.reviews(6), EvidenceOptions(paraphraser=str(writers[kind]))
    events: list[Any] = []
    monkeypatch.setattr("luthier.run.augment.LONGEST_PROMPT", 64)
    monkeypatch.setattr("luthier.run.augment.LONGEST_ANSWER", 8)
    made = paraphrases(options, task(), rows, Path(), FP32, 512, events.append)
    assert made is not None and made.given == 6 and len(made.rows) + sum(made.left_out.values()) == 6
    asked: list[str] = []

    def fake(self: Any, *given: Any) -> Any:
        return lambda texts: [asked.append(text) or f"well, {text.split(': ')[-1].splitlines()[-1]}" for text in texts]

    monkeypatch.setattr(Makers, {"llama": "write", "t5": "translate"}[kind], fake)
    made = paraphrases(options, task(), rows, Path(), FP32, 512, events.append)
    assert made is not None and [place for place, _ in made.rows] == list(range(6))
    assert made.rows[0][1]["label"] == rows[0]["label"] and made.rows[0][1]["text"] == f"well, {rows[0]['text']}"
    assert asked[0].startswith({"llama": "Say the following in other words", "t5": "paraphrase: "}[kind])


def test_what_can_give_no_row_is_refused_before_training(writers: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("id,text\n")
    (tmp_path / "odd.csv").write_text("id,colour\n1,red\n")
    cases: list[tuple[dict[str, Any], str, type[InputError], str]] = [
        ({"paraphrases": "gone.jsonl"}, "classification", DataError, "no such file"),
        ({"paraphrases": "empty.csv"}, "classification", DataError, "no row"),
        ({"paraphrases": "odd.csv", "robustness": 0}, "classification", DataError, "switched off"),
        ({"paraphraser": str(writers["bert"])}, "classification", ModelError, "an encoder, which writes nothing"),
        ({"paraphraser": str(writers["llama"])}, "token-classification", DataError, "no text of a person's own"),
    ]
    for settings, name, error, said in cases:
        with pytest.raises(error, match=said) as told:
            require_paraphrases(EvidenceOptions(**settings), task(name), tmp_path, lambda event: None)
        assert "evidence.paraphrase" in told.value.where and told.value.fix
    require_paraphrases(EvidenceOptions(paraphraser=str(writers["t5"])), task(), tmp_path, lambda event: None)
