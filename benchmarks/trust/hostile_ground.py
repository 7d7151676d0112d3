"""Where a hostile file is laid out: sound files to spoil, a canary, and a secret that nothing may show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bars import scratch

import tiny
from luthier.files import write_jsonl

SECRET = "canary-7f3a91c2d4e8b650"
REFUSED = (2,)
HARMLESS = (0,)  # it lies beside good files and is left alone
EITHER = (0, 2)


class Ground:
    """One case's folder. `work` is the working folder; `outside` is none of the stranger's business."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work, self.home, self.outside = folder / "work", folder / "home", folder / "outside"
        for place in (self.work, self.home, self.outside):
            place.mkdir()
        self.canary, self.secret = folder / "canary", SECRET
        self.secret_file = self.outside / "id_rsa"
        self.secret_file.write_text(f"{SECRET}\n")

    def leaked(self, said: str) -> str:
        """Where the secret stands that should stand nowhere; "" for nowhere."""
        if self.secret in said:
            return "what was printed"
        for path in sorted([*self.work.rglob("*"), *self.home.rglob("*")]):
            if path.is_symlink() or not path.is_file() or path.stat().st_size > 100_000_000:
                continue
            if self.secret.encode() in path.read_bytes():
                return str(path.relative_to(self.folder))
        return ""

    def model(self, architecture: str = "bert", **changes: Any) -> Path:
        """A copy of a sound tiny model, with keys of its config changed."""
        target = self.work / f"stranger-{architecture}"
        shutil.copytree(sound_model(architecture), target)
        if changes:
            change(target / "config.json", changes)
        return target

    def run(self, method: str = "full") -> Path:
        """A copy of a sound finished run."""
        target = self.work / "stranger-run"
        shutil.copytree(sound_run(method), target)
        return target

    def rows(self) -> Path:
        return sound_rows()

    def recipe(self, *, model: Any = None, train: Any = None, **more: Any) -> list[str]:
        """The arguments that train by a recipe of these parts; what is not given is sound."""
        told = {
            "model": str(model or sound_model("bert")),
            "task": {"name": "classification", "max_length": 32},
            "data": {"train": str(train or self.rows()), "validation": 0.2, "test": 0.2},
            "method": "frozen",
            "train": {"epochs": 1, "dtype": "float32"},
            **more,
        }
        path = self.work / "recipe.yaml"
        path.write_text(json.dumps(told))
        return ["train", str(path), "--out", str(self.work / "out")]

    def chat(self, model: Any = None, template: Path | None = None) -> list[str]:
        """The arguments that train a chat model, with this template if one is given."""
        rows = self.work / "chats.jsonl"
        talk = [{"role": "user", "content": "where ?"}, {"role": "assistant", "content": "in rome ."}]
        write_jsonl(rows, ({"messages": [{**talk[0], "content": f"where {i} ?"}, talk[1]]} for i in range(12)))
        task = {"name": "generation", "max_length": 64, "max_new_tokens": 4}
        task |= {"chat_template": str(template)} if template else {}
        return self.recipe(model=model or sound_model("llama"), train=rows, task=task, method="full")


@dataclass(frozen=True)
class Case:
    """`make` lays the files out and gives the arguments of the command line; `names` is in the refusal.

    `fire` does to them what a careless program does, so that the canary is seen to work; `noticed_by` are the twins
    that this case must notice. A template is stopped after two seconds, and another process begun for the next.
    """

    kind: str
    name: str
    make: Callable[[Ground], list[str]]
    names: str = ""
    codes: tuple[int, ...] = REFUSED
    fire: Callable[[Ground], None] | None = None
    noticed_by: tuple[str, ...] = ()
    slow: bool = False  # left out of a part of the bar


def change(path: Path, changes: Mapping[str, Any]) -> None:
    """Keys of a JSON file changed; None takes one away."""
    told = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


@cache
def sound_model(architecture: str) -> Path:
    return tiny.save_model(scratch("hostile_ground") / architecture, architecture)


@cache
def sound_rows() -> Path:
    path = scratch("hostile_ground") / "rows.jsonl"
    rows = tiny.rows_for("classification", 60)
    write_jsonl(path, ({"text": row["text"], "label": row["label"]} for row in rows))
    return path


@cache
def sound_run(method: str) -> Path:
    """A finished run of a classifier. `checkpoints/` is kept, so that it can be made to look unfinished."""
    import luthier

    folder = scratch("hostile_ground") / f"run-{method}"
    recipe = {
        "model": str(sound_model("bert")),
        "task": {"name": "classification", "max_length": 32},
        "data": {"train": str(sound_rows()), "validation": 0.2, "test": 0.2},
        "method": {"name": method, **({"num_virtual_tokens": 2} if method == "soft-prompt" else {})},
        "train": {"epochs": 1, "dtype": "float32"},
    }
    luthier.train(recipe, out=folder)
    return folder
