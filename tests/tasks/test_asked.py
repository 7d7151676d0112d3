"""Any task asked of a language model: the same answers' scores, the same state, and no word of a request lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import luthier
import tiny
from cards import by_card
from luthier.engine.device import Machine
from luthier.errors import DataError, ModelError
from luthier.methods import METHODS
from luthier.models import load_tokenizer, resolve
from luthier.records import Answer, Row
from luthier.serve import Tuned
from luthier.serve.predict import answer_rows
from luthier.tasks import TASKS, Task, make_task
from luthier.tasks.asking.task import Asked

FP32 = Machine("cpu", "float32", "test", 1)
BF16 = Machine("cpu", "bfloat16", "test", 1)
LONG = 480
NAMES = {"decoder": "llama", "encoder-decoder": "t5"}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    place = tmp_path_factory.mktemp("asked")
    return cache(lambda name: tiny.save_model(place / name, name))


def method(name: str, **settings: Any) -> Any:
    return METHODS[name](METHODS[name].Options(**settings))


def asked_task(
    folders: Any, name: str, kind: str = "decoder", rows: list[Row] | None = None, **settings: Any
) -> tuple[Asked, Any, Any]:
    """A task that has learned from rows, its tokenizer and its model."""
    source = resolve(str(folders(NAMES[kind])))
    options = TASKS[name].Options(**{"max_length": LONG, **settings})
    task = make_task(options, kind, method("full"))
    assert isinstance(task, Asked)
    tokenizer = task.prepare(load_tokenizer(source), source)
    task.learn(tiny.rows_for(name, 12) if rows is None else rows)
    return task, tokenizer, task.build(source, {}).eval()


def answered(task: Task, model: Any, tokenizer: Any, rows: list[Row], machine: Machine = FP32) -> list[Answer]:
    return answer_rows(task, model, tokenizer, rows, machine, 4096)


def told(tokenizer: Any, labels: np.ndarray) -> str:
    return tokenizer.decode([int(token) for token in labels if token >= 0])


@pytest.mark.parametrize("name", ["classification", "question-answering", "token-classification"])
@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_what_is_learned_is_the_answer_and_its_end_alone(folders: Any, name: str, kind: str) -> None:
    rows = tiny.rows_for(name, 12)
    task, tokenizer, _ = asked_task(folders, name, kind)
    examples = task.encode(rows, tokenizer)
    end = "<|im_end|>" if kind == "decoder" else "</s>"
    for row, ids, labels, note in zip(rows, examples.columns["input_ids"], examples.columns["labels"], examples.notes):
        assert told(tokenizer, labels).strip() == task.tell(row) + end
        assert task.ask(row) in tokenizer.decode(note.prompt.tolist())
        if kind == "decoder":
            assert ids[: len(note.prompt)].tolist() == note.prompt.tolist()
            assert (labels[: len(note.prompt)] == -100).all()
    assert len(examples) == 12
    unlabelled = [Row(r.id, {k: v for k, v in r.fields.items() if k != task.form.target}) for r in rows]
    again = task.encode(unlabelled, tokenizer)
    assert [n.prompt.tolist() for n in again.notes] == [n.prompt.tolist() for n in examples.notes]


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_labels_are_weighed_and_passages_written(folders: Any, kind: str) -> None:
    rows = tiny.rows_for("classification", 6)
    task, tokenizer, model = asked_task(folders, "classification", kind)
    for answer in answered(task, model, tokenizer, rows):
        shares = answer.detail["probabilities"]
        assert set(shares) == {"negative", "positive"}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert answer.prediction == max(shares, key=shares.get)
        assert answer.confidence == pytest.approx(max(shares.values()), abs=1e-6)
    rows = tiny.rows_for("question-answering", 6)
    task, tokenizer, model = asked_task(folders, "question-answering", kind)
    for row, answer in zip(rows, answered(task, model, tokenizer, rows)):
        assert answer.prediction in row["context"]
        assert 0 < answer.confidence <= 1
        if answer.prediction:
            assert row["context"][answer.detail["start"] :].startswith(answer.prediction)


def test_what_is_neither_is_written_freely_and_heard(folders: Any) -> None:
    rows = tiny.rows_for("token-classification", 4)
    task, tokenizer, model = asked_task(folders, "token-classification")
    for row, answer in zip(rows, answered(task, model, tokenizer, rows)):
        assert len(answer.prediction) == len(row["tokens"])
        assert isinstance(answer.detail["written"], str)


def test_in_bf16_doubtful_labels_are_weighed_again_in_fp32(folders: Any) -> None:
    rows = tiny.rows_for("classification", 12)
    task, tokenizer, model = asked_task(folders, "classification")
    exact = answered(task, model, tokenizer, rows)
    near = answered(task, model, tokenizer, rows, BF16)
    assert [a.prediction for a in near] == [a.prediction for a in exact]


def test_a_long_input_is_cut_and_nothing_else(folders: Any) -> None:
    rows = tiny.rows_for("question-answering", 6)
    task, tokenizer, _ = asked_task(folders, "question-answering")
    frame = task.ask(Row("", {"question": "who ?", "context": "", "answers": []})).split("Passage: ")
    long = []
    for row in rows:
        context = row["context"] + " the old house is big ." * 60
        long.append(Row(row.id, {**row.fields, "context": context, "question": "who ?"}))
    examples = task.encode(long, tokenizer)
    for row, note in zip(long, examples.notes):
        text = tokenizer.decode(note.prompt.tolist())
        assert len(note.prompt) <= LONG
        assert len(note.prompt) > LONG - 8
        assert frame[0] in text
        assert "Question: who ?" in text
        passage = text.split("Passage: ")[1].split("\n\nQuestion")[0]
        assert row["context"].startswith(passage)
        assert note.allowed.text == passage, "only what the model has read may be copied"
    assert max(task.lengths(long, tokenizer)) > LONG


def test_an_answer_that_was_cut_off_teaches_nothing(folders: Any) -> None:
    filling = "the old house is big . " * 120
    near = Row("1", {"question": "who ?", "context": f"anna . {filling}", "answers": [{"text": "anna", "start": 0}]})
    far = Row(
        "2",
        {
            "question": "who ?",
            "context": f"{filling}anna .",
            "answers": [{"text": "anna", "start": len(filling)}],
        },
    )
    task, tokenizer, _ = asked_task(folders, "question-answering", rows=[near, far])
    assert task.weights(task.encode([near, far], tokenizer)).tolist() == [5, 0]
    with pytest.raises(DataError, match="not one of 1 answers"):
        task.encode([far], tokenizer)


def test_a_request_that_leaves_no_room_is_refused(folders: Any) -> None:
    task, tokenizer, _ = asked_task(folders, "question-answering", max_length=64, stride=8)
    rows = [Row(r.id, r.fields, "rows.jsonl", 7) for r in tiny.rows_for("question-answering", 3)]
    with pytest.raises(ModelError, match=r"rows\.jsonl:7: its request without its text has"):
        task.encode(rows, tokenizer)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_words_are_cut_whole_the_first_one_too(folders: Any, kind: str) -> None:
    long = "https://x.y/" + "aQ9z" * 150
    sentences = [["anna", "saw", "paul"], ["anna", long, "paul"], [long, "paul"], ["anna", *["house"] * 400, "paul"]]
    tags = [["B-person" if word in tiny.NAMES else "O" for word in words] for words in sentences]
    rows = [Row(str(i), {"tokens": w, "tags": t}) for i, (w, t) in enumerate(zip(sentences, tags))]
    task, tokenizer, _ = asked_task(folders, "token-classification", kind, rows)
    examples, (whole, short, empty, cut) = task.requests.encode(rows, tokenizer)
    assert (whole["tokens"], short["tokens"], empty["tokens"]) == (["anna", "saw", "paul"], ["anna"], [])
    assert cut["tags"] == tags[3][: len(cut["tokens"])]
    assert 200 < len(cut["tokens"]) < 400
    assert max(map(len, (examples.notes))) <= LONG
    assert [bool(weight) for weight in task.weights(examples)] == [True, True, False, True], "of nothing, nothing"
    assert [fault.code for fault in task.faults(rows, tokenizer)] == ["answer-cut"]
    names: dict[str, Any] = {"tokenizer": tokenizer, "torch": torch, "LABELS": task.state["labels"]}
    exec(task.card_code(), names)  # noqa: S102, our own lines
    prompts = [names["prompt"]({"tokens": words}) for words in sentences]
    assert prompts == [note.tolist() for note in examples.notes]


def test_faults_are_found_before_it_has_learned(folders: Any) -> None:
    source = resolve(str(folders("llama")))
    task = make_task(TASKS["token-classification"].Options(max_length=LONG), "decoder", method("full"))
    tokenizer = task.prepare(load_tokenizer(source), source)
    row = Row("1", {"tokens": ["a" * 900, "paul"], "tags": ["O", "B-person"]})
    assert [fault.value for fault in task.faults([row], tokenizer)] == ["person: paul"]


def test_a_column_called_tools_is_no_tool(folders: Any) -> None:
    task, tokenizer, _ = asked_task(folders, "classification")
    for row in tiny.rows_for("classification", 2):
        other = Row(row.id, {**row.fields, "tools": "hammer, saw"})
        one, two = task.encode([row, other], tokenizer).notes
        assert one.prompt.tolist() == two.prompt.tolist()
    source = resolve(str(folders("llama")))
    chats = make_task(TASKS["generation"].Options(max_length=LONG), "decoder", method("few-shot", k=0))
    own = chats.prepare(load_tokenizer(source), source)
    own.chat_template = tiny.CHAT_TEMPLATE.replace("{%", "{{ tools | tojson if tools else '' }}{%", 1)
    rows = tiny.rows_for("generation", 2)
    chats.learn(rows)
    asked = Row("1", {**rows[0].fields, "tools": [{"type": "function", "function": {"name": "saw"}}]})
    assert '"saw"' in own.decode(chats.encode([asked], own).notes[0].tolist())


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_going_on_all_labels_can_be_answered_by_the_card_too(folders: Any, kind: str) -> None:
    task, _, _ = asked_task(folders, "classification", kind)
    before = {"labels": ["mixed", "negative"], "asked": {"longest_answer": 90}}
    task.inherit(before)
    assert list(task.requests.known["endings"]) == ["mixed", "negative", "positive"]
    assert task.requests.known["longest_answer"] == 90
    assert "ENDINGS = {'mixed': [" in task.card_code()


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_labels_that_differ_by_case_alone_are_both_answered(folders: Any, kind: str) -> None:
    names = ["US", "us"]
    rows = [Row(str(i), {"text": "the film", "label": name}) for i, name in enumerate(names)]
    task, _, _ = asked_task(folders, "classification", kind, rows)
    assert task.score(rows, [task.hear(row, task.tell(row)) for row in rows])["accuracy"] == 1
    shares = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert [task._chosen(row, names, own).prediction for row, own in zip(rows, shares)] == names


@pytest.mark.parametrize("name", ["classification", "question-answering", "token-classification"])
def test_scores_are_the_encoders_and_while_it_is_silent_the_loss(folders: Any, name: str) -> None:
    rows = tiny.rows_for(name, 12)
    task, tokenizer, _ = asked_task(folders, name)
    own = make_task(TASKS[name].Options(), "encoder", method("full"), task.state)
    given = [task.hear(row, task.tell(row)) for row in rows]
    assert task.score(rows, given) == pytest.approx(own.score(rows, given))
    assert task.score(rows, given)[task.primary] == 1
    assert (task.quality(rows, given) == own.quality(rows, given)).all()
    examples = task.encode(rows, tokenizer)
    silent = task.answers(rows, examples, [np.array([2.0 * i, 4.0]) for i in range(12)])
    assert task.score(rows, silent) == {"loss": pytest.approx(sum(2.0 * i for i in range(12)) / 48)}
    task.choose(rows, silent)
    assert task.settle(rows, silent) == silent
    assert [t.title for t in task.tables(rows, given)] == [t.title for t in own.tables(rows, given)]
    assert task.watched == "loss"


def test_its_state_is_json_and_a_copy_is_apart(folders: Any) -> None:
    rows = tiny.rows_for("classification", 8)
    task, tokenizer, model = asked_task(folders, "classification")
    state = json.loads(json.dumps(task.state))
    again = make_task(task.options, "decoder", method("full"), state)
    fresh = load_tokenizer(resolve(str(folders("llama"))))
    assert answered(again, model, fresh, rows) == answered(task, model, tokenizer, rows)
    copy = task.copy()
    copy.state["labels"].append("x")
    copy.state["more"] = 1
    assert "more" not in task.state
    assert copy.requests.inner is copy.inner


WRITTEN = [
    "",
    "none",
    "positive",
    "Negative, positive!",
    "about 3.5 stars",
    "1,200",
    "−2",
    "no answer",
    "No Answer.",
]


def kinds_of_words() -> list[tuple[Task, list[Row]]]:
    """Every kind of answer that is read from what was written."""
    out = []
    for name, options, change in (
        ("token-classification", {}, None),
        ("question-answering", {}, None),
        ("classification", {"problem_type": "multi_label_classification"}, "labels"),
        ("classification", {"problem_type": "regression"}, "score"),
    ):
        rows = tiny.rows_for(name, 8)
        if change is not None:
            values = [["positive"], [], ["negative", "positive"], ["negative"]] * 2 if change == "labels" else range(8)
            rows = [
                Row(r.id, {"text": r["text"], change: v if change == "labels" else float(v)})
                for r, v in zip(rows, values)
            ]
        task = TASKS[name](TASKS[name].Options(**options))
        task.learn(rows)
        out.append((task, rows))
    return out


def test_what_is_written_is_heard_the_same_by_the_cards_lines() -> None:
    checked = 0
    for task, rows in kinds_of_words():
        names: dict[str, Any] = {"LABELS": task.state.get("labels")}
        exec("import re\nimport unicodedata\n" + task.hear_code(), names)  # noqa: S102, our own lines
        inputs = [field.name for field in task.form.inputs]
        for row in rows:
            for said in (*WRITTEN, task.tell(row), f"well: {task.tell(row)}"):
                fields = {name: row[name] for name in inputs}
                assert names["hear"](said, **fields) == task.hear(row, said).prediction, (task.title, said)
                checked += 1
    assert checked == 4 * 8 * 11


@pytest.mark.parametrize("way", ["multi_label_classification", "regression"])
def test_labels_and_numbers_are_written_freely(folders: Any, way: str) -> None:
    [rows] = [rows for task, rows in kinds_of_words() if getattr(task.options, "problem_type", "") == way]
    task, tokenizer, model = asked_task(folders, "classification", rows=rows, problem_type=way)
    answers = answered(task, model, tokenizer, rows)
    task.choose(rows, answers)
    settled = task.settle(rows, answers)
    assert set(task.score(rows, settled)) >= {task.primary} - {"spearman"}
    told_back = [task.hear(row, task.tell(row)) for row in rows]
    assert task.score(rows, told_back)[task.primary] == pytest.approx(1)


def test_who_is_asked_and_who_has_a_head() -> None:
    def made(name: str, kind: str, way: str) -> Task:
        return make_task(TASKS[name].Options(), kind, method(way))

    asked = {
        ("classification", "encoder", "full"): False,
        ("classification", "decoder", "lora"): True,
        ("classification", "encoder-decoder", "full"): True,
        ("classification", "decoder", "frozen"): False,
        ("question-answering", "decoder", "adapter"): True,
        ("token-classification", "decoder", "few-shot"): True,
        ("generation", "decoder", "full"): False,
        ("generation", "decoder", "few-shot"): True,
        ("seq2seq", "encoder-decoder", "lora"): False,
        ("seq2seq", "decoder", "lora"): True,
        ("pretraining", "decoder", "full"): False,
        ("embedding", "decoder", "full"): False,
        ("classification", "encoder", "few-shot"): False,
    }
    assert {cell: isinstance(made(*cell), Asked) for cell in asked} == asked
    for name in ("embedding", "pretraining"):
        with pytest.raises(ModelError, match="has none to write"):
            made(name, "decoder", "few-shot")


def recipe(folder: Path, place: Path, name: str, **changes: Any) -> dict[str, Any]:
    data = place / f"{name}.jsonl"
    rows = tiny.rows_for(name, 12)
    data.write_text("".join(json.dumps({"id": row.id, **row.fields}) + "\n" for row in rows))
    return {
        "model": str(folder),
        "task": {"name": name, "max_length": LONG},
        "data": {"train": str(data), "validation": str(data), "test": str(data), "leakage": "report"},
        "method": {"name": "full"},
        "train": {
            **{"epochs": 60, "batch_size": 12, "eval_steps": 60, "save_steps": 1000, "learning_rate": 6e-3},
            **{"schedule": "constant", "dropout": 0.0, "dtype": "float32"},
        },
        **changes,
    }


@pytest.mark.parametrize(("name", "kind"), [("question-answering", "decoder"), ("classification", "encoder-decoder")])
def test_a_run_learns_by_heart_loads_and_its_card_answers_the_same(
    folders: Any, name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
    run = luthier.train(recipe(folders(NAMES[kind]), tmp_path, name), out=tmp_path / "run")
    assert run.evaluation is not None
    assert "loss" not in run.evaluation["scores"]
    inside = [json.loads(line) for line in (run.folder.predictions / "test.jsonl").read_text().splitlines()]
    assert [line["quality"] for line in inside] == [1.0] * 12
    target = TASKS[name].form.target
    rows = [{k: v for k, v in row.fields.items() if k != target} for row in tiny.rows_for(name, 20)]
    tuned = Tuned.load(run.folder.model, "float32")
    said = tuned.predict(rows)
    for before, after in zip(inside, said):
        assert before["prediction"] == after["prediction"]
        assert before["confidence"] == pytest.approx(after["confidence"], abs=2e-6)
    assert by_card(run.folder.model, rows) == [one["prediction"] for one in said]
