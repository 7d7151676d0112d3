"""What people get wrong at the command line: each mistake with its files, its arguments and words of the message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
from luthier.files import read_json, write_json, write_jsonl

Recipe = dict[str, Any]


@dataclass(frozen=True)
class Mistake:
    """`arguments` are given in a folder that `prepare` has made the mistake in; the message must hold all `says`."""

    name: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    prepare: Callable[[Path], None] = lambda folder: None
    code: int = 2


def stage(folder: Path) -> None:
    """The files of a person who makes no mistake: rows of four tasks, two models, recipes."""
    tiny.save_model(folder / "bert", "bert")
    tiny.save_model(folder / "llama", "llama")
    for name, task in FILES.items():
        write_jsonl(folder / name, ({"id": row.id, **_whole(row.fields)} for row in tiny.rows_for(task, 60)))
    lines = [f"{row['text']},{row['label']}" for row in tiny.reviews(60)]
    (folder / "reviews.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    for name in RECIPES:
        _write(folder, name, recipe(name))


FILES = {
    "reviews.jsonl": "classification",
    "questions.jsonl": "question-answering",
    "chats.jsonl": "generation",
    "tagged.jsonl": "token-classification",
}
RECIPES = {
    "classify": ("classification", "reviews.jsonl", "bert"),
    "answer": ("question-answering", "questions.jsonl", "bert"),
    "chat": ("generation", "chats.jsonl", "llama"),
    "tag": ("token-classification", "tagged.jsonl", "bert"),
}


def recipe(name: str) -> Recipe:
    task, rows, model = RECIPES[name]
    return {
        "model": model,
        "task": {"name": task, "max_length": 64, **({"stride": 16} if name in ("answer", "tag") else {})},
        "data": {"train": rows, "validation": 0.2, "test": 0.2},
        "method": {"name": "full"},
        "train": {"epochs": 1, "dtype": "float32", "batch_size": 8},
    }


def _whole(fields: Mapping[str, Any]) -> Recipe:
    own = dict(fields)
    if "messages" in own:
        own["messages"] = [*own["messages"], {"role": "assistant", "content": own.pop("answer")}]
    return own


def _write(folder: Path, name: str, value: Recipe) -> None:
    (folder / f"{name}.yaml").write_text(json.dumps(value, indent=1))


def _recipe(name: str = "classify", **changes: Any) -> Callable[[Path], None]:
    """The recipe with some keys changed, as `task__name="..."`."""

    def prepare(folder: Path) -> None:
        made = recipe(name)
        for path, value in changes.items():
            *above, last = path.split("__")
            place = made
            for key in above:
                place = place.setdefault(key, {})
            place[last] = value
        _write(folder, name, made)

    return prepare


def _text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def _csv(text: str, **changes: Any) -> Callable[[Path], None]:
    """Other rows for the classifier, as mine.csv."""

    def prepare(folder: Path) -> None:
        (folder / "mine.csv").write_text(text)
        _recipe(data__train="mine.csv", **changes)(folder)

    return prepare


def _both(*parts: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for part in parts:
            part(folder)

    return prepare


def _rows(change: Callable[[int, Recipe], Recipe], source: str, name: str) -> Callable[[Path], None]:
    """A file of the stage with every row changed."""

    def prepare(folder: Path) -> None:
        lines = [json.loads(line) for line in (folder / source).read_text().splitlines()]
        write_jsonl(folder / name, [change(i, row) for i, row in enumerate(lines)])

    return prepare


def _unfinished(folder: Path) -> None:
    shutil.copytree(folder / "runs/0001-classification-full", folder / "runs/0003-classification-full")
    run = folder / "runs/0003-classification-full"
    for name in ("model", "predictions"):
        shutil.rmtree(run / name)
    for name in ("scores.json", "findings.json", "report.html"):
        (run / name).unlink(missing_ok=True)
    write_json(run / "status.json", {**read_json(run / "status.json"), "state": "stopped", "verdict": None})


def _pickled(folder: Path) -> None:
    shutil.copytree(folder / "bert", folder / "pickled")
    (folder / "pickled/model.safetensors").unlink()
    (folder / "pickled/pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    _recipe(model="pickled")(folder)


def _no_config(folder: Path) -> None:
    (folder / "weights").mkdir()
    shutil.copy(folder / "bert/model.safetensors", folder / "weights")
    _recipe(model="weights")(folder)


def _typed_labels(number: int, row: Recipe) -> Recipe:
    return {**row, "id": f"t{number}", "label": {"positive": "postive", "negative": "negativ"}[row["label"]]}


ROWS = "\n".join(f"{row['text']},{row['label']}" for row in tiny.reviews(60))
SWAPPED = "label,text\n" + "\n".join(f"{row['text']},{row['label']}" for row in tiny.reviews(60, 3))
RUN, QA = "runs/0001-classification-full", "runs/0002-question-answering-full"
C, NO = "classify.yaml", ("Fix: ",)

MISTAKES = (
    # The recipe's file
    Mistake("recipe mistyped", ("train", "clasify.yaml"), ("clasify.yaml", "classify.yaml")),
    Mistake("data for a recipe", ("train", "reviews.csv"), ("reviews.csv", "luthier new", "--data reviews.csv")),
    Mistake("a run for a recipe", ("train", RUN), ("recipe.yaml",)),
    Mistake("not YAML", ("train", C), ("classify.yaml:2",), _text(C, "model: bert\n\ttask: classification\n")),
    Mistake("empty recipe", ("train", C), ("classify.yaml",), _text(C, "")),
    Mistake("a list for a recipe", ("check", C), ("classify.yaml",), _text(C, "- model: bert\n- task: x\n")),
    Mistake("key twice", ("train", C), ("model", "classify.yaml:2"), _text(C, "model: bert\nmodel: minilm\n")),
    Mistake("unknown key", ("train", C), ("epoch", "epochs"), _recipe(train__epoch=3)),
    Mistake("another tool's key", ("train", C), ("num_train_epochs", "epochs"), _recipe(train__num_train_epochs=3)),
    Mistake("key in the wrong block", ("train", C), ("learning_rate", "train"), _recipe(learning_rate=1e-4)),
    Mistake("a word for a number", ("train", C), ("train.epochs", "three"), _recipe(train__epochs="three")),
    Mistake("rate above 1", ("train", C), ("train.learning_rate", "5"), _recipe(train__learning_rate=5)),
    Mistake("no task", ("train", C), ("task",), _recipe(task={})),
    Mistake("task mistyped", ("train", C), ("clasification", "classification"), _recipe(task__name="clasification")),
    Mistake("method mistyped", ("train", C), ("lorra", "lora"), _recipe(method__name="lorra")),
    Mistake("fractions above 1", ("train", C), ("below 1",), _recipe(data__validation=0.6, data__test=0.6)),
    Mistake("--set without =", ("train", C, "--set", "train.epochs"), ("train.epochs", "=")),
    Mistake("--set of an unknown key", ("train", C, "--set", "train.epoch=2"), ("epoch", "epochs")),
    # Files and formats
    Mistake("data mistyped", ("train", C), ("review.jsonl", "reviews.jsonl"), _recipe(data__train="review.jsonl")),
    Mistake("empty file", ("train", C), ("mine.csv",), _csv("")),
    Mistake("header alone", ("train", C), ("mine.csv",), _csv("text,label\n")),
    Mistake("two rows", ("train", C), ("2 ",), _csv("text,label\na fine film,good\na bad film,bad\n")),
    Mistake("a run for data", ("train", C), ("runs",), _recipe(data__train=RUN)),
    Mistake(
        "a PDF",
        ("train", C),
        ("mine.pdf",),
        _both(_text("mine.pdf", "%PDF-1.7\n1 0 obj\n<<>>\n" * 9), _recipe(data__train="mine.pdf")),
    ),
    Mistake(
        "a spreadsheet",
        ("train", C),
        ("mine.xlsx", "CSV"),
        _both(
            lambda folder: (folder / "mine.xlsx").write_bytes(b"PK\x03\x04" + bytes(200)) and None,
            _recipe(data__train="mine.xlsx"),
        ),
    ),
    Mistake("a model for data", ("train", C), ("bert",), _recipe(data__train="bert")),
    Mistake("a file for a folder", ("train", C), ("reviews.csv",), _recipe(data__train="reviews.csv/rows.csv")),
    Mistake(
        "broken JSON",
        ("train", C),
        ("mine.jsonl:2",),
        _both(
            _text("mine.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "label": }\n' * 20),
            _recipe(data__train="mine.jsonl"),
        ),
    ),
    # Columns, labels, tasks
    Mistake("column mistyped", ("train", C), ("txt", "text"), _recipe(data__columns={"text": "txt"})),
    Mistake(
        "no label column", ("train", C), ("label",), _csv("text\n" + "\n".join(row["text"] for row in tiny.reviews(30)))
    ),
    Mistake("two columns changed about", ("train", C), ("label", "columns"), _csv(SWAPPED)),
    Mistake("one label", ("train", C), ("label",), _csv("text,label\n" + ROWS.replace("negative", "positive"))),
    Mistake(
        "every row its own label",
        ("train", C),
        ("label",),
        _csv("text,label\n" + "\n".join(f"{r['text']},{i}x" for i, r in enumerate(tiny.reviews(60)))),
    ),
    Mistake(
        "labels missing", ("train", C), ("mine.csv", "label"), _csv("text,label\n" + ROWS.replace(",negative", ","))
    ),
    Mistake(
        "reviews for questions", ("train", "answer.yaml"), ("question",), _recipe("answer", data__train="reviews.jsonl")
    ),
    Mistake("chats for a classifier", ("train", C), ("label",), _recipe(data__train="chats.jsonl")),
    Mistake(
        "labels mistyped in the test file",
        ("train", C),
        ("postive", "positive"),
        _both(
            _rows(_typed_labels, "reviews.jsonl", "test.jsonl"),
            _recipe(data__test="test.jsonl", data__leakage="report"),
        ),
    ),
    Mistake("the same file twice", ("train", C), ("leakage",), _recipe(data__test="reviews.jsonl")),
    Mistake(
        "wrong answer starts",
        ("train", "answer.yaml"),
        ("mine.jsonl", "--fix-offsets"),
        _both(
            _rows(
                lambda i, row: {**row, "answers": [{**one, "start": one["start"] + 3} for one in row["answers"]]},
                "questions.jsonl",
                "mine.jsonl",
            ),
            _recipe("answer", data__train="mine.jsonl"),
        ),
    ),
    Mistake(
        "fewer tags than words",
        ("train", "tag.yaml"),
        ("mine.jsonl", "tags"),
        _both(
            _rows(lambda i, row: {**row, "tags": row["tags"][:-1]}, "tagged.jsonl", "mine.jsonl"),
            _recipe("tag", data__train="mine.jsonl"),
        ),
    ),
    Mistake("prompts that leave no room", ("train", "chat.yaml"), ("max_length",), _recipe("chat", task__max_length=8)),
    # Models and methods
    Mistake("model mistyped", ("train", C), ("minilmm", "minilm"), _recipe(model="minilmm")),
    Mistake("hub model without a network", ("train", C), ("someone/model",), _recipe(model="someone/model")),
    Mistake("weights without config", ("train", C), ("weights",), _no_config),
    Mistake("pickled weights", ("train", C), ("safetensors",), _pickled),
    Mistake("an encoder to write with", ("train", "chat.yaml"), ("encoder",), _recipe("chat", model="bert")),
    Mistake("examples for an encoder", ("train", C), ("few-shot",), _recipe(method__name="few-shot")),
    Mistake("longer than the model reads", ("train", C), ("max_length", "256"), _recipe(task__max_length=5000)),
    Mistake(
        "LoRA on no layer", ("train", C), ("q_proj", "query"), _recipe(method={"name": "lora", "target": ["q_proj"]})
    ),
    Mistake("another method's setting", ("train", C), ("rank",), _recipe(method={"name": "full", "rank": 8})),
    # The run's folder
    Mistake("folder in use", ("train", C, "--out", "bert"), ("bert", "--out")),
    Mistake("a file for the folder", ("train", C, "--out", "reviews.csv"), ("reviews.csv", "--out")),
    # check, new, preview, ladder, models
    Mistake("check a file without a task", ("check", "reviews.csv"), ("--task",)),
    Mistake("check of a missing file", ("check", "nothing.csv", "--task", "classification"), ("nothing.csv",)),
    Mistake("check for the wrong task", ("check", "reviews.csv", "--task", "question-answering"), ("question",)),
    Mistake("new task mistyped", ("new", "classifcation"), ("classification",)),
    Mistake("new over a recipe", ("new", "classification", "--out", C), (C, "--out")),
    Mistake("new from a missing file", ("new", "classification", "--data", "nothing.csv"), ("nothing.csv",)),
    Mistake("preview of no split", ("preview", C, "--split", "dev"), ("dev", "validation")),
    Mistake("preview of data", ("preview", "reviews.csv"), ("reviews.csv",)),
    Mistake("ladder of data", ("ladder", "reviews.csv"), ("reviews.csv",)),
    Mistake(
        "memory in words",
        ("models", "suggest", "--task", "classification", "--data", "reviews.csv", "--memory", "much"),
        ("much", "8GB"),
    ),
    Mistake("model to get mistyped", ("models", "get", "minillm"), ("minilm",)),
    # evaluate, predict, compare, resume, verdict, doctor
    Mistake("no such run", ("predict", "0009", "--input", "reviews.csv"), ("0009",)),
    Mistake("a recipe for a run", ("predict", C, "--input", "reviews.csv"), (C, "run")),
    Mistake("a model for a run", ("predict", "bert", "--input", "reviews.csv"), ("bert", "run")),
    Mistake("predict from nowhere", ("predict", RUN, "--input", "nothing.csv"), ("nothing.csv",)),
    Mistake(
        "predict without texts",
        ("predict", RUN, "--input", "mine.csv"),
        ("mine.csv", "text"),
        _text("mine.csv", "number,colour\n1,red\n2,blue\n"),
    ),
    Mistake("predict into no folder", ("predict", RUN, "--input", "reviews.csv", "--output", "no/x.jsonl"), ("no",)),
    Mistake("predict with a stopped run", ("predict", "3", "--input", "reviews.csv"), ("resume",), _unfinished),
    Mistake("predict with the wrong task", ("predict", QA, "--input", "reviews.csv"), ("question",)),
    Mistake(
        "evaluate without labels",
        ("evaluate", RUN, "--data", "mine.csv"),
        ("mine.csv", "label"),
        _text("mine.csv", "text\na fine film\na dull film\n"),
    ),
    Mistake("evaluate another task's rows", ("evaluate", RUN, "--data", "questions.jsonl"), ("label",)),
    Mistake(
        "evaluate labels mistyped",
        ("evaluate", RUN, "--data", "test.jsonl"),
        ("postive",),
        _rows(_typed_labels, "reviews.jsonl", "test.jsonl"),
    ),
    Mistake("compare with a file", ("compare", RUN, "reviews.csv"), ("reviews.csv",)),
    Mistake("resume a recipe", ("resume", C), (C, "luthier train")),
    Mistake("verdict of a stopped run", ("verdict", "3"), ("resume",), _unfinished),
    Mistake("doctor into no folder", ("doctor", "--zip", "no/x.zip"), ("no",)),
    Mistake("demo mistyped", ("demo", "sentimental"), ("sentiment",)),
)
