"""What a run is held against beside trivial and classical: the untuned model with examples in its prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luthier
import tiny
from luthier.files import read_json, read_jsonl
from luthier.records import Answer, Row
from luthier.run.prompted import Before, Prompted, prompted
from luthier.tasks import TASKS


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("rivals") / "llama", "llama")


def recipe(llama: Path, place: Path, task: str, rows: int = 60, **evidence: Any) -> dict[str, Any]:
    file = place / f"{task}.jsonl"
    lines = (json.dumps({"id": f"r{row.id}", **row.fields}) + "\n" for row in tiny.rows_for(task, rows))
    file.write_text("".join(lines))
    off = {"robustness": 0, "swaps": 0, "general": False, "label_errors": False, "learning_curve": False}
    return {
        "model": str(llama),
        "task": {"name": task, "max_length": 128},
        "data": {"train": str(file), "validation": 0.2, "test": 0.5},
        "method": "lora",
        "train": {"epochs": 1, "dtype": "float32"},
        "evidence": {**off, "variety": False, "slices": False, **evidence},
    }


@pytest.fixture(scope="module")
def run(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> luthier.Run:
    place = tmp_path_factory.mktemp("rivals-run")
    made = recipe(llama, place, "classification", few_shot=12)
    return luthier.train(made, out=place / "run")


def test_a_language_model_is_asked_with_examples_before_it_is_tuned(run: luthier.Run) -> None:
    """On the rows that it was asked: scores, paired differences and tests, verdict, findings, report, card."""
    found = run.evaluation
    assert found is not None and found["asked"] == {"few-shot": 12} and found["rows"] > 12
    assert set(found["baselines"]) == {"trivial", "classical", "untuned", "few-shot"} == set(found["tests"])
    lines = read_jsonl(run.folder.predictions / "test.jsonl")
    some = [lines[i * len(lines) // 12] for i in range(12)]
    own = float(np.mean([line["prediction"] == line["expected"] for line in some]))
    mean, low, high = found["differences"]["few-shot"]["accuracy"]
    assert mean == pytest.approx(own - found["baselines"]["few-shot"]["accuracy"]) and low <= mean <= high
    findings = {finding["id"]: finding for finding in run.findings}
    assert f"12 of {found['rows']} test rows" in findings["few-shot-asked"]["sentence"]
    assert f"evidence.few_shot: {found['rows']}" in findings["few-shot-asked"]["remedy"]
    (held,) = (one for name, one in findings.items() if name.endswith(("-than-few-shot", "s-few-shot")))
    assert "on the 12 test rows that can be compared" in held["sentence"]
    name = "untuned model, 4 examples in its prompt"
    assert f"{name} (12 rows)" in run.folder.report.read_text() and name in (run.folder.model / "README.md").read_text()
    assert read_json(run.folder.findings)["verdict"] in ("not proven", "do not use it")


def test_other_rows_are_held_against_it_too(run: luthier.Run, tmp_path: Path) -> None:
    rows = [{"id": row.id, **row.fields} for row in tiny.rows_for("classification", 9, seed=4)]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = luthier.evaluate(run, str(tmp_path / "new.jsonl"))
    assert "few-shot" in found["baselines"] and found["asked"] == {}


def before(llama: Path, task: str, budget: int = 2048, few_shot: int = 200, **settings: Any) -> Before:
    """What a run of `task` asks, as far as `prompted` looks at it."""
    from luthier.engine.device import Machine
    from luthier.methods import METHODS
    from luthier.models import load_tokenizer, resolve
    from luthier.run.recipe import read
    from luthier.tasks import make_task

    made = {"model": str(llama), "task": {"name": task, **settings}, "data": {"train": "rows.jsonl"}, "method": "lora"}
    made["evidence"] = {"few_shot": few_shot}
    source, method = resolve(str(llama)), METHODS["lora"](METHODS["lora"].Options())
    checked = read(made)[0]
    kind = make_task(checked.task, source.kind, method)
    tokenizer = kind.prepare(load_tokenizer(source), source)
    model = kind.build(source, {}).eval()
    return Before(checked, source, method, model, tokenizer, Machine("cpu", "float32", "test", 1), budget)


def test_what_it_answers_is_what_method_few_shot_answers(llama: Path) -> None:
    """The same model, examples and rows as a run of that method."""
    from luthier.methods.few_shot import FewShot, FewShotOptions
    from luthier.serve import answer_rows
    from luthier.tasks import make_task

    given, rows = before(llama, "classification", max_length=128), tiny.rows_for("classification", 40)
    untuned = [Answer("positive", 0.5)] * 8
    found = prompted(given, rows[:32], rows[32:], untuned)
    assert found is not None and found.places == tuple(range(8)) and min(found.shown) > 0
    task = make_task(given.recipe.task, "decoder", FewShot(FewShotOptions(seed=given.recipe.seed)))
    task.prepare(given.tokenizer, given.source)
    task.learn(rows[:32])
    own = answer_rows(task, given.model, given.tokenizer, rows[32:], given.machine, 2048)
    assert [a.prediction for a in own] == [a.prediction for a in found.answers]
    assert [a.confidence for a in own] == pytest.approx([a.confidence for a in found.answers], abs=1e-6)
    assert list(found.shown) == task.requests.given


def test_examples_that_do_not_fit_are_left_out_and_that_is_said(llama: Path) -> None:
    """tiny's model reads 512 tokens; a request has about 150 of them."""
    given, rows = before(llama, "classification", budget=64, max_length=200), tiny.rows_for("classification", 20)
    found = prompted(given, rows[:16], rows[16:], [Answer("positive", 0.5)] * 4)
    assert found is not None and found.most == 4 and 0 < max(found.shown) < 4
    (note,) = found.findings(4, [Answer("", 0.5)] * 4)
    assert note.severity == "note" and "fewer than 4 examples" in note.sentence and note.numbers["fewer_examples"] == 4


