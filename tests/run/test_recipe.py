"""Bar B28 on the real recipe: whatever is wrong in it is refused with its line, and with what was meant."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier import config
from luthier.config import read_recipe
from luthier.errors import RecipeError
from luthier.methods import METHODS
from luthier.recipe_words import ALIASES, NEEDLESS
from luthier.run.recipe import Recipe, read, starter
from luthier.tasks import TASKS

SCHEMA = Recipe.model_json_schema()
# A recipe of these for every key there is, each with every key written out.
KINDS = [
    ("question-answering", "lora"),
    ("classification", "frozen"),
    ("classification", "full"),
    ("token-classification", "adapter"),
    ("generation", "soft-prompt"),
    ("seq2seq", "few-shot"),
    ("embedding", "full"),
    ("pretraining", "full"),
]
NEW = {
    "task": {"name": "pretraining", "new": {}},
    "model": "new",
}  # its block is written out only when asked for
TEXTS = {
    (task, method): config.dump(
        Recipe.model_validate(
            {
                "model": "minilm",
                "task": task,
                "data": {"train": "a.csv", "columns": {"text": "body"}},
                "method": method,
                "ladder": {"methods": ["lora"]},
                **(NEW if task == "pretraining" else {}),
            }
        )
    )
    for task, method in KINDS
}


def small(task: str, method: str) -> str:
    """A recipe with no more than it needs: quicker to read."""
    blocks = f"task:\n  name: {task}\ndata:\n  train: a.csv\nmethod:\n  name: {method}\ntrain:\n  epochs: 3\n"
    blocks += "evidence:\n  variety: true\nladder:\n  methods: [lora]\n"
    return f"model: minilm\n{blocks}"


def places(text: str) -> dict[str, int]:
    """Dotted path -> line of every key in a recipe, read off the indentation."""
    found: dict[str, int] = {}
    above: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"( *)([\w-]+):(.*)", line)
        if match:
            above = [*above[: len(match[1]) // 2], match[2]]
            if above[:2] != ["data", "columns"] or len(above) == 2:
                found[".".join(above)] = number
    return found


def keys_of(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every (dotted path, its JSON schema), by the JSON schema alone."""
    schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    for name, value in schema.get("properties", {}).items():
        yield prefix + name, value
        for part in [value, *(one for how in ("oneOf", "allOf", "anyOf") for one in value.get(how, []))]:
            if "$ref" in part:
                yield from keys_of(part, f"{prefix}{name}.")


PATHS = sorted({path for path, _ in keys_of(SCHEMA)})


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def refusal(path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(path, text), Recipe, overrides)
    return str(caught.value)


def put(text: str, path: str, value: str) -> str:
    """The recipe with `value` (on one line) in place of what the key holds."""
    lines = text.splitlines()
    at = places(text)[path] - 1
    indent = len(lines[at]) - len(lines[at].lstrip())
    end = at + 1
    while end < len(lines) and (
        len(lines[end]) - len(lines[end].lstrip()) > indent or lines[end].lstrip().startswith("- ")
    ):
        end += 1
    lines[at:end] = [f"{' ' * indent}{path.rpartition('.')[2]}: {value}", *[""] * (end - at - 1)]
    return "\n".join(lines) + "\n"


def typos(key: str) -> dict[str, str]:
    draw = random.Random(key)
    i = draw.randrange(len(key))
    swaps = [j for j in range(len(key) - 1) if key[j] != key[j + 1]]
    j = draw.choice(swaps)
    return {
        "dropped": key[:i] + key[i + 1 :],
        "swapped": key[:j] + key[j + 1] + key[j] + key[j + 2 :],
        "doubled": key[:i] + key[i] + key[i:],
        "replaced": key[:i] + ("q" if key[i] != "q" else "x") + key[i + 1 :],
        "capitalised": key.capitalize(),
        "hyphened": key.replace("_", "-"),
    }


def test_the_recipes_here_hold_every_key(tmp_path: Path) -> None:
    written = {path for text in TEXTS.values() for path in places(text)}
    assert written == set(PATHS) and len(PATHS) >= 40
    for (task, method), text in TEXTS.items():
        recipe = read_recipe(write(tmp_path / "r.yaml", text), Recipe)
        assert (recipe.task.name, recipe.method.name) == (task, method)
        assert config.dump(recipe) == text


