"""`preview`: what it shows of every task is what is encoded, on paper and on a terminal of 80 columns."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import tiny
from luthier.cli.app import main
from luthier.errors import RecipeError
from luthier.run import preview
from luthier.terminal import previews, streams


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("preview")
    for name in ("bert", "llama", "t5"):
        tiny.save_model(place / name, name)
    return place


def recipe(place: Path, model: str, task: str, lines: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    file = place / f"{task}.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    data = {"train": str(file), "validation": 0.0, "test": 0.0}
    return {"model": str(place / model), "task": {"name": task, "max_length": 256, **options}, "data": data}


def text(example: dict[str, Any], mark: str | None = None) -> str:
    pieces = [piece for part in example["inputs"] for piece in part["pieces"]]
    return "".join(piece["text"] for piece in pieces if mark is None or piece["mark"] == mark)


def test_a_dialog_shows_what_is_learned_of_it(made: Path) -> None:
    lines = [
        {"messages": [*row["messages"], {"role": "assistant", "content": row["answer"]}]} for row in tiny.chats(12)
    ]
    found = preview(recipe(made, "llama", "generation", lines), rows=3)
    assert (found["rows"], found["split"], found["errors"], len(found["examples"])) == (12, "train", 0, 3)
    for line, example in zip(lines, found["examples"]):
        said = [turn["content"] + "<|im_end|>" for turn in line["messages"] if turn["role"] == "assistant"]
        assert [p["text"] for p in example["inputs"][0]["pieces"] if p["mark"] == "learned"] == said
        assert text(example).startswith("<|im_start|>user\n")
        tokens = tiny.chat_bpe()(text(example))["input_ids"]
        assert example["tokens"] == len(tokens)
        assert 0 < example["learned"] < example["tokens"]
        assert not example["cut"]
    short = preview(recipe(made, "llama", "generation", lines, max_length=60), rows=3)["examples"]
    assert any("earlier turns" in example["cut"] for example in short)
    assert all(example["tokens"] <= 60 for example in short)


def test_a_span_is_shown_in_the_window_that_holds_it(made: Path) -> None:
    lines = [
        {
            **dict(row.fields),
            "answers": {
                "text": [a["text"] for a in row["answers"]],
                "answer_start": [a["start"] for a in row["answers"]],
            },
        }
        for row in tiny.questions(4)
    ]
    found = preview(recipe(made, "bert", "question-answering", lines, max_length=24, stride=6), rows=12)["examples"]
    assert len(found) > 12  # several windows a row
    for row, line in zip(range(12), lines):
        own = [example for example in found if example["line"] == row + 1]
        assert [example["parts"] for example in own] == [len(own)] * len(own)
        marked = {text(example, "answer").strip() for example in own} - {""}
        assert marked <= set(line["answers"]["text"])
        assert bool(marked) == bool(line["answers"]["text"])


def test_tags_and_labels_are_shown(made: Path) -> None:
    rows = tiny.rows_for("token-classification", 4)
    found = preview(recipe(made, "bert", "token-classification", [dict(row.fields) for row in rows]), rows=2)
    first = found["examples"][0]
    assert text(first, "B-person").strip() == rows[0]["tokens"][0]
    assert text(first, "B-place").strip() == rows[0]["tokens"][3]
    assert first["learned"] == len(rows[0]["tokens"])
    rows = tiny.reviews(8)
    found = preview(recipe(made, "bert", "classification", [dict(row.fields) for row in rows]), rows=2)
    assert [example["target"] for example in found["examples"]] == [row["label"] for row in rows[:2]]


def printed(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    previews.print_preview(found)
    return " ".join(capsys.readouterr().out.split())


def test_nothing_is_called_learned_where_nothing_is(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = recipe(made, "llama", "classification", [dict(row.fields) for row in tiny.reviews(8)])
    found = preview({**given, "method": {"name": "few-shot", "k": 1}}, rows=1)
    said = printed(found, capsys)
    assert "is the answer that is expected; nothing is learned" in said
    assert "of them expected" in said and "of them learned" not in said and "is learned;" not in said


def test_the_legend_of_tags_says_what_other_words_are(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tiny.rows_for("token-classification", 4)
    said = printed(preview(recipe(made, "bert", "token-classification", [dict(row.fields) for row in rows])), capsys)
    assert "all other words are learned as none of these" in said and "only read" not in said


def test_a_document_that_is_cut_into_blocks_loses_nothing(made: Path) -> None:
    lines = [{"text": f"{row['text']} " * 12} for row in tiny.reviews(4)]
    found = preview(recipe(made, "bert", "pretraining", lines, max_length=16), rows=2)["examples"]
    assert max(example["parts"] for example in found) > 2
    assert [example["cut"] for example in found] == [""] * len(found)


def test_two_texts_stand_apart(made: Path) -> None:
    rows = tiny.rows_for("seq2seq", 4)
    first = preview(recipe(made, "t5", "seq2seq", [dict(row.fields) for row in rows]), rows=1)["examples"][0]
    assert [part["name"] for part in first["inputs"]] == ["", "answer"]
    assert text(first, "learned").strip() == rows[0]["target"] + "</s>"
    rows = tiny.rows_for("embedding", 4)
    first = preview(recipe(made, "bert", "embedding", [dict(row.fields) for row in rows]), rows=1)["examples"][0]
    assert [part["name"] for part in first["inputs"]] == ["anchor", "positive"]
    assert first["target"] == ""


def test_a_row_that_cannot_be_shown_says_why(made: Path) -> None:
    template = made / "no-anna.jinja"
    template.write_text(
        "{% for m in messages %}{% if 'anna' in m.content %}{{ raise_exception('no anna here') }}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    lines = [{"prompt": f"where is {who} ?", "completion": "here ."} for who in ("ben", "anna", *tiny.NAMES[2:12])]
    found = preview(recipe(made, "llama", "generation", lines, chat_template=str(template)), rows=3)
    assert [example["refused"] for example in found["examples"]] == ["", "no anna here", ""]
    assert found["errors"] == 1


def test_on_a_terminal_and_on_paper(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        {"prompt": "say it \x1b[31m in red " + "the cat " * 210, "completion": "so it is ."},
        {"prompt": "where does the very long name live ?", "completion": "in rome ."},
    ]
    found = preview(recipe(made, "llama", "generation", lines, max_length=512))

    def shown(terminal: bool) -> list[str]:
        from rich.console import Console

        out = io.StringIO()
        settings = {"force_terminal": True, "color_system": "standard"} if terminal else {}
        monkeypatch.setattr(
            previews,
            "console",
            lambda: Console(file=out, width=streams.WIDTH, markup=False, highlight=False, **settings),
        )
        previews.print_preview(found)
        return out.getvalue().splitlines()

    paper = shown(terminal=False)
    assert max(map(cell_len, paper)) <= 80
    assert "    {+so it is .<|im_end|>+}" in paper
    assert "{+such text+} is learned; all else is only read" in paper
    whole = "\n".join(paper)
    assert "\x1b" not in whole
    assert "\\x1b[31m in red" in whole
    assert "characters ...]" in whole
    assert whole.count("the cat") < 200
    colour = "\n".join(shown(terminal=True))
    assert "\x1b[1;32mso it is .<|im_end|>" in colour
    assert "{+" not in colour
    assert "\x1b[31m in red" not in colour


def test_the_verb(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = recipe(made, "bert", "classification", [dict(row.fields) for row in tiny.reviews(20)])
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(given))
    assert main(["preview", str(file), "--rows", "2", "--json", "--set", "task.max_length=8"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert len(out["examples"]) == 2
    assert all(example["tokens"] <= 8 for example in out["examples"])
    assert any("of which one example holds 8" in example["cut"] for example in out["examples"])
    assert main(["preview", str(file), "--rows", "1"]) == 0
    assert "learned: " in capsys.readouterr().out
    assert main(["preview", str(file), "--split", "exam"]) == 2
    assert "one of train, validation, test" in capsys.readouterr().err
    assert main(["preview", str(file), "--split", "test"]) == 2
    assert "holds no row" in capsys.readouterr().err
    with pytest.raises(RecipeError):
        preview(given, split="exam")
