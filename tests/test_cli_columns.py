"""Columns whose names tell nothing, or are misspelt: said once, with the command that names them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import luthier.run as luthier_run
import tiny
from luthier.cli import main
from luthier.cli.rows import opened_rows
from luthier.models import models_home
from luthier.tasks import TASKS

TEXTS = [row["text"] for row in tiny.reviews(40)]
LABELS = [row["label"] for row in tiny.reviews(40)]


def table(name: str, header: str, *columns: list) -> str:
    rows = zip(*columns)
    Path(name).write_text("\n".join([header, *(",".join(f'"{cell}"' for cell in row) for row in rows)]) + "\n")
    return name


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table("slip.csv", "text,lable,score", TEXTS, LABELS, list(range(40)))
    table("odd.csv", "what_they_wrote,how_it_was,points", TEXTS, LABELS, list(range(40)))
    table("number.csv", "text,score", TEXTS, [n / 4 for n in range(40)])


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[str]]:
    """(exit code, what was said, the commands it advises)."""
    code = main(arguments)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return code, said, [line[line.index("luthier ") :] for line in said.splitlines() if "--column" in line]


def test_a_misspelt_label_is_no_regression(capsys) -> None:
    code, said, advice = told(capsys, "new", "classification", "--data", "slip.csv")
    assert code == 2 and not Path("classification.yaml").exists()
    assert "the columns are: text, lable, score" in said
    assert advice == [
        "luthier new classification --data slip.csv --column label=lable",
        "luthier new classification --data slip.csv --column score=score",
    ]
    assert main(shlex.split(advice[0])[1:]) == 0
    recipe = Path("classification.yaml").read_text()
    assert "label: lable" in recipe and "single_label" in recipe
    assert main([*shlex.split(advice[1])[1:], "--out", "number.yaml"]) == 0
    assert "problem_type: regression" in Path("number.yaml").read_text()


def test_a_slip_in_a_name_of_other_tools_is_one_too(capsys) -> None:
    table("slip.csv", "text,sentimnt,score", TEXTS, LABELS, list(range(40)))
    assert told(capsys, "new", "classification", "--data", "slip.csv")[2][0].endswith("--column label=sentimnt")


def test_a_number_without_any_label_is_one(capsys) -> None:
    assert told(capsys, "new", "classification", "--data", "number.csv")[0] == 0
    assert "problem_type: regression" in Path("classification.yaml").read_text()


@pytest.mark.parametrize(
    "command",
    [
        "new classification --data odd.csv",
        "check odd.csv --task classification",
        "models suggest --task classification --data odd.csv",
    ],
)
def test_the_advice_leads_somewhere(command: str, capsys) -> None:
    if "suggest" in command:
        tiny.save_model(models_home() / "small", "bert")
    code, said, advice = told(capsys, *command.split())
    assert code == 2 and "the columns are: what_they_wrote, how_it_was, points" in said
    assert "recipe" not in said, "there is none yet"
    assert advice == [f"luthier {command} --column text=NAME --column label=NAME"]
    mended = advice[0].replace("text=NAME", "text=what_they_wrote").replace("label=NAME", "label=how_it_was")
    assert main(shlex.split(mended)[1:]) == 0
    Path("classification.yaml").unlink(missing_ok=True)
    assert main([*command.split(), "--column", "text=what_they_wrote", "--column", "label=how_it_wass"]) == 2
    assert 'Did you mean "how_it_was"?' in capsys.readouterr().err


def test_suggest_knows_a_misspelt_label_from_a_number(capsys) -> None:
    code, _, advice = told(capsys, "models", "suggest", "--task", "classification", "--data", "slip.csv")
    assert code == 2 and advice == ["luthier models suggest --task classification --data slip.csv --column label=lable"]


def test_columns_of_dialogues_are_named_as_well(capsys) -> None:
    code, _, advice = told(capsys, "new", "generation", "--data", "odd.csv")
    assert code == 2
    assert advice == ["luthier new generation --data odd.csv --column prompt=NAME --column completion=NAME"]
    named = advice[0].replace("prompt=NAME", "prompt=what_they_wrote").replace("completion=NAME", "completion=points")
    assert main(shlex.split(named)[1:]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("new classification --data odd.csv --column label", '"label" is no FIELD=NAME'),
        ("new classification --data odd.csv --column lable=x", 'Did you mean "label"?'),
        ("new classification --column label=x", "add --data FILE"),
        ("new classification --data odd.csv --column label=a --column label=b", 'label is "a" and "b"'),
        ("check r.yaml --column label=x", "--set data.columns.label=x"),
        ("check odd.csv --task classification --column labels=points", 'there is no field "labels"'),
        ("check odd.csv --fix-tags --column label=x", "leave --column out"),
    ],
)
def test_what_is_no_column_is_refused(arguments: str, said: str, capsys) -> None:
    assert main(arguments.split()) == 2
    assert said in capsys.readouterr().err


def test_check_in_python_takes_columns_too() -> None:
    named = {"text": "what_they_wrote", "label": "how_it_was"}
    report = luthier_run.check("odd.csv", task="classification", columns=named)
    assert report["columns"] == named and report["kept"] == 40


@pytest.mark.parametrize("name", ["body", "doc.body"])
def test_a_column_inside_another_may_be_named_by_its_own_name(name: str, capsys) -> None:
    """When rows are checked, and when a run that learned from that column is asked."""
    rows = [{"doc": {"body": text}, "verdict": label} for text, label in zip(TEXTS, LABELS)]
    Path("inner.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["--column", f"text={name}", "--column", "label=verdict"]
    assert main(["check", "inner.jsonl", "--task", "classification", *columns]) == 0
    assert "40 rows" in capsys.readouterr().out
    form = TASKS["classification"].form
    asked = opened_rows("inner.jsonl", form, {"text": name, "label": "verdict"})
    assert [one.fields["text"] for one in asked if one.fields is not None] == TEXTS