def test_typos_of_every_key(tmp_path: Path) -> None:
    """Every key, six typos each: the right key by its full path, the right line, nothing else said."""
    file, seen, slowest = tmp_path / "r.yaml", 0, 0.0
    done: set[str] = set()
    for text in TEXTS.values():
        where = places(text)
        for path, line in where.items():
            if path in done and not path.endswith(".name"):
                continue
            done.add(path)
            block, _, key = path.rpartition(".")
            if len(key) == 1:
                continue  # k: a typo of one letter is another word
            for kind, typo in typos(key).items():
                if typo == key:
                    assert kind == "hyphened"
                    continue
                if typo in {other.rpartition(".")[2] for other in PATHS}:
                    continue  # a key of another block (models, model): sent there
                wrong = text.splitlines()
                wrong[line - 1] = re.sub(rf"\b{key}:", f"{typo}:", wrong[line - 1])
                start = time.process_time()
                said = refusal(file, "\n".join(wrong) + "\n")
                slowest = max(slowest, time.process_time() - start)
                full = f"{block}.{typo}" if block else typo
                assert said == f'{file}:{line}: unknown key "{full}". Did you mean "{path}"?', (kind, said)
                seen += 1
    assert done == set(PATHS)
    assert seen >= 5 * len(PATHS)
    assert slowest < 1


