"""Going on from a run: labels keep their places, old rows come back, and what was forgotten is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import luthier
import tiny
from luthier.data import DataOptions
from luthier.errors import DataError, ModelError, RunError
from luthier.files import read_jsonl
from luthier.records import Row
from luthier.run.earlier import Earlier, earlier_run, keep_apart, replayed
from luthier.run.prepare import Prepared
from luthier.runs import RunFolder
from luthier.tasks import TASKS


def third_label(count: int) -> list[Row]:
    """Rows of a label that the first run never saw, and of one that it knows."""
    rows = []
    for row in tiny.reviews(count, seed=5):
        words = row["text"].split()
        place = next(i for i, word in enumerate(words) if word in tiny.CLASS_WORDS[row["label"]])
        if row["label"] == "negative":
            words[place] = tiny.BEASTS[len(rows) % len(tiny.BEASTS)]
        label = "animal" if row["label"] == "negative" else "positive"
        rows.append(Row(f"n{len(rows)}", {"text": " ".join(words), "label": label}))
    return rows


@pytest.fixture(scope="module")
def newer(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("newer") / "newer.jsonl"
    place.write_text("".join(json.dumps({"id": row.id, **row.fields}) + "\n" for row in third_label(120)))
    return place


@pytest.fixture(scope="module")
def first(recipe, tmp_path_factory) -> luthier.Run:
    """A run that has learned its two labels well enough to forget them."""
    place = tmp_path_factory.mktemp("first")
    rows = (json.dumps({"id": row.id, **row.fields}) + "\n" for row in tiny.reviews(500))
    (place / "rows.jsonl").write_text("".join(rows))
    made = recipe(epochs=10, early_stopping_patience=0, save_steps="epoch", eval_steps="epoch")
    return luthier.train({**made, "data": {**made["data"], "train": str(place / "rows.jsonl")}}, out=place / "run")


def going_on(recipe: Any, first: luthier.Run, newer: Path, **train: Any) -> dict[str, Any]:
    made = recipe(epochs=2, **train)
    return {**made, "model": str(first.path), "data": {**made["data"], "train": str(newer)}}


def test_it_goes_on_from_the_head_it_had_and_adds_a_label_behind(recipe, first, newer, tmp_path: Path) -> None:
    """At a learning rate of next to nothing the model is the earlier one: old labels' weights are in their old rows."""
    run = luthier.train(going_on(recipe, first, newer, learning_rate=1e-9), out=tmp_path / "run")
    tuned = run.tuned("float32")
    assert tuned.task.state["labels"] == ["negative", "positive", "animal"]
    before, after = (load_file(r.folder.model / "model.safetensors") for r in (first, run))
    assert after["classifier.weight"].shape[0] == 3
    assert float((after["classifier.weight"][:2] - before["classifier.weight"]).abs().max()) < 1e-5
    assert float((after["classifier.bias"][:2] - before["classifier.bias"]).abs().max()) < 1e-5
    said = {finding["id"]: finding for finding in run.findings}
    assert said["continued"]["numbers"]["labels"] == ["animal"]
    assert said["continued"]["numbers"]["again"] == 0
    assert set(said) & {"forgot", "remembered"}


def test_forgetting_is_told_and_replay_forgets_less(recipe, first, newer, tmp_path: Path) -> None:
    lost = {}
    for method in ("none", "replay"):
        run = luthier.train(
            going_on(recipe, first, newer, learning_rate=1e-2, forgetting=method, early_stopping_patience=0),
            out=tmp_path / method,
        )
        said = {finding["id"]: finding for finding in run.findings}
        numbers = (said.get("forgot") or said["remembered"])["numbers"]
        lost[method] = numbers["before"] - numbers["after"]
        assert numbers["before"] > 0.8
        replayed = said["continued"]["numbers"]["replayed"]
        assert (replayed > 10) == (method == "replay")
        if method == "none":
            assert "forgot" in said, "every old negative row now looks like something else"
    assert lost["replay"] < lost["none"] - 0.05


@pytest.mark.parametrize("method", ["ewc", "distill"])
def test_elastic_weights_and_distillation_run_and_resume_to_the_same_weights(
    recipe, first, newer, method: str, tmp_path: Path
) -> None:
    run = luthier.train(going_on(recipe, first, newer, forgetting=method), out=tmp_path / method)
    plain = luthier.train(going_on(recipe, first, newer), out=tmp_path / "none")
    one, other = (load_file(r.folder.model / "model.safetensors") for r in (run, plain))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) > 1e-5


