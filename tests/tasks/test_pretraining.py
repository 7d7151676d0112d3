"""Pretraining: no token of a document is lost, the loss is the stock class's, a run leaves a model to go on from."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import luthier
import tiny
from luthier.errors import Interrupted, ModelError
from luthier.files import read_json, read_jsonl, sha256_of
from luthier.models import load_tokenizer, resolve
from luthier.records import Answer, Row
from luthier.runs import RunFolder
from luthier.serve import Tuned
from luthier.tasks import Work
from luthier.tasks.pretraining import Pretraining, PretrainingOptions
from luthier.training.events import Saved

LONG = " ".join(row["text"] for row in tiny.reviews(12))


def documents(count: int, seed: int = 0) -> list[Row]:
    """Texts in which one word follows from another: who lives where, and with what."""
    homes = {name: (tiny.PLACES[i % 10], tiny.BEASTS[i % 8]) for i, name in enumerate(tiny.NAMES)}
    draw, rows = np.random.default_rng(seed), []
    for i in range(count):
        said = []
        for name in draw.choice(tiny.NAMES, draw.integers(1, 5), replace=False):
            place, beast = homes[str(name)]
            said.append(f"{name} lives in {place} . {name} keeps a {beast} .")
        rows.append(Row(str(i), {"text": " ".join(said)}))
    return rows


def task_for(folder: Path, **settings: Any) -> tuple[Pretraining, Any, Any]:
    """(task, tokenizer, source)."""
    source = resolve(str(folder))
    task = Pretraining(PretrainingOptions(**{"max_length": 32, **settings}))
    return task, task.prepare(load_tokenizer(source), source), source


# Blocks


@pytest.mark.parametrize("architecture", tiny.DECODERS)
@pytest.mark.parametrize("longest", [8, 9, 31, 256])
def test_every_token_of_a_document_is_foretold_once(tmp_path: Path, architecture: str, longest: int) -> None:
    task, tokenizer, _ = task_for(tiny.save_model(tmp_path / "m", architecture), max_length=longest)
    rows = [Row("1", {"text": "a film"}), Row("2", {"text": LONG}), *tiny.reviews(20)]
    examples = task.encode(rows, tokenizer)
    assert len(examples) > len(rows) or longest == 256
    for i, row in enumerate(rows):
        ids = [*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]
        blocks = [j for j in range(len(examples)) if examples.rows[j] == i]
        foretold = [int(t) for j in blocks for t in examples.columns["labels"][j] if t != -100]
        assert foretold == ids[1:]
        for j in blocks:
            block = examples.columns["input_ids"][j]
            assert 1 <= len(block) <= longest and examples.columns["labels"][j][0] == -100
    assert task.weights(examples).sum() == sum(len(tokenizer(r["text"])["input_ids"]) for r in rows)


@pytest.mark.parametrize("own_end", [True, False])
def test_a_document_ends_once(own_end: bool, tmp_path: Path) -> None:
    """Whether or not the tokenizer writes the end of a text itself."""
    from tokenizers import processors

    task, tokenizer, _ = task_for(tiny.save_model(tmp_path / "m", "llama"))
    end = tokenizer.eos_token
    single = f"$A {end}" if own_end else "$A"
    template = processors.TemplateProcessing(single=single, special_tokens=[(end, tokenizer.eos_token_id)])
    tokenizer.backend_tokenizer.post_processor = template
    words = tokenizer("a big film", add_special_tokens=False)["input_ids"]
    (ids,) = task.encode([Row("1", {"text": "a big film"})], tokenizer).columns["input_ids"]
    assert list(ids) == [*words, tokenizer.eos_token_id]


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
@pytest.mark.parametrize("whole_word", [True, False])
def test_every_token_of_a_document_may_be_hidden_once(tmp_path: Path, architecture: str, whole_word: bool) -> None:
    task, tokenizer, _ = task_for(tiny.save_model(tmp_path / "m", architecture), max_length=16, whole_word=whole_word)
    rows = [Row("1", {"text": "a film"}), Row("2", {"text": LONG}), Row("3", {"text": "a unknownest film"})]
    examples = task.encode(rows, tokenizer)
    unknown = tokenizer.unk_token_id
    for i, row in enumerate(rows):
        open_ = [
            int(t)
            for j in range(len(examples))
            if examples.rows[j] == i
            for t, word in zip(examples.columns["input_ids"][j], examples.columns["words"][j])
            if word >= 0
        ]
        ids = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        assert open_ == [t for t in ids if t != unknown]
    assert max(len(ids) for ids in examples.columns["input_ids"]) == 16
    numbers = [w for words in examples.columns["words"] for w in words[words >= 0]]
    if not whole_word:
        assert numbers == [n for w in examples.columns["words"] for n in range(int((w >= 0).sum()))]
    assert max(numbers) < 16


def test_copies_of_a_document_are_shown_once_and_a_new_head_is_said(models: dict[str, Path], tmp_path: Path) -> None:
    task, _, _ = task_for(models["bert"])
    rows = [*documents(4), *documents(1), *documents(1)]
    answers = [Answer("", 0.5, {"nll": 4.0 + i % 4, "tokens": 2.0}) for i in range(6)]
    for table in task.tables(rows, answers)[1:]:
        texts = [line[2] for line in table.rows]
        assert len(texts) == len(set(texts)) == 4
    assert task.rivals["untuned"] == "untuned model with a new head"
    kept, _, _ = task_for(tiny.save_model(tmp_path / "whole", "bert", language_head=True))
    assert "untuned" not in kept.rivals


# Loss


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "llama", "gpt2"])
def test_the_loss_is_the_stock_class_s_whatever_the_batches(tmp_path: Path, architecture: str) -> None:
    folder = tiny.save_model(tmp_path / "m", architecture, language_head=True)
    task, tokenizer, source = task_for(folder)
    model = task.build(source, {}).eval()
    rows = documents(7)
    examples = task.encode(rows, tokenizer)
    whole = examples.batch(range(len(examples)))
    with torch.no_grad():
        sums = task.forward(model, whole)
        alone = torch.cat([task.forward(model, examples.batch([i])) for i in range(len(examples))])
        inputs = whole if task.shifted else task._hidden(whole, fixed=True)
        stock = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs.get("attention_mask"),
            labels=inputs["labels"],
        )
    assert torch.allclose(sums, alone, atol=1e-4)
    assert sums[:, 1].tolist() == pytest.approx(task.weights(examples).tolist())
    assert float(sums[:, 0].sum() / sums[:, 1].sum()) == pytest.approx(float(stock.loss), abs=1e-5)
    model.train()
    torch.manual_seed(3)
    first = task.loss(task.forward(model, whole), whole).item()
    assert math.isfinite(first)
    if not task.shifted:
        assert first != task.loss(task.forward(model, whole), whole).item(), "hidden anew each time"


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_a_base_without_a_head_gets_one_that_is_trained_and_saved(
    models: dict[str, Path], tmp_path: Path, architecture: str, method: str
) -> None:
    from luthier.methods import METHODS, learned

    task, tokenizer, source = task_for(models[architecture])
    way = METHODS[method](METHODS[method].Options())
    torch.manual_seed(0)
    model = way.apply(task.build(source, {}), task.head())
    examples = task.encode(documents(12), tokenizer)
    batch = examples.batch(range(12))
    trained = learned(model)
    inside = [name for name in trained if any(f".{part}." in f".{name}" for part in task.state["head"])]
    assert any("weight" in name for name in inside), sorted(trained)
    if method != "full":
        assert not any("embeddings" in name or "decoder.weight" in name for name in trained)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 5e-3)
    model.train()
    before = {name: tensor.clone() for name, tensor in trained.items()}
    for _ in range(12):
        loss = task.loss(task.forward(model, batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(not torch.equal(before[name], tensor) for name, tensor in learned(model).items() if name in inside)
    (tmp_path / "out").mkdir()
    way.save(model, tmp_path / "out", str(models[architecture]))
    tokenizer.save_pretrained(tmp_path / "out")
    loaded = way.load(tmp_path / "out", source, task.head(), lambda s, fresh, **more: task.build(s, more, fresh=fresh))
    model.eval()
    with torch.no_grad():
        assert torch.allclose(task.forward(model, batch), task.forward(loaded, batch), atol=1e-5)


def test_an_objective_that_the_model_cannot_have_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="trained on masked tokens"):
        task_for(models["bert"], objective="causal")
    with pytest.raises(ModelError, match="trained on causal tokens"):
        task_for(tiny.save_model(tmp_path / "m", "gpt2"), objective="masked")


# Baselines


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_counting_answers_for_the_very_tokens_of_the_model(tmp_path: Path, architecture: str) -> None:
    task, tokenizer, _ = task_for(tiny.save_model(tmp_path / "m", architecture, language_head=True))
    train, test = documents(80), documents(20, 1)

    def nothing() -> list[Any]:
        raise AssertionError("the text itself is no answer")

    one, two = (task.rival(name, train, test, tokenizer, nothing) for name in ("trivial", "classical"))
    examples = task.encode(test, tokenizer)
    weights = np.zeros(len(test))
    np.add.at(weights, examples.rows, task.weights(examples))
    for given in (one, two):
        assert [a.detail["tokens"] for a in given] == pytest.approx(weights.tolist())
    losses = [task.score(test, given)["loss"] for given in (one, two)]
    assert losses[1] < losses[0] < math.log(len(tokenizer))
    assert losses[1] < 0.7 * losses[0], "one word follows from the one before it"
    assert set(task.rivals) == {"trivial", "classical"}


# Runs


def write(place: Path, rows: list[Row]) -> Path:
    path = place / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": r.id, "text": r["text"]}) + "\n" for r in rows))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("corpus"), documents(240))


def recipe(corpus: Path, model: str, **task: Any) -> dict[str, Any]:
    return {
        "model": model,
        "task": {"name": "pretraining", "max_length": 32, **task},
        "data": {"train": str(corpus), "validation": 0.15, "test": 0.2},
        "train": {
            "epochs": 12,
            "learning_rate": 5e-3,
            "batch_size": 32,
            "dtype": "float32",
            "save_steps": 10,
        },
    }


NEW = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 400}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.engine.device._faster_dtype", lambda name, memory: "float32")
    monkeypatch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_from_nothing_it_learns_saves_and_can_be_gone_on_from(corpus: Path, tmp_path: Path, objective: str) -> None:
    run = luthier.train(recipe(corpus, "new", objective=objective, new=NEW), out=tmp_path / "run")
    scores = read_json(run.folder.scores)["test"]
    loss = scores["scores"]["loss"]
    assert scores["scores"]["perplexity"] == pytest.approx(math.exp(loss))
    assert loss < 0.6 * scores["baselines"]["untuned"]["loss"], "before and after, on documents held out"
    assert loss < scores["baselines"]["trivial"]["loss"]
    assert set(scores["scores"]) == {"loss", "perplexity"}
    written = read_json(run.folder.model / "luthier.json")
    assert written["base"]["folder"] == str(run.folder.start.resolve())
    # The same figures from the folder alone.
    rows = {row.id: row for row in documents(240)}
    lines = read_jsonl(run.folder.predictions / "test.jsonl")
    tuned = Tuned.load(run.folder.model, "float32")
    given = tuned.answers([rows[line["id"]] for line in lines])
    assert [a.detail["nll"] for a in given] == pytest.approx([line["nll"] for line in lines], abs=1e-3)
    # What it says to someone who asks.
    name = next(word for word in tiny.NAMES if rows[lines[0]["id"]]["text"].startswith(word))
    hidden = "[MASK]" if objective == "masked" else ""
    said = tuned.predict([f"{name} lives in {hidden}".strip()])[0]["prediction"]
    assert any(place in said for place in tiny.PLACES), said
    code = re.search(r"```python\n(.*?)```", (run.folder.model / "README.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1].replace('FOLDER = "."', f"FOLDER = {str(run.folder.model)!r}"), names)  # noqa: S102
    assert names["answer"](f"{name} lives in {hidden}".strip()) == said
    # And as the base of another task.
    reviews = tmp_path / "reviews.jsonl"
    reviews.write_text("".join(json.dumps({"id": r.id, **r.fields}) + "\n" for r in tiny.reviews(60)))
    if objective == "masked":
        after = luthier.train(
            {
                "model": str(run.path),
                "task": {"name": "classification", "max_length": 32},
                "data": {"train": str(reviews), "validation": 0.2, "test": 0.2},
                "train": {"epochs": 1, "dtype": "float32"},
            },
            out=tmp_path / "after",
        )
        assert after.status()["state"] == "finished"


@pytest.mark.parametrize("model", ["new", "bert", "gpt2"])
def test_a_run_that_was_cut_goes_on_to_the_same_weights(corpus: Path, tmp_path: Path, model: str) -> None:
    name = "new" if model == "new" else str(tiny.save_model(tmp_path / "m", model))
    given = recipe(corpus, name, **({"new": NEW} if model == "new" else {}))
    given["train"] |= {"epochs": 3, "save_steps": 4}
    whole = luthier.train(given, out=tmp_path / "whole")

    def cut(event: Any) -> None:
        if isinstance(event, Saved) and event.step >= 8:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        luthier.train(given, out=tmp_path / "cut", listen=cut)
    again = luthier.resume(str(tmp_path / "cut"))
    sums = [sha256_of(run.folder.model / "model.safetensors") for run in (whole, again)]
    assert sums[0] == sums[1]
    losses = [
        [line["loss"] for line in read_jsonl(RunFolder(run.path).events) if line["event"] == "step"]
        for run in (whole, again)
    ]
    assert losses[0][-1] == losses[1][-1]


def test_a_run_of_lora_is_merged_for_the_task_that_goes_on_from_it(
    corpus: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    given = recipe(corpus, str(models["bert"])) | {"method": "lora"}
    given["train"] |= {"epochs": 2}
    before = luthier.train(given, out=tmp_path / "before")
    reviews = tmp_path / "reviews.jsonl"
    reviews.write_text("".join(json.dumps({"id": r.id, **r.fields}) + "\n" for r in tiny.reviews(60)))
    after = luthier.train(
        {
            "model": str(before.path),
            "task": {"name": "classification", "max_length": 32},
            "data": {"train": str(reviews), "validation": 0.2, "test": 0.2},
            "train": {"epochs": 1, "dtype": "float32"},
        },
        out=tmp_path / "after",
    )
    assert after.status()["state"] == "finished"
    merged = Path(read_json(after.folder.model / "luthier.json")["base"]["folder"])
    from safetensors.torch import load_file

    base, begun = (load_file(folder / "model.safetensors") for folder in (models["bert"], merged))
    name = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(base[name], begun[f"bert.{name}"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "new", "task": "classification"}, "knows no language"),
        ({"model": "minilm", "task": {"name": "pretraining", "new": {}}}, "write model: new"),
        ({"task": {"name": "pretraining", "new": {"hidden_size": 100}}}, "does not divide into 4"),
        ({"task": {"name": "pretraining", "new": {"hiden_size": 64}}}, "task.new.hidden_size"),
        ({"task": {"name": "pretraining", "objective": "causal", "new": {"architecture": "bert"}}}, "masked"),
        ({"task": "pretraining", "method": "frozen"}, "the model itself would learn nothing"),
        ({"task": "pretraining", "method": "soft-prompt"}, "the model itself would learn nothing"),
        ({"task": "pretraining", "method": "few-shot"}, "the model itself would learn nothing"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_by_its_words(change: dict[str, Any], said: str) -> None:
    from luthier.errors import RecipeError
    from luthier.run.recipe import read

    with pytest.raises(RecipeError, match=said):
        read({"model": "new", "data": {"train": "corpus.txt"}, **change})
    shape = read({"model": "new", "task": "pretraining", "data": {"train": "corpus.txt"}})[0].task.new
    assert shape.hidden_size == 256 and shape.vocab_size == 8000


def test_a_text_without_a_mask_is_not_filled(tmp_path: Path) -> None:
    task, tokenizer, source = task_for(tiny.save_model(tmp_path / "m", "bert", language_head=True))
    from luthier.engine.device import Machine

    rows = [Row("1", {"text": "the film"}), Row("2", {"text": "the [MASK] was lovely"})]
    machine = Machine("cpu", "float32", "cpu", 1)
    model = task.build(source, {}).eval()
    work = Work(rows, task.encode(rows, tokenizer), model, tokenizer, machine, 4096, asked=True)
    from luthier.serve import answer_examples

    first, second = answer_examples(task, work)[0]
    assert first.prediction == "" and len(second.prediction.split()) == 4
    assert "[MASK]" not in second.prediction