def test_a_fresh_process_refuses_in_two_seconds_without_torch(tmp_path: Path) -> None:
    text = TEXTS["question-answering", "lora"].replace("learning_rate", "learning_rat")
    code = (
        "import sys, time\nfrom luthier.errors import RecipeError\nfrom luthier.run.recipe import read\n"
        f"try: read({str(write(tmp_path / 'r.yaml', text))!r})\n"
        "except RecipeError as error: print(error)\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'pyarrow', 'sklearn', 'safetensors', 'accelerate'}\n"
        "print(sorted(heavy & set(sys.modules)))\nprint(time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, loaded, took = done.stdout.splitlines()
    assert said.endswith('unknown key "train.learning_rat". Did you mean "train.learning_rate"?')
    assert loaded == "[]"
    assert float(took) < 2


def test_keys_at_the_wrong_level(tmp_path: Path) -> None:
    """A key of one block written at the top, or in another block, is sent home."""
    seen = 0
    blocks = {path.partition(".")[0] for path in PATHS if "." in path}
    assert len(blocks) == 6
    done: set[str] = set()
    for kind, full in TEXTS.items():
        text = small(*kind)
        top = places(text)
        for path in (p for p in places(full) if p.count(".") == 1 and p not in done):
            done.add(path)
            home, _, key = path.partition(".")
            for other in ("", *sorted(blocks - {home})):
                taken = f"{other}.{key}" if other else key
                if taken in PATHS:  # a key of both (dropout), or a block's own name (train)
                    continue
                lines = text.splitlines()
                at = top[other] if other else len(lines)
                lines.insert(at, f"{'  ' if other else ''}{key}: 1")
                said = refusal(tmp_path / "r.yaml", "\n".join(lines) + "\n")
                assert said.startswith(f"{tmp_path / 'r.yaml'}:{at + 1}: unknown key"), said
                assert f'"{path}"' in said, said
                seen += 1
    assert seen > 110


def test_every_word_of_another_tool_is_answered_with_ours(tmp_path: Path) -> None:
    text, seen = small("question-answering", "lora"), 0
    for alias, target in ALIASES.items():
        assert target in PATHS, f"{alias} leads to {target}, which is no key"
        assert alias not in {path.rpartition(".")[2] for path in PATHS}
        for block in {"", target.rpartition(".")[0]}:
            lines = text.splitlines()
            at = places(text)[block] if block else len(lines)
            lines.insert(at, f"{'  ' if block else ''}{alias}: 1")
            said = refusal(tmp_path / "r.yaml", "\n".join(lines) + "\n")
            full = f"{block}.{alias}" if block else alias
            assert said == f'{tmp_path / "r.yaml"}:{at + 1}: unknown key "{full}". luthier calls it {target}'
            seen += 1
    assert seen > 100
    for word in NEEDLESS:
        assert word not in ALIASES and word not in {path.rpartition(".")[2] for path in PATHS}
        assert "Leave it out: " in refusal(tmp_path / "r.yaml", f"{text}{word}: 1\n")


def accepted(path: str) -> set[str]:
    """JSON types that some schema of this key admits; "string" only where any text is."""
    found, parts = set(), [spec for name, spec in keys_of(SCHEMA) if name == path]
    while parts:
        part = parts.pop()
        parts += [one for how in ("anyOf", "oneOf", "allOf") for one in part.get(how, [])]
        if "$ref" in part:
            found |= {"object"} | ({"string"} if path in ("task", "method", "train.forgetting") else set())
        elif not {"enum", "const"} & part.keys():
            found.add(part.get("type", ""))
    return found


def test_wrong_types_of_every_key(tmp_path: Path) -> None:
    file, seen = tmp_path / "r.yaml", 0
    done: set[str] = set()
    for text in TEXTS.values():
        for path in places(text):
            if path in done:
                continue
            done.add(path)
            takes = accepted(path)
            wrong = ["[[1]]", "2020-01-01"]
            wrong += ["{zz: [1]}"]
            wrong += ["zz"] if "string" not in takes else []
            wrong += ["true"] if "boolean" not in takes else []
            wrong += ["null"] if "null" not in takes else []
            for value in wrong:
                said = refusal(file, put(text, path, value))
                first = said.splitlines()[0]
                assert str(file) in first and re.search(rf"\b{re.escape(path)}\b", first), (path, value, said)
                seen += 1
    assert done == set(PATHS) and seen > 400


def test_out_of_range_of_every_number(tmp_path: Path) -> None:
    """Each limit of each number is passed, and the refusal gives the limit."""
    file, seen = tmp_path / "r.yaml", set()
    done = set()
    for text in TEXTS.values():
        known = dict(keys_of(SCHEMA))
        known |= dict(keys_of({"$ref": f"#/$defs/{_section_of(text, 'task')}"}, "task."))
        known |= dict(keys_of({"$ref": f"#/$defs/{_section_of(text, 'method')}"}, "method."))
        for path, line in places(text).items():
            for spec in [known[path], *known[path].get("anyOf", [])]:
                for limit, step in {
                    "minimum": -1,
                    "exclusiveMinimum": 0,
                    "maximum": 1,
                    "exclusiveMaximum": 0,
                }.items():
                    if limit in spec and (path, limit) not in done:
                        value = spec[limit] + step
                        said = refusal(file, put(text, path, str(value)))
                        assert f"{file}:{line}: {path} is {value}. Allowed: a" in said, said
                        assert f"{spec[limit]:,}" in said.partition("Allowed")[2], said
                        done.add((path, limit))
                        seen.add(path)
    assert len(seen) >= 21 and len(done) >= 30
    for path, value in (("data.validation", "1"), ("data.test", "-0.1"), ("data.test", "1.5")):
        said = refusal(file, put(TEXTS[KINDS[0]], path, value))
        assert f"{path} is {value}: a fraction must be at least 0 and below 1" in said
    for path in ("train.epochs", "train.learning_rate", "train.clip", "data.test"):
        for value in (".nan", ".inf", "-.inf"):
            assert path in refusal(file, put(TEXTS[KINDS[0]], path, value))


def _section_of(text: str, block: str) -> str:
    name = re.search(rf"^{block}:\n(?:  .*\n)*?  name: (.*)$", text, re.MULTILINE)[1]  # type: ignore[index]
    return {**TASKS, **METHODS}[name].Options.__name__  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (("task.stride", "300"), "task.stride", "must be below half of task.max_length (384)"),
        (("data.validation", "0.95"), "data.validation", "validation and test together must be below 1"),
    ],
)
def test_contradictions(tmp_path: Path, change: tuple[str, str], path: str, words: str) -> None:
    text = put(TEXTS["question-answering", "lora"], *change)
    said = refusal(tmp_path / "r.yaml", text)
    assert said.startswith(f"{tmp_path / 'r.yaml'}:{places(text)[path]}: ") and words in said


