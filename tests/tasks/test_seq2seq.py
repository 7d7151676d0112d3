"""Text to text: the loss is the stock class's, a small model learns to turn one text into another, and writes it."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import luthier
import tiny
from luthier.errors import LuthierWarning
from luthier.files import read_json, read_jsonl
from luthier.models import load_tokenizer, resolve
from luthier.records import Row
from luthier.serve import Tuned
from luthier.tasks.seq2seq import Seq2Seq, Seq2SeqOptions


def sentences(count: int, seed: int = 0) -> list[Row]:
    """Who lives where, to be said the other way round."""
    draw, rows = np.random.default_rng(seed), []
    while len(rows) < count:
        name, place, beast = (str(draw.choice(some)) for some in (tiny.NAMES, tiny.PLACES, tiny.BEASTS))
        text = f"{name} lives in {place} with a {beast} ."
        rows.append(Row(str(len(rows)), {"source": text, "target": f"{place} : {beast} and {name}"}))
    return rows


def task_for(folder: Path, **settings: Any) -> tuple[Seq2Seq, Any, Any]:
    source = resolve(str(folder))
    task = Seq2Seq(Seq2SeqOptions(**{"max_length": 32, "max_target_length": 16, **settings}))
    return task, task.prepare(load_tokenizer(source), source), source


@pytest.fixture(params=tiny.ENCODER_DECODERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny.save_model(tmp_path / request.param, request.param)


def test_the_loss_is_the_stock_class_s_whatever_the_batches(folder: Path) -> None:
    task, tokenizer, source = task_for(folder, source_prefix="not ")
    rows = [*sentences(5), Row("9", {"source": "a film", "target": "old"})]
    model = task.build(source, {}).eval()
    examples = task.encode(rows, tokenizer)
    whole = examples.batch(range(len(rows)))
    with torch.no_grad():
        sums = task.forward(model, whole)
        alone = torch.cat([task.forward(model, examples.batch([i])) for i in range(len(rows))])
        stock = []
        for row in rows:
            given = tokenizer("not " + row["source"], text_target=row["target"], return_tensors="pt")
            stock.append(float(model(input_ids=given["input_ids"], labels=given["labels"]).loss))
    assert torch.allclose(sums, alone, atol=1e-4)
    assert (sums[:, 0] / sums[:, 1]).tolist() == pytest.approx(stock, abs=1e-4)
    assert sums[:, 1].tolist() == task.weights(examples).tolist()


def test_the_decoder_is_given_what_the_model_s_own_shift_gives(folder: Path) -> None:
    task, tokenizer, source = task_for(folder)
    model = task.build(source, {})
    batch = task.encode(sentences(6), tokenizer).batch(range(6))
    own = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    kept = batch["labels"] != -100
    assert torch.equal(batch["decoder_input_ids"][kept], own[kept]) and kept.sum() > 30
    for labels in batch["labels"]:
        assert int(labels[labels != -100][-1]) == tokenizer.eos_token_id


def test_a_target_ends_even_where_the_tokenizer_adds_no_end(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    task, tokenizer, _ = task_for(tiny.save_model(tmp_path / "m", "t5"))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    labels = task.encode(sentences(2), tokenizer).columns["labels"]
    assert [int(ids[-1]) for ids in labels] == [tokenizer.eos_token_id] * 2


def test_a_language_after_the_end_comes_first_where_the_model_has_no_start(tmp_path: Path) -> None:
    task, tokenizer, _ = task_for(tiny.save_model(tmp_path / "m", "bart"))
    task.state["start_id"] = None
    assert task._shifted([7, 8, 2, 5], tokenizer) == [5, 7, 8, 2]


def test_long_targets_are_cut_and_said_and_long_sources_are_counted(tmp_path: Path) -> None:
    task, tokenizer, _ = task_for(tiny.save_model(tmp_path / "m", "t5"), max_target_length=4, source_prefix="old ")
    rows = sentences(3)
    with pytest.warns(LuthierWarning, match=r"3 of 3 targets are longer than task.max_target_length \(4 tokens\)"):
        examples = task.encode(rows, tokenizer)
    assert {len(ids) for ids in examples.columns["labels"]} == {4}
    assert task.lengths(rows, tokenizer) == [len(tokenizer("old " + r["source"])["input_ids"]) for r in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = task.encode([Row("1", {"source": "a film"})], tokenizer)
    assert asked.columns["labels"][0].tolist() == [-100] and len(asked.columns["decoder_input_ids"][0]) == 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.engine.device._faster_dtype", lambda name, memory: "float32")
    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))


@pytest.mark.parametrize(("architecture", "beams"), [("t5", 1), ("bart", 3)])
def test_it_learns_to_say_it_the_other_way_round(architecture: str, beams: int, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / architecture, architecture)
    data = tmp_path / "rows.jsonl"
    rows = sentences(400)
    data.write_text(
        "".join(json.dumps({"id": r.id, "article": r["source"], "summary": r["target"]}) + "\n" for r in rows)
    )
    run = luthier.train(
        {
            "model": str(folder),
            "task": {
                "name": "seq2seq",
                "max_length": 24,
                "max_target_length": 16,
                "max_new_tokens": 12,
                "num_beams": beams,
                "length_penalty": 0.5,
                "score_rows": 40,
            },
            "data": {"train": str(data), "validation": 0.1, "test": 0.15},
            "train": {
                "epochs": 12,
                "learning_rate": 1e-2,
                "batch_size": 32,
                "dtype": "float32",
                "eval_steps": 60,
            },
        },
        out=tmp_path / "run",
    )
    test = read_json(run.folder.scores)["test"]
    assert test["scores"]["rouge_l"] > 0.9 and test["scores"]["ended"] == 1.0
    assert test["scores"]["loss"] < test["baselines"]["classical"]["loss"] < test["baselines"]["trivial"]["loss"]
    assert test["scores"]["rouge_l"] > test["baselines"]["classical"]["rouge_l"]
    assert test["scores"]["bleu"] > 60 and test["scores"]["chrf"] > 60
    # Loaded, and without luthier, it writes the same.
    lines = [line for line in read_jsonl(run.folder.predictions / "test.jsonl") if line["prediction"]]
    asked = [{"source": rows[int(line["id"])]["source"]} for line in lines]
    assert len(lines) == 40
    written = [line["prediction"] for line in lines]
    assert [line["prediction"] for line in Tuned.load(run.folder.model, "float32").predict(asked)] == written
    code = re.search(r"```python\n(.*?)```", (run.folder.model / "README.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1].replace('FOLDER = "."', f"FOLDER = {str(run.folder.model)!r}"), names)  # noqa: S102
    assert [names["answer"](**row) for row in asked[:10]] == written[:10]
