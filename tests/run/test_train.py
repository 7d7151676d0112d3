"""A run from end to end: what it leaves, that it repeats, and what becomes of one that is stopped or breaks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import luthier
import tiny
from luthier.errors import DataError, Interrupted, LuthierError, ModelError, ResourceError, RunError
from luthier.files import read_json, read_jsonl, read_log, sha256_of, verified
from luthier.training import Phase, Resumed, Saved, Scored, Started, Step, Stopped

RUNS = [("classification", "full"), ("classification", "lora"), ("question-answering", "full")]
SCORES = {
    "classification": {"accuracy", "macro_f1"},
    "question-answering": {"f1", "exact_match", "has_answer_f1", "no_answer_f1", "bleu", "rouge_l"},
}


def weights(run: luthier.Run) -> str:
    (file,) = run.folder.model.glob("*model.safetensors")
    return sha256_of(file)


def left_by(run: luthier.Run) -> dict[str, bytes]:
    """All of a run that follows from recipe and data alone: weights, splits, answers, scores.

    Findings also tell how many runs have scored the same test rows.
    """
    folder = run.folder
    files = [folder.splits, folder.scores, *sorted(folder.predictions.iterdir())]
    assert len(files) == 4
    return {p.name: p.read_bytes() for p in files} | {"weights": weights(run).encode()}


# What it leaves


@pytest.mark.parametrize("cell", RUNS, ids="-".join)
def test_every_file_of_a_run_is_there(runs, cell) -> None:
    folder = runs[cell].path
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    weights = "adapter_model.safetensors" if cell[1] == "lora" else "model.safetensors"
    due = "recipe.yaml environment.json data.json splits.jsonl events.jsonl scores.json findings.json report.html "
    due += "status.json predictions/validation.jsonl predictions/test.jsonl "
    due += "model/README.md model/tokenizer.json model/luthier.json"
    assert {*due.split(), f"model/{weights}", "model/manifest.json"} <= names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pkl", ".pickle"))], "no pickle"
    assert not [n for n in names if ".luthier-" in n], "nothing staged is left"
    checkpoints = {n.split("/")[1] for n in names if n.startswith("checkpoints/")}
    assert 1 <= len(checkpoints) <= 3
    for name in checkpoints:
        assert verified(folder / "checkpoints" / name)


@pytest.mark.parametrize("cell", RUNS, ids="-".join)
def test_status_splits_and_data_say_what_was_done(runs, data, cell) -> None:
    run = runs[cell]
    status = run.status()
    assert status["state"] == "finished"
    assert status["verdict"] in {"use it", "do not use it", "not proven"}
    assert status["step"] == max(e["step"] for e in read_log(run.folder.events) if e["event"] == "step")
    rows = read_jsonl(data[cell[0]])
    splits = read_jsonl(run.folder.splits)
    assert sorted(line["id"] for line in splits) == sorted(row["id"] for row in rows)
    counts = {name: sum(line["split"] == name for line in splits) for name in ("train", "validation", "test")}
    assert min(counts.values()) >= 0.13 * len(rows)
    facts = read_json(run.folder.data)
    assert facts["splits"] == counts
    assert (facts["read"], facts["kept"], facts["format"]) == (len(rows), len(rows), "jsonl")
    assert facts["files"][0]["sha256"] == sha256_of(data[cell[0]])
    assert {"python", "torch", "transformers", "device", "threads", "commit", "command"} <= set(
        read_json(run.folder.environment)
    )


@pytest.mark.parametrize("cell", RUNS, ids="-".join)
def test_scores_have_intervals_and_stand_beside_baselines(runs, cell) -> None:
    found = read_json(runs[cell].folder.scores)
    assert set(found) == {"test", "validation"}
    test = found["test"]
    assert test == runs[cell].evaluation == luthier.evaluate(runs[cell])
    assert test["task"] == cell[0]
    assert set(test["scores"]) == set(test["intervals"]) == SCORES[cell[0]]
    assert set(test["baselines"]) == {"trivial", "classical", "untuned"}
    for name, score in test["scores"].items():
        low, high = test["intervals"][name]
        assert 0 <= low <= score <= high <= (100 if name == "bleu" else 1)
        assert all(name in scores for scores in test["baselines"].values())
    lines = read_jsonl(runs[cell].folder.predictions / "test.jsonl")
    assert len(lines) == test["rows"] == read_json(runs[cell].folder.data)["splits"]["test"]
    split = {line["id"]: line["split"] for line in read_jsonl(runs[cell].folder.splits)}
    for line in lines:
        assert split[line["id"]] == "test"
        assert 0 <= line["confidence"] <= 1
        assert {"prediction", "expected", "quality", "file", "line"} <= set(line)
    primary = "accuracy" if cell[0] == "classification" else "f1"
    assert sum(line["quality"] for line in lines) / len(lines) == pytest.approx(test["scores"][primary], abs=1e-5)


@pytest.mark.parametrize("cell", RUNS, ids="-".join)
def test_the_verdict_says_why(runs, cell) -> None:
    said = read_json(runs[cell].folder.findings)
    assert said["verdict"] == runs[cell].status()["verdict"]
    assert said["sentence"]
    assert said["findings"]
    for finding in said["findings"]:
        assert set(finding) == {"id", "severity", "sentence", "numbers", "rows", "remedy"}
        assert finding["severity"] in {"blocker", "warning", "note"}


@pytest.mark.parametrize("cell", RUNS, ids="-".join)
def test_the_report_is_one_file_that_needs_no_network(runs, cell) -> None:
    text = runs[cell].folder.report.read_text("utf-8")
    assert "<html" in text
    assert runs[cell].status()["verdict"] in text.lower()
    assert not re.findall(r"<(?:script|img|iframe|source)[^>]+src\s*=\s*[\"'](?!data:)", text)
    assert not re.findall(r"<link[^>]+href\s*=\s*[\"'](?!data:)", text)
    assert not re.findall(r"url\(\s*[\"']?https?:|@import", text)


@pytest.mark.parametrize("cell", RUNS, ids="-".join)
def test_events_tell_the_whole_story(runs, cell) -> None:
    events = read_log(runs[cell].folder.events)
    names = [event["event"] for event in events]
    assert names[:2] == ["memory", "start"]
    assert names[-2:] == ["stopped", "end"]
    assert set(names) == {"memory", "start", "step", "scored", "saved", "stopped", "end"}
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, len(steps) + 1))
    assert all(event["loss"] > 0 and event["seconds"] > 0 and event["time"] > 1e9 for event in steps)
    assert steps[-1]["epoch"] == 2.0


def test_the_written_recipe_has_every_value_and_repeats_the_run(runs, tmp_path: Path) -> None:
    run = runs["classification", "full"]
    text = run.folder.recipe.read_text()
    assert "auto" not in text.split("train:")[-1]
    again = luthier.train(run.folder.recipe, out=tmp_path / "again")
    assert left_by(again) == left_by(run)
    assert again.folder.recipe.read_text() == text


# The same, and not the same


@pytest.mark.parametrize("cell", [("classification", "lora"), ("question-answering", "full")], ids="-".join)
def test_the_same_recipe_gives_the_same_run_bit_for_bit(runs, recipe, cell, tmp_path: Path) -> None:
    assert left_by(luthier.train(recipe(*cell), out=tmp_path / "again")) == left_by(runs[cell])


def test_another_seed_gives_other_weights_and_the_same_splits(runs, recipe, tmp_path: Path) -> None:
    one, other = runs["classification", "full"], luthier.train(recipe(seed=8), out=tmp_path / "other")
    assert weights(one) != weights(other)
    assert one.folder.splits.read_bytes() == other.folder.splits.read_bytes()
    tokens = [[e["tokens"] for e in read_log(run.folder.events) if e["event"] == "step"] for run in (one, other)]
    assert tokens[0] != tokens[1], "the rows come in another order, too"


def test_the_threshold_is_the_best_on_validation_and_is_kept_with_the_model(runs) -> None:
    from luthier.tasks.squad_scores import best_f1

    run = runs["question-answering", "full"]
    threshold = read_json(run.folder.model / "luthier.json")["state"]["no_answer_threshold"]
    lines = read_jsonl(run.folder.predictions / "validation.jsonl")

    def score(at: float) -> float:
        given = ["" if line["margin"] > at else line["text"] for line in lines]
        return sum(best_f1(text, line["expected"]) for text, line in zip(given, lines)) / len(lines)

    best = max(score(line["margin"] + side) for line in lines for side in (-1e-6, 1e-6))
    assert score(threshold) == pytest.approx(best)
    assert threshold != 0.0
    for name in ("validation", "test"):
        for line in read_jsonl(run.folder.predictions / f"{name}.jsonl"):
            assert line["prediction"] == ("" if line["margin"] > threshold else line["text"])


def test_the_command_line_and_another_hash_seed_change_nothing(runs, recipe, tmp_path: Path) -> None:
    from luthier.config import dump
    from luthier.run.recipe import Recipe

    path = tmp_path / "recipe.yaml"
    path.write_text(dump(Recipe.model_validate(recipe())))
    env = {**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]}
    command = [sys.executable, "-m", "luthier", "train", str(path), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = luthier.load(tmp_path / "run")
    assert left_by(found) == left_by(runs["classification", "full"])
    assert found.recipe == runs["classification", "full"].recipe


def test_labels_are_numbered_in_their_order_in_the_alphabet(runs) -> None:
    config = read_json(runs["classification", "full"].folder.model / "config.json")
    assert config["id2label"] == {"0": "negative", "1": "positive"}


# Stopped, broken, carried on


def at(kind: type, number: int = 0, what: str = ""):
    """Whether an event is the one to strike at."""
    return lambda e: isinstance(e, kind) and (not number or e.step == number) and (not what or what in e.what)


STOPS = {
    "in the middle of an epoch": (signal.SIGINT, at(Step, 5), 130),
    "where a scoring is due": (signal.SIGTERM, at(Step, 4), 143),
    "while validation is scored": (signal.SIGINT, at(Phase, what="scoring the validation"), 130),
    "at the last step": (signal.SIGINT, at(Step, 12), 130),
    "while the untuned model answers": (signal.SIGTERM, at(Phase, what="untuned model, test"), 143),
    "while the test rows are answered": (signal.SIGINT, at(Phase, what="answering the test"), 130),
    "while the report is written": (signal.SIGTERM, at(Phase, what="writing the report"), 143),
}


@pytest.mark.parametrize(("number", "moment", "code"), STOPS.values(), ids=STOPS)
def test_a_signal_saves_and_stops_and_a_resume_ends_the_same(
    runs, recipe, tmp_path: Path, number, moment, code
) -> None:
    struck = []

    def strike(event) -> None:
        if moment(event) and not struck:
            struck.append(event)
            os.kill(os.getpid(), number)

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(Interrupted) as caught:
        luthier.train(recipe(), out=tmp_path / "run", listen=strike)
    assert len(struck) == 1
    assert caught.value.exit_code == code
    assert {n: signal.getsignal(n) for n in before} == before
    stopped = luthier.load(tmp_path / "run")
    assert stopped.status()["state"] == "stopped"
    if isinstance(struck[0], Step):
        assert stopped.status()["step"] == struck[0].step
        assert verified(stopped.folder.checkpoints / f"step-{struck[0].step:06d}")
    assert "luthier resume" in caught.value.fix
    resumed = luthier.resume(str(tmp_path / "run"))
    assert resumed.status()["state"] == "finished"
    assert left_by(resumed) == left_by(runs["classification", "full"])
    steps = [e["step"] for e in read_log(resumed.folder.events) if e["event"] == "step"]
    assert steps == list(range(1, 13)), "no step was repeated"


def test_resume_without_a_name_takes_the_newest_unfinished_run(recipe, tmp_path: Path) -> None:
    def strike(event) -> None:
        if isinstance(event, Step) and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    luthier.train(recipe(epochs=0.5), out=tmp_path / "finished")
    with pytest.raises(Interrupted):
        luthier.train(recipe(), out=tmp_path / "stopped", listen=strike)
    heard = []
    run = luthier.resume(listen=heard.append)
    assert run.path == tmp_path / "stopped"
    assert next(e for e in heard if isinstance(e, Resumed)).from_step == 3
    with pytest.raises(RunError, match="no unfinished run"):
        luthier.resume()
    assert luthier.resume(str(tmp_path / "stopped")).status()["state"] == "finished"


BREAKS = {
    "the report": "luthier.run.prove.write_report",
    "the scores": "luthier.run.prove.evaluate",
    "the verdict": "luthier.run.prove.decide",
}


@pytest.mark.parametrize("place", BREAKS.values(), ids=BREAKS)
def test_evidence_that_breaks_costs_no_weights(runs, recipe, run_home, tmp_path: Path, place: str) -> None:
    def broken(*args, **kwargs):
        raise RuntimeError("broken on purpose")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, broken)
        with pytest.raises(RuntimeError, match="on purpose"):
            luthier.train(recipe(), out=tmp_path / "run")
    run = luthier.load(tmp_path / "run")
    assert run.status()["state"] == "failed"
    assert "on purpose" in run.status()["error"]
    assert verified(run.folder.model)
    assert weights(run) == weights(runs["classification", "full"])
    assert len(run.tuned("float32").predict(["a lovely film"])) == 1
    heard = []
    resumed = luthier.resume(str(tmp_path / "run"), listen=heard.append)
    assert not any(isinstance(e, Step) for e in heard), "nothing is trained again"
    assert left_by(resumed) == left_by(runs["classification", "full"])
    assert "error" not in resumed.status()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), ""),
        (RuntimeError("CUDA out of memory. Tried"), ""),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), ""),
    ],
)
def test_too_little_memory_is_said_and_the_last_checkpoint_stays(recipe, tmp_path: Path, error, text) -> None:
    def strike(event) -> None:
        if isinstance(event, Step) and event.step == 5:
            raise error

    with pytest.raises(ResourceError) as caught:
        luthier.train(recipe(), out=tmp_path / "run", listen=strike)
    assert caught.value.exit_code == 4
    assert "token_budget" in caught.value.fix
    run = luthier.load(tmp_path / "run")
    assert run.status()["state"] == "failed"
    assert verified(run.folder.checkpoints / "step-000004")
    assert luthier.resume(str(run.path)).status()["state"] == "finished"


# Refused before it starts


FAULTS = {
    "an empty label": lambda rows: rows[3].update(label=""),
    "a text that is a number": lambda rows: rows[5].update(text=7),
    "too few rows": lambda rows: rows.__delitem__(slice(4, None)),
}


@pytest.mark.parametrize("spoil", FAULTS.values(), ids=FAULTS)
def test_data_with_errors_is_refused_before_weights_are_loaded(recipe, tmp_path: Path, monkeypatch, spoil) -> None:
    file = tmp_path / "rows.jsonl"
    good = [{"id": row.id, **row.fields} for row in tiny.reviews(120)]
    rows = [dict(row) for row in good]
    spoil(rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = recipe()
    asked["data"]["train"] = str(file)
    with monkeypatch.context() as patch:
        patch.setattr("luthier.models.load_pretrained", lambda *args, **kwargs: pytest.fail("weights were loaded"))
        with pytest.raises(DataError) as caught:
            luthier.train(asked, out=tmp_path / "run")
        assert caught.value.exit_code == 2
        assert "rows.jsonl" in str(caught.value)
    run = luthier.load(tmp_path / "run")
    assert run.status()["state"] == "failed"
    assert run.verdict is None
    assert not run.folder.model.exists()
    if run.folder.data.is_file():
        assert any(fault["severity"] == "error" for fault in read_json(run.folder.data)["faults"])
    file.write_text("".join(json.dumps(row) + "\n" for row in good))
    assert luthier.resume(str(run.path)).status()["state"] == "finished"


def test_a_test_file_that_training_has_seen_is_refused_unless_told(recipe, data, tmp_path: Path) -> None:
    rows = read_jsonl(data["classification"])
    own = tmp_path / "test.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows[:30]))
    asked = recipe(epochs=0.5)
    asked["data"] |= {"test": str(own)}
    with pytest.raises(DataError, match="leakage"):
        luthier.train(asked, out=tmp_path / "refused")
    asked["data"]["leakage"] = "report"
    reported = luthier.train(asked, out=tmp_path / "reported")
    assert reported.status()["verdict"] == "do not use it"
    assert any(f["id"] == "leakage" and f["severity"] == "blocker" for f in reported.findings)
    asked["data"]["leakage"] = "drop"
    dropped = luthier.train(asked, out=tmp_path / "dropped")
    seen = {line["id"] for line in read_jsonl(dropped.folder.splits) if line["split"] == "train"}
    assert seen.isdisjoint(row["id"] for row in rows[:30])


@pytest.mark.parametrize("length", [300, 100_000])
def test_more_tokens_than_the_model_reads_are_refused(recipe, tmp_path: Path, length: int) -> None:
    asked = recipe()
    asked["task"]["max_length"] = length
    with pytest.raises(ModelError, match="256") as caught:
        luthier.train(asked, out=tmp_path / "run")
    assert caught.value.fix == "task.max_length: 256"


def test_a_folder_with_something_in_it_is_left_alone(recipe, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        luthier.train(recipe(), out=tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["notes.txt"]


def test_changed_data_cannot_carry_a_run_on(recipe, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"id": row.id, **row.fields} for row in tiny.reviews(120)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = recipe()
    asked["data"]["train"] = str(file)

    def strike(event) -> None:
        if isinstance(event, Step) and event.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        luthier.train(asked, out=tmp_path / "run", listen=strike)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    with pytest.raises(RunError, match="data"):
        luthier.resume(str(tmp_path / "run"))


# Settings


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize(("hidden", "attention"), [(0.0, 0.0), (0.3, 0.2), (0.2, 0.2), ("model", 0.0)])
def test_dropout_settings_reach_every_architecture(models, architecture: str, hidden, attention: float) -> None:
    from luthier.models import dropout_settings, resolve

    found = dropout_settings(resolve(str(models[architecture])), hidden, attention)
    names = {"distilbert": ("dropout", "attention_dropout")}.get(
        architecture, ("hidden_dropout_prob", "attention_probs_dropout_prob")
    )
    expected = {names[1]: attention} | ({} if hidden == "model" else {names[0]: hidden})
    assert found == expected


def test_dropout_reaches_t5_and_is_refused_where_there_is_none(tmp_path: Path) -> None:
    from transformers import LlamaConfig, T5Config

    from luthier.models import dropout_settings

    for name, config in {"t5": T5Config(), "llama": LlamaConfig()}.items():
        config.save_pretrained(tmp_path / name)
    t5, llama = (SimpleNamespace(folder=tmp_path / name) for name in ("t5", "llama"))
    assert dropout_settings(t5, 0.3, 0.0) == {"dropout_rate": 0.3}
    assert dropout_settings(llama, 0.0, 0.2) == {"attention_dropout": 0.2}
    with pytest.raises(ModelError, match=r"llama.*has no dropout"):
        dropout_settings(llama, 0.3, 0.0)


def test_settings_of_the_model_itself_have_an_effect(runs, recipe, tmp_path: Path) -> None:
    plain = weights(runs["classification", "full"])
    for name, value in {"dropout": 0.4, "attention_dropout": 0.3}.items():
        assert weights(luthier.train(recipe(**{name: value}), out=tmp_path / name)) != plain, name


def test_gradient_checkpointing_changes_memory_and_no_loss(recipe, tmp_path: Path) -> None:
    losses = []
    for kept in (False, True):
        run = luthier.train(recipe(dropout=0.0, gradient_checkpointing=kept), out=tmp_path / str(kept))
        losses.append([e["loss"] for e in read_log(run.folder.events) if e["event"] == "step"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_listeners_hear_what_the_log_holds(recipe, tmp_path: Path) -> None:
    heard = []
    run = luthier.train(recipe(epochs=0.5), out=tmp_path / "run", listen=heard.append)
    logged = [event.as_json() for event in heard if event.logged]
    written = [{k: v for k, v in event.items() if k != "time"} for event in read_log(run.folder.events)][:-1]
    assert written == json.loads(json.dumps(logged))
    assert {type(e) for e in heard} >= {Phase, Started, Step, Scored, Saved, Stopped}
    assert all(e.done <= e.total or not e.total for e in heard if isinstance(e, Phase))


def test_a_listener_that_fails_leaves_a_failed_run_that_goes_on(recipe, runs, tmp_path: Path) -> None:
    def strike(event) -> None:
        if isinstance(event, Step) and event.step == 7:
            raise ValueError("the screen is gone")

    with pytest.raises(ValueError, match="screen"):
        luthier.train(recipe(), out=tmp_path / "run", listen=strike)
    run = luthier.load(tmp_path / "run")
    assert run.status()["state"] == "failed"
    assert left_by(luthier.resume(str(run.path))) == left_by(runs["classification", "full"])


def test_errors_are_ours() -> None:
    assert issubclass(Interrupted, LuthierError)
    with pytest.raises(LuthierError):
        luthier.load("there-is-no-such-run")


def test_a_refused_run_leaves_no_folder_of_its_own_and_hides_no_other(recipe, tmp_path: Path, monkeypatch) -> None:
    def strike(event) -> None:
        if isinstance(event, Step) and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted):
        luthier.train(recipe(), listen=strike)
    for out in (None, "mine"):
        with pytest.raises(ModelError):
            luthier.train({**recipe(), "model": "minilmm"}, out=out)
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["0001-classification-full"]
    assert luthier.load("mine").status()["refused"] is True
    assert luthier.load("last").path.name == "0001-classification-full"
    assert luthier.resume().path.name == "0001-classification-full"


def test_copies_are_one_unit_of_evidence(recipe, tmp_path: Path) -> None:
    """Thirty texts, each there six times in other letters, are thirty rows of evidence, not a hundred and eighty."""
    rows = []
    for row in tiny.reviews(60):
        for i, text in enumerate((row["text"], row["text"].upper(), row["text"] + " !", f"{row['text']}.")):
            rows.append({"id": f"{row.id} {i}", "text": text, "label": row["label"]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe(epochs=0.2)
    made["data"] = {"train": str(tmp_path / "rows.jsonl"), "validation": 0.2, "test": 0.4}
    run = luthier.train(made, out=tmp_path / "run")
    lines = read_jsonl(run.folder.predictions / "test.jsonl")
    assert run.evaluation["rows"] == len(lines) == 4 * run.evaluation["groups"]
    assert len({line["group"] for line in lines}) == run.evaluation["groups"]


@pytest.mark.parametrize("leakage", ["refuse", "drop", "report"])
def test_validation_and_test_files_may_not_be_the_same_rows(recipe, data, leakage: str, tmp_path: Path) -> None:
    rows = [{"id": f"h{row.id}", **row.fields} for row in tiny.reviews(200, seed=77)]
    loud = [{**row, "id": f"loud {row['id']}", "text": row["text"].upper() + "!"} for row in rows[:60]]
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:100]))
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows[100:], *loud]))
    made = recipe(epochs=0.2)
    made["data"] = {"train": str(data["classification"]), "leakage": leakage}
    made["data"] |= {name: str(tmp_path / f"{name}.jsonl") for name in ("validation", "test")}
    if leakage == "refuse":
        with pytest.raises(DataError, match=r"60 test rows .* are among the validation rows, too"):
            luthier.train(made, out=tmp_path / "run")
        return
    run = luthier.train(made, out=tmp_path / "run")
    (said,) = [finding for finding in run.findings if finding["id"] == "leakage-choices"]
    assert said["severity"] == ("note" if leakage == "drop" else "blocker")
    splits = [line["split"] for line in read_jsonl(run.folder.splits)]
    assert splits.count("validation") == (40 if leakage == "drop" else 100) and splits.count("test") == 160