@pytest.mark.parametrize("block", ["task", "method"])
@pytest.mark.parametrize("short", [True, False])
def test_names_of_tasks_and_methods(tmp_path: Path, block: str, short: bool) -> None:
    known = {"task": TASKS, "method": METHODS}[block]
    text, file, seen = TEXTS["classification", "full"], tmp_path / "r.yaml", 0
    for name in known:
        for typo in (t for t in typos(name).values() if t != name):
            said = refusal(file, put(text, block, typo if short else f"{{name: {typo}}}"))
            line = places(text)[block]
            assert said == (
                f'{file}:{line}: {block}.name is "{typo}". Did you mean "{name}"? Allowed: {", ".join(known)}'
            )
            seen += 1
    assert seen >= 10
    said = refusal(file, put(text, block, "{}"))
    assert f'the key "{block}.name" is missing. Allowed: {", ".join(known)}' in said
    said = refusal(file, put(text, block, "{nmae: x}"))
    assert said.endswith(f'unknown key "{block}.nmae". Did you mean "{block}.name"?')


def test_keys_of_another_method(tmp_path: Path) -> None:
    text = TEXTS["classification", "full"]
    said = refusal(tmp_path / "r.yaml", put(text, "method", "{name: full, rank: 8}"))
    assert said.endswith('unknown key "method.rank": full has none. It is a key of lora')
    said = refusal(tmp_path / "r.yaml", put(text, "method", "{name: frozen, rnak: 8}"))
    assert said.endswith('unknown key "method.rnak". Did you mean "method.rank" (of lora)?')


def test_overrides_are_blamed_for_what_they_set(tmp_path: Path) -> None:
    text, file = TEXTS["question-answering", "lora"], tmp_path / "r.yaml"
    cases = {
        "train.epochs=-3": "train.epochs is -3",
        "train.epochs=": "train.epochs is empty",
        "lr=1e-4": "luthier calls it train.learning_rate",
        "train.learning_rat=1e-4": 'Did you mean "train.learning_rate"?',
        "model.x=1": "model is a block",
        "task.stride=300": "must be below half",
        "data.test=0.95": "together must be below 1",
        "method=frozzen": 'Did you mean "frozen"?',
    }
    for override, words in cases.items():
        said = refusal(file, text, "seed=3", override)
        assert said.startswith(f"--set {override}: ") and words in said, said
    recipe = read_recipe(file, Recipe, ["method=frozen", "method.hidden=8", "train.epochs=0.5", "data.train=[a, b]"])
    assert recipe.method.hidden == 8 and recipe.train.epochs == 0.5 and recipe.data.train == ["a", "b"]
    short = write(file, "model: minilm\ntask: classification\ndata: {train: a.csv}\n")
    assert read_recipe(short, Recipe, ["task.max_length=64"]).task.max_length == 64
    said = refusal(file, put(text, "train.epochs", "-1"), "train.clip=2")
    assert said.startswith(f"{file}:{places(text)['train.epochs']}: ")


def test_starters_and_mappings_are_recipes(tmp_path: Path) -> None:
    assert len(TASKS) >= 2
    for task in TASKS:
        for awkward in (
            "review",
            "review: body #1",
            "yes",
            "1",
            "null",
            "*x",
            "'",
            "a\nb",
            " b",
            "{c",
            "#",
            "Ä: b",
        ):
            made = starter(task, awkward, {"text": awkward}, 5)
            recipe = read_recipe(write(tmp_path / "r.yaml", made), Recipe)
            assert (recipe.task.name, recipe.data.train, recipe.data.columns) == (
                task,
                awkward,
                {"text": awkward},
            )
        made = starter(task, "a.csv", {}, 5)
        assert max(map(len, made.splitlines())) <= 120, task
    mapping = {"model": "minilm", "task": "classification", "data": {"train": Path("a.csv")}}
    recipe, _ = read(mapping)
    assert recipe.data.train == "a.csv" and recipe.method.name == "full"
    assert read(json.loads(recipe.model_dump_json()))[0] == recipe
    for given in (mapping, recipe):
        assert read(given, ["train.epochs=1"])[0].train.epochs == 1
        with pytest.raises(RecipeError, match=r"^--set train.epochs=0: train.epochs is 0"):
            read(given, ["train.epochs=0"])
    assert "train" not in mapping
    with pytest.raises(RecipeError, match=r'^recipe: unknown key "modle". Did you mean "model"\?$'):
        read({**{k: v for k, v in mapping.items() if k != "model"}, "modle": "minilm"})
