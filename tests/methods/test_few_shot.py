"""Examples in the prompt: which they are, that nothing is trained, and that a new process answers the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import luthier
import tiny
from cards import by_card
from luthier.errors import ModelError, RecipeError
from luthier.methods import METHODS
from luthier.methods.few_shot import FILE, FewShot
from luthier.models import load_tokenizer, resolve
from luthier.serve import Tuned
from luthier.tasks import TASKS, make_task

ANSWERS = [*["good"] * 12, *["bad"] * 5, *["odd"] * 2]
POOL = [(f"the {beast} number {i}", f"answer {i}") for i, beast in enumerate(tiny.BEASTS)]


def few(**settings: Any) -> FewShot:
    return FewShot(FewShot.Options(**settings))


def test_random_examples_hang_on_the_seed_alone() -> None:
    first = few(choose="random", k=5).pick(ANSWERS)
    assert len(set(first)) == 5
    assert few(choose="random", k=5).pick(ANSWERS) == first
    assert any(few(choose="random", k=5, seed=s).pick(ANSWERS) != first for s in (1, 2))
    assert few(choose="random", k=100).pick(ANSWERS) != list(range(19))
    assert sorted(few(choose="random", k=100).pick(ANSWERS)) == list(range(19))


@pytest.mark.parametrize("k", [1, 3, 4, 6, 9, 19, 50])
def test_by_label_each_has_as_many_as_there_are(k: int) -> None:
    picked = [ANSWERS[i] for i in few(choose="label", k=k).pick(ANSWERS)]
    assert len(picked) == min(k, 19)
    counts = {answer: picked.count(answer) for answer in set(ANSWERS)}
    for answer, count in counts.items():
        fair = max(counts.values())
        assert count >= min(fair - 1, ANSWERS.count(answer))


def test_none_are_picked_at_zero() -> None:
    assert few(k=0).pick(ANSWERS) == []
    method = few(k=0)
    method.keep([])
    assert method.shown(["the cat"]) == [[]]


def test_the_nearest_stands_last_and_none_is_its_own_example() -> None:
    method = few(choose="nearest", k=3)
    assert method.pick(ANSWERS) == list(range(19))
    method.keep(POOL)
    shown = method.shown(["a goat and a parrot and a goat", POOL[0][0]])
    assert [len(some) for some in shown] == [3, 3]
    assert shown[0][-1][0].startswith("the goat")
    assert shown[0][-2][0].startswith("the parrot")
    assert POOL[0] not in shown[1]


def test_a_fixed_example_is_not_shown_to_itself() -> None:
    method = few(choose="random", k=2)
    method.keep(POOL[:2])
    assert method.shown([POOL[0][0], "other"]) == [[POOL[1]], POOL[:2]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Say it: {txt}", "{txt} is no field"),
        ("Say it.", "no place"),
        ("  \n", "is empty"),
        (None, "cannot be read"),
    ],
)
def test_a_prompt_of_ones_own_is_checked(text: str | None, found: str, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=found.replace("{", r"\{")) as caught:
        few(prompt=str(path)).check_prompt(["text"])
    if "txt" in found:
        assert "text" in caught.value.fix


def test_a_prompt_of_ones_own_is_filled_and_other_braces_stay(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text('Answer as JSON {"label": ...}, {0} too.\nText: {text} {text}\n')
    method = few(prompt=str(path))
    method.check_prompt(["text", "other"])
    assert method.request({"text": "a {b} c"}) == 'Answer as JSON {"label": ...}, {0} too.\nText: a {b} c a {b} c'
    assert few().request({"text": "a"}) is None


def test_a_folder_holds_examples_and_no_weights(tmp_path: Path) -> None:
    method = few(choose="nearest", k=2)
    method.keep(POOL)
    model = torch.nn.Linear(3, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    applied = method.apply(model, None)
    assert applied is model
    assert not any(p.requires_grad for p in model.parameters())
    folder = tmp_path / "model"
    folder.mkdir()
    method.save(model, folder, "the-base")
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert json.loads((folder / FILE).read_text())["base_model"] == "the-base"
    again = few(choose="nearest", k=2)
    loaded = again.load(folder, object(), None, lambda source, fresh: model)
    assert again.pool == POOL
    assert again.shown(["a goat"]) == method.shown(["a goat"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.state_dict().items())
    (folder / FILE).write_text('{"examples": [{"request": 1}]}')
    with pytest.raises(ModelError, match="cannot be read"):
        again.load(folder, object(), None, lambda source, fresh: model)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("few") / "llama", "llama")


@pytest.mark.parametrize(("name", "kind"), [("llama", "decoder"), ("bart", "encoder-decoder")])
def test_what_does_not_fit_costs_examples_first(name: str, kind: str, tmp_path: Path) -> None:
    rows = tiny.rows_for("classification", 12)
    source = resolve(str(tiny.save_model(tmp_path / name, name)))
    assert source.max_length is not None
    sizes, counts = {}, {}
    for k in (0, 1, 20):
        task = make_task(TASKS["classification"].Options(max_length=200), kind, few(choose="random", k=k))
        tokenizer = task.prepare(load_tokenizer(source), source)
        task.learn(rows[:11])
        [note] = task.encode(rows[11:], tokenizer).notes
        text = tokenizer.decode(note.prompt.tolist(), clean_up_tokenization_spaces=False)
        counts[k] = text.count("Text: ")
        assert task.ask(rows[11]) in text
        assert text.index(task.ask(rows[11])) == max(text.index(task.ask(rows[11])), text.rindex("Which label"))
        sizes[k] = len(note.prompt)
    assert (counts[0], counts[1]) == (1, 2)
    assert 2 < counts[20] < 12
    assert sizes[0] < sizes[1] < sizes[20] <= source.max_length


def recipe(llama: Path, place: Path, **settings: Any) -> dict[str, Any]:
    files = {}
    for name, seed in (("train", 0), ("test", 5)):
        rows = tiny.rows_for("classification", 34, seed)
        files[name] = place / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps({"id": row.id, **row.fields}) + "\n" for row in rows))
    return {
        "model": str(llama),
        "task": {"name": "classification", "max_length": 300},
        "data": {
            "train": str(files["train"]),
            "test": str(files["test"]),
            "validation": 0.2,
            "leakage": "drop",
        },
        "method": {"name": "few-shot", **settings},
        "train": {"dtype": "float32"},
    }


NEW_PROCESS = """
import json, sys
from pathlib import Path
from luthier.serve import Tuned
print(json.dumps(Tuned.load(Path(sys.argv[1]), "float32").predict(json.load(sys.stdin))))
"""


@pytest.mark.parametrize("settings", [{"k": 1, "choose": "nearest"}, {"k": 0}, {"k": 1, "prompt": "own.txt"}])
def test_a_run_trains_nothing_and_a_new_process_answers_the_same(
    llama: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
    (tmp_path / "own.txt").write_text("Say negative or positive of {text}")
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe(llama, tmp_path, **settings)))
    run = luthier.train(tmp_path / "recipe.yaml", out=tmp_path / "run")
    model = run.folder.model
    assert run.status()["trained_parameters"] == 0
    assert not list(model.glob("*.safetensors"))
    told = json.loads((model / FILE).read_text())
    splits = {}
    for line in (run.folder.path / "splits.jsonl").read_text().splitlines():
        splits[json.loads(line)["id"]] = json.loads(line)["split"]
    texts = {row["text"]: row.id for row in tiny.rows_for("classification", 34)}
    shown = [next(i for text, i in texts.items() if text in one["request"]) for one in told["examples"]]
    assert all(splits.get(i, splits.get(f"train-{i}")) == "train" for i in shown)
    assert len(shown) == {"nearest": sum(v == "train" for v in splits.values())}.get(
        settings.get("choose", ""), settings["k"]
    )
    assert run.verdict is not None
    found = {finding["id"] for finding in run.findings}
    assert not found & {"too-few-points", "no-validation-split"}  # of curves and checkpoints that are not there
    evaluation = run.evaluation
    assert evaluation is not None
    if settings["k"] == 0:
        assert evaluation["scores"] == evaluation["baselines"]["untuned"]
        assert run.status()["verdict"] != "use it"
    (tmp_path / "own.txt").unlink()
    rows = [{"text": row["text"]} for row in tiny.rows_for("classification", 12, seed=9)]
    said = Tuned.load(model, "float32").predict(rows)
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NEW_PROCESS, str(model)],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == said
    assert by_card(model, rows) == [one["prediction"] for one in said]
    assert METHODS["few-shot"].trains is False