def test_a_lora_run_is_merged_and_gone_on_from(recipe, newer, tmp_path: Path) -> None:
    first = luthier.train(recipe("classification", "lora", epochs=1), out=tmp_path / "lora")
    run = luthier.train(going_on(recipe, first, newer, learning_rate=1e-9), out=tmp_path / "run")
    rows = [{"text": row["text"]} for row in tiny.reviews(20, seed=9)]
    for before, after in zip(first.tuned("float32").predict(rows), run.tuned("float32").predict(rows)):
        a, b = before["probabilities"], after["probabilities"]
        assert a["negative"] / a["positive"] == pytest.approx(b["negative"] / b["positive"], rel=1e-3)


def test_damaged_weights_are_not_gone_on_from(recipe, first, newer, tmp_path: Path) -> None:
    """A bit of a trained tensor: the file is as long as it was, and transformers would take it."""
    damaged = tmp_path / "damaged"
    shutil.copytree(first.path, damaged)
    flip_last_bit(damaged / "model" / "model.safetensors")
    made = {**going_on(recipe, first, newer), "model": str(damaged)}
    with pytest.raises(RunError, match=r"model\.safetensors: the file is not what was saved"):
        luthier.train(made, out=tmp_path / "run")


def test_a_merged_model_that_was_damaged_is_merged_again(recipe, tmp_path: Path, luthier_home: Path) -> None:
    run = luthier.train({**recipe(), "method": "lora"}, out=tmp_path / "run")
    earlier = earlier_run(str(run.path), tmp_path)
    assert earlier is not None
    weights = earlier.source(lambda event: None).folder / "model.safetensors"
    assert weights.is_relative_to(luthier_home)
    before = weights.read_bytes()
    flip_last_bit(weights)
    earlier.source(lambda event: None)
    assert weights.read_bytes() == before


def flip_last_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_what_cannot_be_gone_on_with_is_refused(recipe, first, newer, data, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"train\.forgetting"):
        luthier.train(recipe(forgetting="replay"), out=tmp_path / "a")
    frozen = luthier.train(recipe("classification", "frozen", epochs=0.2), out=tmp_path / "frozen")
    with pytest.raises(ModelError, match="cannot be merged"):
        luthier.train(going_on(recipe, frozen, newer), out=tmp_path / "b")


def test_old_rows_that_changed_stop_replay_and_are_said_otherwise(recipe, newer, data, tmp_path: Path) -> None:
    copy = tmp_path / "rows.jsonl"
    copy.write_bytes(data["classification"].read_bytes())
    made = recipe(epochs=0.5)
    first = luthier.train({**made, "data": {**made["data"], "train": str(copy)}}, out=tmp_path / "first")
    rows = read_jsonl(copy)
    copy.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    with pytest.raises(RunError, match="not what they were"):
        luthier.train(going_on(recipe, first, newer, forgetting="replay"), out=tmp_path / "a")
    run = luthier.train(going_on(recipe, first, newer), out=tmp_path / "b")
    assert "old-rows-gone" in {finding["id"] for finding in run.findings}


def test_another_task_only_takes_the_model(recipe, first, tmp_path: Path) -> None:
    made = recipe("question-answering", epochs=0.5)
    run = luthier.train({**made, "model": str(first.path)}, out=tmp_path / "qa")
    assert not {finding["id"] for finding in run.findings} & {"continued", "forgot", "remembered"}


