"""Generation: what is learned of a row, what is refused before training, and a run from end to end."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luthier
import tiny
from luthier.cli.app import main
from luthier.cli.talk import talk
from luthier.errors import DataError, RecipeError, RunError
from luthier.files import read_json, read_jsonl
from luthier.records import Row
from luthier.run import check
from luthier.tasks.generation import Generation


def task(**options: Any) -> Generation:
    return Generation(Generation.Options(**options))


def row(number: int, *turns: str, **more: Any) -> Row:
    """A row of turns by user and assistant in turn, the last of them the answer."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": said} for i, said in enumerate(turns[:-1])]
    return Row(str(number), {"messages": messages, "answer": turns[-1], **more}, "chats.jsonl", number)


def said(tokenizer: Any, labels: Any) -> str:
    return str(tokenizer.decode(np.asarray(labels)[np.asarray(labels) != -100]))


def test_rows_become_prompts_and_labels() -> None:
    own = task(chat_template="chatml")
    tokenizer = own.prepare(tiny.chat_bpe(), None)  # type: ignore[arg-type]
    rows = [
        row(1, "where does anna live ?", "in berlin ."),
        row(2, "hello", "the end .", "and ben ?", "in oslo ."),
        Row("3", {"messages": [], "answer": "plot and story ."}),
        row(4, "call it", '{"name": "find", "arguments": {}}', answer_turn={"tool_calls": [call()]}),
    ]
    examples = own.encode(rows, tokenizer)
    assert examples.rows.tolist() == [0, 1, 2, 3]
    assert [said(tokenizer, labels) for labels in examples.columns["labels"]] == [
        "in berlin .<|im_end|>",
        "the end .<|im_end|>in oslo .<|im_end|>",
        "plot and story .<|im_end|>",
        '<tool_call>\n{"name": "find", "arguments": {}}\n</tool_call><|im_end|>',
    ]
    assert "loss_weight" not in examples.columns
    asked = own.encode([Row("1", {"messages": rows[0]["messages"]})], tokenizer)
    assert list(asked.notes[0]) == list(examples.notes[0]) == list(asked.columns["input_ids"][0])
    assert (asked.columns["labels"][0] == -100).all()
    assert own.weights(examples).tolist() == [
        int((np.asarray(x)[1:] != -100).sum()) for x in examples.columns["labels"]
    ]


def call() -> dict[str, Any]:
    return {"type": "function", "function": {"name": "find", "arguments": {}}}


def test_a_column_of_the_name_that_luthier_uses_inside_is_passed_over() -> None:
    tokenizer, subject = tiny.chat_bpe(), task()
    row = tiny.chats(1)[0]
    named = Row(row.id, {**row.fields, "answer_turn": "third"})
    one, other = (subject.encode([each], tokenizer).columns["input_ids"][0].tolist() for each in (row, named))
    assert one == other


def test_a_weight_of_its_own_reaches_the_loss() -> None:
    own = task()
    tokenizer = own.prepare(tiny.chat_bpe(), None)  # type: ignore[arg-type]
    heavy = own.encode([row(1, "hello", "the end ."), row(2, "a", "b", answer_turn={"weight": 3})], tokenizer)
    counts = [int((np.asarray(labels) != -100).sum()) for labels in heavy.columns["labels"]]
    assert own.weights(heavy).tolist() == [counts[0], 3 * counts[1]]


def test_what_is_checked_is_encoded_once() -> None:
    own = task()
    tokenizer = own.prepare(tiny.chat_bpe(), None)  # type: ignore[arg-type]
    rows = tiny.chats(6)
    assert own.faults(rows, tokenizer) == []
    lengths = own.lengths(rows, tokenizer)
    assert len(own._made) == 6
    kept = [own._made[id(one)][1][0].ids for one in rows]  # type: ignore[index]
    examples = own.encode(rows, tokenizer)
    assert all(a is b for a, b in zip(kept, examples.columns["input_ids"]))
    assert lengths == [len(ids) for ids in kept] == examples.lengths.tolist()
    assert not own._made


def test_rows_that_teach_nothing_are_listed() -> None:
    own = task(max_length=40)
    tokenizer = own.prepare(tiny.chat_bpe(), None)  # type: ignore[arg-type]
    tools = [{"type": "function", "function": {"name": "find", "description": "the cat " * 60}}]
    rows = [
        row(1, "where does anna live ?", "in berlin ."),
        row(2, "a", "b", answer_turn={"weight": 0}),
        row(3, "a " * 200, "b"),
        Row("4", {**row(4, "a", "b").fields, "tools": tools}, "chats.jsonl", 4),
    ]
    tokenizer.chat_template = tokenizer.chat_template.replace("{%", "{{ tools | tojson if tools else '' }}{%", 1)
    found = {fault.line: fault for fault in own.faults(rows, tokenizer)}
    assert sorted(found) == [2, 4]
    assert all(fault.severity == "error" for fault in found.values())
    assert "weight 0" in found[2].message
    assert "fit" in found[4].message
    assert "cut" not in own.cuts(rows[:1], tokenizer)[0]
    assert "longest text" in own.cuts(rows[2:3], tokenizer)[0]
    with pytest.raises(DataError, match="fit"):
        own.encode(rows, tokenizer)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("generation") / "llama", "llama")


