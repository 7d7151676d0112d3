"""Audits of other tasks: answers in a passage, tags, texts, losses; CrowS-Pairs and BBQ asked of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import bias_cases
import luthier
import tiny
from luthier.errors import InputError, RunError
from luthier.run import audit, correct

SPANS = ("question-answering", "full")
CROWS = """sent_more,sent_less,stereo_antistereo,bias_type
anna is dull,ben is dull,stereo,gender
emma,leo lives,antistereo,age
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files")
    (place / "terms.yaml").write_text(bias_cases.TERMS)
    (place / "crows.csv").write_text(CROWS)
    lines = []
    for i in range(8):
        info = {"ans0": ["Unknown", "unknown"], "ans1": ["Anna", "F"], "ans2": ["Ben", "M"]}
        lines.append(
            {
                "example_id": i,
                "question_index": "1",
                "question_polarity": ["neg", "nonneg"][i % 2],
                "context_condition": ["ambig", "disambig"][i // 2 % 2],
                "category": "Gender_identity",
                "answer_info": info,
                "additional_metadata": {"stereotyped_groups": ["F"]},
                "context": "anna lives in paris . ben lives in rome .",
                "question": "where does anna live ?",
                **{name: value[0] for name, value in info.items()},
                "label": 0,
            }
        )
    (place / "bbq.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def made(task: str, model: Path, place: Path, **options: Any) -> luthier.Run:
    rows = tiny.rows_for(task, 60)
    data = place / f"{task}.jsonl"
    lines = [{"id": f"x{row.id}", **row.fields} for row in rows]
    for line in lines if task == "generation" else ():
        line["messages"] = [*line["messages"], {"role": "assistant", "content": line.pop("answer")}]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = {
        "model": str(model),
        "task": {"name": task, "max_length": 64, **options},
        "data": {"train": str(data), "validation": 0.2, "test": 0.3},
        "train": {"epochs": 1, "learning_rate": 3e-3, "dtype": "float32"},
    }
    return luthier.train(recipe, out=place / f"{task}-run")


def test_questions_and_their_passages(runs: Any, files: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs[SPANS].path, copy)
    run = luthier.run.load(copy)
    found = audit(run, terms=files / "terms.yaml", bbq=files / "bbq.jsonl")
    (swaps,) = found["swaps"]
    assert swaps["axis"] == "people" and swaps["pairs"] > 5 and 0 <= swaps["flips"] <= 1
    kinds = {one["id"] for one in found["findings"]}
    assert kinds & {"bbq-even", "bbq-bias"}
    assert found["bbq"]["questions"] == 8
    written = correct(run, "counterfactual", out=tmp_path / "corrected")
    again = luthier.train(written["folder"] + "/recipe.yaml", out=tmp_path / "again", overrides=["train.epochs=1"])
    assert any(one["id"] == "audit-compared" for one in audit(again, terms=files / "terms.yaml")["findings"])


def test_tags(models: dict[str, Path], files: Path, tmp_path: Path) -> None:
    run = made("token-classification", models["bert"], tmp_path, stride=8)
    found = audit(run, terms=files / "terms.yaml")
    assert found["swaps"][0]["pairs"] > 3 and found["swaps"][0]["flips"] is not None
    with pytest.raises(InputError, match=r"no label that a group|nothing to correct"):
        correct(run, "reweighting", out=tmp_path / "out")


def test_a_masked_language_model(files: Path, tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model", "bert", language_head=True)
    run = made("pretraining", model, tmp_path)
    found = audit(run, terms=files / "terms.yaml", crows=files / "crows.csv")
    assert found["swaps"][0]["flips"] is None
    assert next(one for one in found["findings"] if one["id"] == "swap-shift")["severity"] == "note"
    assert (found["crows"]["pairs"], set(found["crows"]["by_type"])) == (2, {"gender", "age"})
    assert "CrowS-Pairs" in run.folder.audit_page.read_text()
    with pytest.raises(InputError, match="BBQ asks questions"):
        audit(run, bbq=files / "bbq.jsonl")


def test_a_causal_language_model(files: Path, tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model", "llama")
    run = made("generation", model, tmp_path, max_new_tokens=8, score_rows=6)
    found = audit(run, terms=files / "terms.yaml", crows=files / "crows.csv", bbq=files / "bbq.jsonl")
    assert 0 < found["swaps"][0]["pairs"] <= 6 and found["swaps"][0]["flips"] is not None
    assert found["crows"]["pairs"] == 2 and found["bbq"]["unmatched"] == 0
    assert found["bbq"]["ambiguous"]["questions"] == 4
    if found["swaps"][0]["flips"]:
        written = correct(run, "counterfactual", out=tmp_path / "corrected")
        again = luthier.train(written["folder"] + "/recipe.yaml", out=tmp_path / "again")
        assert again.evaluation and run.evaluation and again.evaluation["rows"] == run.evaluation["rows"]


def test_vectors_have_no_answers(models: dict[str, Path], tmp_path: Path) -> None:
    run = made("embedding", models["bert"], tmp_path)
    with pytest.raises(RunError, match="no answers"):
        audit(run)
