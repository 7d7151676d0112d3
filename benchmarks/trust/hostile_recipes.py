"""Hostile recipes: tags, bombs, other people's files, flags that would let code in, variables that would be filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import careless
from hostile_ground import REFUSED, Case, Ground, sound_model, sound_rows

_SOUND = "task: {{name: classification, max_length: 32}}\ndata: {{train: {rows}}}\nmethod: frozen\n"


def _recipe(text: str, *more: str, out: str = "out") -> Callable[[Ground], list[str]]:
    """A recipe with this text after sound lines; {canary}, {secret} and {outside} stand for paths."""

    def make(ground: Ground) -> list[str]:
        path = ground.work / "recipe.yaml"
        places = {"canary": ground.canary, "secret": ground.secret_file, "outside": ground.outside}
        places |= {"model": sound_model("bert"), "rows": sound_rows()}
        path.write_text((_SOUND + text).format(**places))
        more_made = [one.format(**places) for one in more]
        return ["train", str(path), "--out", str(ground.work / out), *more_made]

    return make


def _whole(text: Callable[[Ground], str]) -> Callable[[Ground], list[str]]:
    def make(ground: Ground) -> list[str]:
        path = ground.work / "recipe.yaml"
        path.write_text(text(ground))
        return ["train", str(path), "--out", str(ground.work / "out")]

    return make


def _occupied(ground: Ground) -> list[str]:
    """--out names a folder of someone else's files, which must be there afterwards."""
    (ground.work / "own").mkdir()
    (ground.work / "own" / "status.json").write_text('{"state": "failed"}')
    (ground.work / "own" / "thesis.txt").write_text("three years of work")
    return [*ground.recipe()[:2], "--out", str(ground.work / "own")]


def _other_text(key: str, method: str) -> Callable[[Ground], list[str]]:
    """A template or prompt that is a private file."""

    def make(ground: Ground) -> list[str]:
        if key == "chat_template":
            return ground.chat(template=Path("../outside/id_rsa"))
        chosen = {"name": method, "prompt": "../outside/id_rsa"}
        return ground.recipe(model=sound_model("llama"), method=chosen)

    return make


def _fire_yaml(ground: Ground) -> None:
    careless.load_yaml((ground.work / "recipe.yaml").read_text())


_TAG = "model: !!python/object/apply:os.mkdir ['{canary}']\n"
_NEW = 'model: !!python/object/new:os.mkdir {{args: ["{canary}"]}}\n'
_LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
_WHERE = "recipe.yaml"
_ROWS: Sequence[tuple[str, Callable[[Ground], list[str]], str, Callable[[Ground], None] | None, tuple[str, ...]]] = (
    ("a tag that calls a function", _recipe(_TAG), _WHERE, _fire_yaml, ("loads-yaml-tags",)),
    ("a tag that makes an object", _recipe(_NEW), _WHERE, _fire_yaml, ("loads-yaml-tags",)),
    ("a tag in --set", _recipe("model: {model}\n", "--set", "seed=!!python/object/apply:os.mkdir ['{canary}']"),
     "--set", None, ()),
    ("a billion laughs", _whole(lambda g: _LAUGHS), _WHERE, None, ()),
    ("keys merged into themselves", _whole(lambda g: "model: &a {<<: *a}\n"), _WHERE, None, ()),
    ("20 MB of keys", _whole(lambda g: "".join(f"k{i}: 1\n" for i in range(2_000_000))), _WHERE, None, ()),
    ("trust_remote_code", _recipe("model: {model}\ntrust_remote_code: true\n"), _WHERE, None, ()),
    ("trust_remote_code in the task", _whole(
        lambda g: f"model: {sound_model('bert')}\ntask: {{name: classification, trust_remote_code: true}}\n"
        f"data: {{train: {sound_rows()}}}\n"), _WHERE, None, ()),
    ("a variable for a model", _recipe("model: ${{CANARY_SECRET}}\n"), "${CANARY_SECRET}", None,
     ("expands-variables",)),
    ("a variable among the rows", _whole(lambda g: f"model: {sound_model('bert')}\ntask: classification\n"
        "data: {train: '$CANARY_SECRET/rows.csv'}\n"), "$CANARY_SECRET", None, ("expands-variables",)),
    ("a private file for a chat template", _other_text("chat_template", "full"), "id_rsa", None, ()),
    ("a private file for a prompt", _other_text("prompt", "few-shot"), "id_rsa", None, ()),
    ("somebody's folder for --out", _occupied, "own", None, ()),
    ("a model with dots in its name", _recipe("model: org/..%2f..@../../../../etc\n"), "org/..", None, ()),
    ("a run number that is a path", lambda g: ["resume", "../../../../etc"], "etc", None, ()),
)  # fmt: skip
CASES: tuple[Case, ...] = tuple(
    Case("recipe", name, make, names, REFUSED, fire, noticed_by) for name, make, names, fire, noticed_by in _ROWS
)