def write(folder: Path, rows: list[Row], name: str = "chats.jsonl") -> Path:
    lines = []
    for one in rows:
        last = {"role": "assistant", "content": one["answer"], **(one.get("answer_turn") or {})}
        lines.append(json.dumps({"id": one.id, "messages": [*one["messages"], last]}))
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def recipe(model: Path, rows: Path, **changes: Any) -> dict[str, Any]:
    base = {
        "model": str(model),
        "task": {"name": "generation", "max_length": 128, "max_new_tokens": 24},
        "data": {"train": str(rows), "validation": 0.0, "test": 0.0},
        "train": {"epochs": 60, "batch_size": 8, "learning_rate": 0.01, "dtype": "float32"},
    }
    return {**base, **changes}


def test_a_run_that_would_learn_nothing_is_refused(llama: Path, tmp_path: Path) -> None:
    """One row in ten has nothing to learn: every one of them is named, before any weight is loaded."""
    rows = tiny.chats(20)
    for place in (3, 13):
        rows[place] = Row(rows[place].id, {**rows[place].fields, "answer_turn": {"weight": 0}})
    given = recipe(llama, write(tmp_path, rows))
    with pytest.raises(DataError) as refused:
        luthier.train(given, out=tmp_path / "run")
    assert "chats.jsonl:4" in str(refused.value)
    assert "chats.jsonl:14" in str(refused.value)
    assert "2 errors" in str(refused.value)
    assert not (tmp_path / "run" / "checkpoints").exists() or not any((tmp_path / "run" / "checkpoints").iterdir())
    yaml = tmp_path / "recipe.yaml"
    from luthier import config
    from luthier.run import Recipe

    yaml.write_text(config.dump(config.check(given, Recipe)))
    assert [fault["code"] for fault in check(str(yaml))["faults"] if fault["severity"] == "error"] == [
        "nothing-to-learn"
    ] * 2