def test_what_an_earlier_run_learned_is_never_scored_nor_its_test_learned(recipe, newer, tmp_path: Path) -> None:
    """The same rows, grown and split otherwise, over a chain of three runs; as they are and in other letters."""
    rows = [{"id": row.id, **row.fields} for row in tiny.reviews(400)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:200]))
    loud = [{**row, "id": f"loud {row['id']}", "text": row["text"].upper() + "!"} for row in rows]
    (tmp_path / "grown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in loud))
    made = recipe(epochs=0.1)

    def tuned(name: str, model: str, train: str, **data: Any) -> luthier.Run:
        here = {**made, "model": model, "data": {"train": str(tmp_path / train), **data}}
        return luthier.train(here, out=tmp_path / name)

    one = tuned("one", made["model"], "rows.jsonl", test=0.1, validation=0.1)
    two = tuned("two", str(one.path), "grown.jsonl", test=0.5, validation=0.2)
    three = tuned("three", str(two.path), "rows.jsonl", test=0.4, validation=0.2)
    between = tuned("between", str(one.path), str(newer), test=0.1, validation=0.1)
    last = tuned("last", str(between.path), "rows.jsonl", test=0.5, validation=0.2)
    runs = (one, two, three, last)
    splits = [{line["id"]: line["split"] for line in read_jsonl(run.folder.splits)} for run in runs]
    learned = {id for id, split in splits[0].items() if split == "train"}
    tested = {id for id, split in splits[0].items() if split == "test"}
    assert len(learned) > 100 and tested
    assert {splits[1].get(f"loud {id}") for id in learned} == {"train"}
    assert "train" not in {splits[1].get(f"loud {id}") for id in tested}
    since = learned | {id[5:] for id, split in splits[1].items() if split == "train"}
    assert not {id for id, split in splits[2].items() if split != "train"} & since
    assert not {id for id, split in splits[3].items() if split != "train"} & learned
    moves = json.loads(two.folder.data.read_text())["moves"]
    assert any("one has learned from them" in move["why"] for move in moves)


@pytest.mark.parametrize(("leakage", "ends"), [("refuse", "refused"), ("drop", "note"), ("report", "blocker")])
def test_a_test_file_that_an_earlier_run_has_learned_from(recipe, newer, leakage, ends, tmp_path: Path) -> None:
    rows = [{"id": row.id, **row.fields} for row in tiny.reviews(200)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe(epochs=0.1)
    data = {"train": str(tmp_path / "rows.jsonl"), "test": 0.1, "validation": 0.1}
    first = luthier.train({**made, "data": data}, out=tmp_path / "first")
    data = {"train": str(newer), "test": str(tmp_path / "test.jsonl"), "validation": 0.1, "leakage": leakage}
    asked = {**made, "model": str(first.path), "data": data}
    if ends == "refused":
        with pytest.raises(DataError, match="have been learned by first"):
            luthier.train(asked, out=tmp_path / "run")
        return
    run = luthier.train(asked, out=tmp_path / "run")
    (said,) = [finding for finding in run.findings if finding["id"] == "leakage"]
    learned = sum(line["split"] == "train" for line in read_jsonl(first.folder.splits))
    assert (said["severity"], said["numbers"]["rows"]) == (ends, learned)
    assert run.evaluation["rows"] == (200 if leakage == "report" else 200 - learned)
    forbidden = leakage == "report" and run.verdict["because"][0] == "leakage"
    assert forbidden == (leakage == "report")


def test_nothing_that_is_held_out_is_replayed() -> None:
    """Not in other letters, not nearly, and no other question on a passage that is held out."""
    kind = TASKS["classification"]
    task = kind(kind.Options())
    sentences = [f"the film number {i} was a great and rather long pleasure to watch" for i in range(9)]
    old = [Row(f"o{i}", {"text": text, "label": "a"}) for i, text in enumerate(sentences)]
    held = [Row("h", {"text": sentences[0].upper() + "!", "label": "a"})]
    new = [Row("n", {"text": "quite another one", "label": "b"}) for _ in range(9)]
    splits = {"train": new, "validation": [], "test": held}
    assert "o0" not in {row.id for row in replayed(old, splits, task, None, 1.0, 7)}
    assert {row.id for row in replayed(old, {**splits, "test": []}, task, None, 1.0, 7)} == {row.id for row in old}
    kind = TASKS["question-answering"]
    passage = "anna lives in berlin and ben in a small house near the sea"
    asked = [
        Row(id, {"question": f"where does {who} live ?", "context": passage, "answers": []})
        for id, who in (("o1", "anna"), ("t1", "ben"))
    ]
    splits = {"train": [Row("n1", {"question": "who ?", "context": "carl sleeps", "answers": []})] * 4}
    found = replayed(asked[:1], {**splits, "validation": [], "test": asked[1:]}, kind(kind.Options()), None, 1.0, 7)
    assert found == []


def test_a_row_like_one_that_was_learned_and_one_that_was_scored_is_neither(tmp_path: Path) -> None:
    """Near both, it can be on no side: it is left out."""
    kind = TASKS["classification"]
    task = kind(kind.Options())
    words = [f"word{i}" for i in range(60)]
    learned = Row("l", {"text": " ".join(words), "label": "a"})
    scored = Row("s", {"text": " ".join([*words[:48], *(f"other{i}" for i in range(12))]), "label": "a"})
    bridge = Row("b", {"text": " ".join([*words[:54], *(f"other{i}" for i in range(6))]), "label": "a"})
    free = [Row(f"f{i}", {"text": f"text number {i} about nothing", "label": "b"}) for i in range(9)]
    alone = Row("o", {"text": "quite another old sentence that was scored", "label": "a"})
    like = Row("t", {"text": alone["text"].upper(), "label": "a"})
    earlier = Earlier(RunFolder(tmp_path / "first"), {"task": {"name": "classification"}})
    earlier.splits = {"train": [learned], "validation": [], "test": [scored, alone]}
    earlier.learned = lambda emit: [learned]  # type: ignore[method-assign]
    for place in ("train", "test"):
        splits = {"train": list(free), "validation": [], "test": []}
        splits[place] = [*splits[place], bridge, like]
        prepared = Prepared(splits, [], {}, [], "jsonl", {}, 11)
        keep_apart(prepared, earlier, task, DataOptions(train="x", test=0.2), lambda event: None)
        assert "b" not in {row.id for row in prepared.splits["test"]}, "it would be scored, and is like a learned one"
        assert [row.id for row in prepared.splits["test"]] == ["t"]