def test_of_dialogs_the_rows_with_the_same_tokens_to_say_are_compared(llama: Path) -> None:
    """Tuning learns each of the assistant's turns, a prompt is asked for the last: with one turn that is the same."""
    from luthier.serve import answer_rows

    given, rows = before(llama, "generation", max_length=256, max_new_tokens=6), tiny.chats(24)
    task = TASKS["generation"](given.recipe.task)
    task.prepare(given.tokenizer, given.source)
    tuned = answer_rows(task, given.model, given.tokenizer, rows[12:], given.machine, 2048)
    found = prompted(given, rows[:12], rows[12:], tuned)
    assert found is not None and all("ended" in a.detail and a.detail["nll"] > 0 for a in found.answers)
    part = found.part(tuned)
    assert part is not None and list(part.places) == [i for i in range(12) if (12 + i) % 3 != 2]
    told = " ".join(note.sentence for note in found.findings(12, tuned))
    assert "4 rows are left out" in told


def test_written_answers_are_compared_with_written_ones(llama: Path) -> None:
    given = before(llama, "generation", max_length=256, max_new_tokens=4, score_rows=4, few_shot=3)
    rows = [row for row in tiny.chats(60) if len(row["messages"]) == 1]
    untuned = [Answer("", 0.5, {"tokens": 1.0, **({"ended": True} if i % 5 == 0 else {})}) for i in range(20)]
    found = prompted(given, rows[:20], rows[20:40], untuned)
    assert found is not None and len(found.places) == 3 and all(place % 5 == 0 for place in found.places)


def test_what_cannot_be_asked_in_words_is_not(llama: Path) -> None:
    given = before(llama, "classification", max_length=128)
    assert given.can_be_prompted() and not before(llama, "classification", few_shot=0).can_be_prompted()
    assert not replace(given, source=replace(given.source, kind="encoder")).can_be_prompted()
    assert not replace(given, recipe=before(llama, "pretraining").recipe).can_be_prompted()
    assert prompted(given, [Row("1", {"text": "x", "label": "y"})], [], []) is None
    nothing = Prompted((), (), (), 4)
    assert nothing.part([]) is None and nothing.findings(0, []) == []