def test_rows_are_not_packed_where_something_has_their_size(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.engine.language import packing

    packed: list[int] = []
    pack = packing.pack

    def watched(examples: Any, room: int) -> Any:
        packed.append(len(examples))
        return pack(examples, room)

    monkeypatch.setattr(packing, "pays", lambda *_: True)
    monkeypatch.setattr(packing, "pack", watched)
    made = recipe(llama, write(tmp_path, tiny.chats(20)))
    quick = {**made["train"], "epochs": 0.5}
    luthier.train({**made, "train": quick}, out=tmp_path / "plain")
    assert packed == [20]
    for name, value in {"neftune_noise_alpha": 5.0, "adversarial": "fgm"}.items():
        asked = {**made, "train": {**quick, name: value}}
        luthier.train(asked, out=tmp_path / name)
        with pytest.raises(RecipeError, match=r"packing is on.*single rows"):
            luthier.train({**asked, "task": {**made["task"], "packing": "on"}}, out=tmp_path / "refused")
    assert packed == [20]


def test_a_language_model_s_outputs_are_not_distilled(llama: Path, tmp_path: Path) -> None:
    """It is said before weights are loaded, with what works; that works."""
    made = recipe(llama, write(tmp_path, tiny.chats(20)))
    made["train"] |= {"epochs": 0.5}
    first = luthier.train(made, out=tmp_path / "first")
    newer = write(tmp_path, tiny.chats(20, seed=3), "newer.jsonl")
    heard: list[str] = []
    for forgetting in ("distill", "ewc"):
        asked = recipe(first.path, newer, train={**made["train"], "forgetting": forgetting})
        if forgetting == "ewc":
            luthier.train(asked, out=tmp_path / "ewc")
            continue
        with pytest.raises(RunError, match="too many to keep"):
            luthier.train(asked, out=tmp_path / "distilled", listen=lambda event: heard.append(str(event)))
        assert heard and not any("loading the model" in event for event in heard)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_learns_its_rows_by_heart_and_ends(method: str, llama: Path, tmp_path: Path) -> None:
    """Padding is the token that ends a turn, and answers end all the same; the card answers with transformers alone."""
    rows = tiny.chats(8)
    data = write(tmp_path, rows)
    splits = {"train": str(data), "validation": 0.0, "test": str(data), "leakage": "report"}
    run = luthier.train({**recipe(llama, data, data=splits), "method": method}, out=tmp_path / "run")
    lines = read_jsonl(run.path / "predictions" / "test.jsonl")
    found = [line["prediction"] for line in lines]
    if method == "full":  # a random model has nothing that a few updates beside it could turn into speech
        assert found == [one["answer"] for one in rows]
        assert all(line["ended"] for line in lines)
        scores = read_json(run.path / "scores.json")["test"]["scores"]
        assert scores["exact_match"] == scores["ended"] == 1.0
    model = run.path / "model"
    settings = read_json(model / "generation_config.json")
    assert settings["eos_token_id"] == [2] == [tiny.chat_bpe().convert_tokens_to_ids("<|im_end|>")]
    assert settings["do_sample"] is False
    assert (model / "chat_template.jinja").is_file()

    card = (model / "README.md").read_text().split("```python\n")[1].split("```")[0]
    (model / "card.py").write_text(card.replace('FOLDER = "."', f"FOLDER = {str(model)!r}"))
    answer = runpy.run_path(str(model / "card.py"))["answer"]
    assert [answer(one["messages"]) for one in rows] == found
    again = luthier.load(str(run.path))
    asked = [{"messages": rows[0]["messages"]}, rows[1]["messages"], rows[0]["messages"][0]["content"]]
    assert [line["prediction"] for line in again.tuned("float32").predict(asked)] == [found[i] for i in (0, 1, 0)]
    with pytest.raises(DataError, match='the role "boss" is unknown'):
        again.predict([[{"role": "boss", "content": "x"}]])
    if method == "full":
        alone = [i for i, one in enumerate(rows) if len(one["messages"]) == 1]
        lines = [{"instruction": rows[i]["messages"][0]["content"], "output": "not read"} for i in alone]
        file = tmp_path / "alpaca.jsonl"
        file.write_text("\n".join(map(json.dumps, lines)) + "\n")
        assert main(["predict", str(run.path), "--input", str(file), "--output", str(tmp_path / "out.jsonl")]) == 0
        assert [line["prediction"] for line in read_jsonl(tmp_path / "out.jsonl")] == [found[i] for i in alone]


def test_plain_texts_are_learned_whole(llama: Path, tmp_path: Path) -> None:
    texts = [" ".join(words) for _, _, words, _ in tiny.facts(12)]
    data = tmp_path / "texts.jsonl"
    data.write_text("\n".join(json.dumps({"text": text}) for text in texts) + "\n")
    given = recipe(llama, data, data={"train": str(data), "validation": 0.0, "test": str(data), "leakage": "report"})
    given["train"] = {**given["train"], "epochs": 2}
    run = luthier.train(given, out=tmp_path / "run")
    scores = read_json(run.path / "scores.json")["test"]
    assert set(scores["scores"]) == {"loss", "perplexity"}
    assert scores["scores"]["loss"] < scores["baselines"]["untuned"]["loss"]


def test_a_file_beside_the_recipe_is_the_template(llama: Path, tmp_path: Path, monkeypatch: Any) -> None:
    own = tmp_path / "here"
    own.mkdir()
    (own / "mine.jinja").write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content }}{{ eos_token if m.role == 'assistant' else ' ' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    write(own, tiny.chats(4))
    (own / "recipe.yaml").write_text(
        f"model: {llama}\ntask:\n  name: generation\n  chat_template: mine.jinja\n  max_length: 512\n"
        "data:\n  train: chats.jsonl\n  validation: 0.0\n  test: 0.0\n"
    )
    monkeypatch.chdir(tmp_path)
    from luthier.run import preview

    shown = preview(own / "recipe.yaml", rows=1)["examples"][0]
    text = "".join(piece["text"] for piece in shown["inputs"][0]["pieces"])
    assert text.startswith("user: where does")
    assert "<|im_start|>" not in text


def test_a_chat_at_a_terminal_remembers_its_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Echo:
        task = task()

        def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            said = [turn["content"] for turn in rows[0]["messages"]]
            if "bad" in said:
                raise DataError("no")
            return [{"prediction": f"{len(said)}: {said[-1]}", "ended": said[-1] != "long"}]

    typed = iter(["one", "bad", "two", "/new", "long", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    assert talk(Echo()) == 0  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["1: one", "3: two", "1: long"]
    assert shown.err.splitlines()[1:] == ["no", "(cut off: task.max_new_tokens)"]


def test_asking_in_words() -> None:
    own = task()
    assert own.ask(row(1, "where ?", "in berlin .")) == "where ?"
    assert own.ask(row(2, "hello", "hi", "where ?", "in rome .")) == "user: hello\nassistant: hi\nuser: where ?"
    assert own.tell(row(1, "where ?", "in berlin .")) == "in berlin ."
    assert own.hear(row(1, "where ?", "in berlin ."), "in rome .").prediction == "in rome ."
