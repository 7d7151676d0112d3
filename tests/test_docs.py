"""What is written for people is true: links, verbs, options, keys, codes, trees, examples and programs."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier import config
from luthier.models.catalogue import MODELS
from luthier.recipe_words import known_keys
from luthier.run.recipe import STARTS, Recipe, read

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "luthier"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(p for d in ("docs", "decisions", "examples", "benchmarks") for p in (ROOT / d).glob("*.md")),
    ]
)
PROGRAMS = sorted((ROOT / "docs" / "programs").glob("*.py"))
REAL_HOME = Path(os.environ.get("LUTHIER_HOME") or Path.home() / ".cache" / "luthier")  # before a fixture hides it


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages ("": of none)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [body for language, body in found if language in languages]


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """What a heading can be linked by, as the usual renderers make it."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_pages_are_there() -> None:
    names = {name_of(page) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"} <= names
    assert sum(name.startswith("docs/") for name in names) >= 10
    assert sum(name.startswith("decisions/") for name in names) >= 11


def test_links_lead_somewhere() -> None:
    checked = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text("utf-8"))):
            if target.startswith(("http://", "https://", "mailto:")):
                continue
            path, _, anchor = target.partition("#")
            goal = (page.parent / path).resolve() if path else page
            assert goal.exists(), f"{name_of(page)}: {target}"
            if anchor:
                assert anchor in anchors(goal.read_text("utf-8")), f"{name_of(page)}: {target}"
            checked += 1
    assert checked >= 45


def test_anchors_are_those_of_headings() -> None:
    assert anchors("# A `b.json` c\n\n## Two-part: name\n```\n# no heading\n```\n") == {
        "a-bjson-c",
        "two-part-name",
    }


def test_nothing_of_the_workplace_is_named() -> None:
    words = r"/work/|/tmp/|/root/|\bpypi\.org|files\.pythonhosted|download\.pytorch|\bissue \d|\bissue #\d|\bsession\b"
    texts = [*PAGES, *PROGRAMS, *(ROOT / "examples").glob("*.yaml"), *(ROOT / "examples").glob("*.py")]
    assert len(texts) >= 30
    for path in texts:
        found = re.findall(words, path.read_text("utf-8"), re.IGNORECASE)
        assert not found, f"{name_of(path)}: {found}"


# the command line


def verbs() -> dict[str, Any]:
    import typer.main

    from luthier.cli.app import app

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def code_of(text: str) -> Iterator[str]:
    """Lines of code blocks and pieces of inline code."""
    for body in blocks(text, "", "bash", "python", "yaml"):
        yield from body.splitlines()
    yield from re.findall(r"`([^`\n]+)`", prose(text))


def test_every_verb_that_is_written_exists() -> None:
    known, said = verbs(), set()
    for page in PAGES:
        for code in code_of(page.read_text("utf-8")):
            for verb in re.findall(r"(?:^|[\s(\"$])luthier ([a-z][a-z-]*)", code):
                assert verb in known, f"{name_of(page)}: luthier {verb}"
                said.add(verb)
    assert said == set(known)


def test_every_option_of_every_verb_is_on_the_page() -> None:
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    chapters = dict(re.findall(r"^## `luthier (\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    known = verbs()
    assert set(chapters) == set(known)
    for verb, command in known.items():
        commands = [command, *getattr(command, "commands", {}).values()]
        real = {name for one in commands for param in one.params for name in param.opts if name.startswith("-")}
        written = {
            name
            for row in re.findall(r"^\| (`-.*?) \|", chapters[verb], re.MULTILINE)
            for name in re.findall(r"`(-[\w-]+)`", row)
        }
        assert written == real - {"--help", "-h"}, verb


def test_every_exit_code_is_on_the_page() -> None:
    from luthier import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LuthierError)]
    codes = {str(kind.exit_code) for kind in kinds} | {"0", "1", "3", "130", "143"}
    rows = re.findall(r"^\| ([\d, ]+) \|", (ROOT / "docs" / "cli.md").read_text("utf-8"), re.MULTILINE)
    assert {code.strip() for row in rows for code in row.split(",")} == codes


# recipes


def test_recipe_page_is_what_the_schema_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_recipe_page.py"))["page"]()
    written = (ROOT / "docs" / "recipe.md").read_text("utf-8")
    assert written == made, "run: python docs/make_recipe_page.py"
    keys = set(re.findall(r"^\| `([\w.]+)` \|", written, re.MULTILINE))
    assert keys == {known.path for known in known_keys(Recipe)}
    assert len(keys) >= 35


def test_keys_in_prose_are_keys_of_the_recipe() -> None:
    paths = {known.path for known in known_keys(Recipe)}
    said = set()
    for page in PAGES:
        for key in re.findall(r"`((?:task|data|method|train)\.[a-z_]+)", page.read_text("utf-8")):
            if key not in ("data.json", "train.csv"):  # files of these names
                assert key in paths, f"{name_of(page)}: {key}"
                said.add(key)
    assert len(said) >= 25


def test_recipes_in_pages_are_recipes() -> None:
    count = 0
    for page in PAGES:
        for body in blocks(page.read_text("utf-8"), "yaml"):
            tree = config.parse_yaml(body, name_of(page))
            recipe = config.check(tree, Recipe)
            assert recipe.model in {*MODELS, *STARTS.values(), "new"} or recipe.model.startswith("runs/")
            count += 1
    assert count >= 8


def test_examples_are_recipes() -> None:
    found = {path.name: read(path)[0] for path in (ROOT / "examples").glob("*.yaml")}
    pairs = {(recipe.task.name, recipe.method.name) for recipe in found.values()}
    assert len(found) == 14 and len(pairs) >= 8
    text = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert all(f"({name})" in text for name in found)
    assert (ROOT / "examples" / found["helpline.yaml"].data.train).is_file()
    same = [found[name].data for name in ("sentences.yaml", "sentences-lora.yaml")]
    assert same[0] == same[1]  # the page says that they can be compared


def test_example_data_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.data import load
    from luthier.tasks import TASKS

    source = tmp_path / "all.csv"
    lines = [f"sentence number {i},{i % 2},{site}" for site in ("rotten_tomatoes", "imdb") for i in range(40)]
    source.write_text("\n".join(["text,label,source", *lines]) + "\n")
    monkeypatch.setattr(sys, "argv", ["make_reviews.py", str(source), str(tmp_path), "30"])
    runpy.run_path(str(ROOT / "examples" / "make_reviews.py"), run_name="__main__")
    for name in ("reviews.csv", "imdb.csv"):
        loaded = load(str(tmp_path / name), TASKS["classification"].form)
        assert (len(loaded.rows), loaded.errors) == (30, [])


def test_json_in_pages_is_json() -> None:
    count = 0
    for page in PAGES:
        for body in blocks(page.read_text("utf-8"), "json"):
            try:
                json.loads(body)
            except ValueError:
                assert all(isinstance(json.loads(line), dict) for line in body.splitlines()), name_of(page)
            count += 1
    assert count >= 8


# codes and ids


def calls(*names: str) -> Iterator[ast.Call]:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) in names:
                yield node


def words_in(*rooms: str) -> set[str]:
    """Every string constant of these rooms."""
    paths = [path for room in rooms for path in (SOURCE / room).rglob("*.py")]
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def constants(found: Iterator[ast.Call], place: dict[str, int]) -> set[str]:
    """The constant at the place that holds the code, by the call's name."""
    out = set()
    for call in found:
        at = place[getattr(call.func, "id", "") or getattr(call.func, "attr", "")]
        node = call.args[at] if len(call.args) > at else None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            out.add(node.value)
    return out


def test_every_fault_code_is_on_the_page() -> None:
    chapter = (ROOT / "docs" / "data.md").read_text("utf-8").split("## Checks")[1].split("### ")[0]
    rows = re.findall(
        r"^\| `([\w-]+)` \| (error|warning|note|error or warning|warning or note) \|", chapter, re.MULTILINE
    )
    written = {code for code, _ in rows}
    # "unreadable" is of predict's stdin alone.
    made = constants(calls("Fault", "reject", "Wrong"), {"Fault": 1, "reject": 0, "Wrong": 0}) - {"unreadable"}
    assert len(made) >= 30
    assert made <= written
    assert written <= words_in("data", "run", "tasks")


def test_every_column_name_is_on_the_page() -> None:
    from luthier.tasks import TASKS

    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    table = page.split("| task | fields | also known as |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]]
    written: dict[str, dict[str, str]] = {}
    for task, field, names in rows:
        fields = written.setdefault(task, {}) if task else fields  # noqa: F821
        fields[re.findall(r"`(\w+)`", field)[0]] = names
    assert set(written) == set(TASKS)
    for name, task in TASKS.items():
        for f in task.form.fields:
            known = [*f.aliases, *(("answer_text",) if f.kind == "spans" else ())]
            assert written[name][f.name] == ", ".join(known), f"{name}: {f.name}"


def test_every_finding_is_on_the_page() -> None:
    chapter = (ROOT / "docs" / "verdict.md").read_text("utf-8").split("## Findings")[1].split("## ")[0]
    written = {
        id for row in re.findall(r"^\| (`.*?) \|", chapter, re.MULTILINE) for id in re.findall(r"`([a-z-]+)`", row)
    }
    made = constants(calls("Finding"), {"Finding": 0})
    assert len(made) >= 12
    assert made <= written
    parts = ("beats-", "not-better-than-", "worse-than-", "no-", "fragile-")
    rest = {id for id in written if not id.startswith((*parts, "-"))}
    assert rest <= words_in("evidence", "data", "run")


# the tree, the decisions, the picture


def test_readme_tree_is_the_tree() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    tree = next(body for body in blocks(text, "") if body.startswith("src/luthier/"))
    written = set(re.findall(r"[\w-]+\.(?:py|json|html)\b", tree))
    real = {path.name for path in SOURCE.rglob("*.py")} - {"__main__.py"}
    assert real - written == set(), "files that the README's tree does not name"
    assert {name for name in written - real if name.endswith(".py")} == set(), "files that are no more"
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(re.findall(r"^(?:\d| ) (\w+)/", tree, re.MULTILINE))


def test_readme_floors_are_the_contract() -> None:
    import tomllib

    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    tree = next(b for b in blocks((ROOT / "README.md").read_text("utf-8"), "") if b.startswith("src/luthier/"))
    first = {int(n): room for n, room in re.findall(r"^(\d) (\w+)", tree, re.MULTILINE)}
    assert sorted(first) == list(range(1, len(layers) + 1))
    for floor, room in first.items():
        assert room in re.split(r" [|:] ", layers[len(layers) - floor]), floor


def test_decisions_are_numbered_pages() -> None:
    pages = sorted((ROOT / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {page.name[:4]} "), page.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Choice", "Why", "What would change it"], page.name
        assert len(text.splitlines()) <= 60, page.name


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()) < 100


def test_changelog_names_this_version() -> None:
    from luthier import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_picture_of_a_report() -> None:
    data = (ROOT / "docs" / "images" / "report.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert data.startswith(b"\x89PNG") and len(data) < 300_000
    assert width > 600 and height > 600


# programs


def test_programs_are_on_the_page() -> None:
    assert [path.name for path in PROGRAMS] == [
        "check_data.py",
        "load_with_transformers.py",
        "train_and_predict.py",
    ]
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    assert sorted(blocks(text, "python")) == sorted(path.read_text("utf-8") for path in PROGRAMS)


def test_python_in_the_readme_compiles() -> None:
    found = blocks((ROOT / "README.md").read_text("utf-8"), "python")
    assert len(found) == 1
    for body in found:
        compile(body, "README.md", "exec")


def test_public_names_are_on_the_page() -> None:
    import luthier

    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    for name in luthier.__all__:
        assert re.search(rf"\b{name}\b", text), name
    for name in dir(luthier.Run):
        if not name.startswith("_"):
            assert f"`{name}" in text, f"Run.{name}"


def test_program_that_checks_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "docs" / "programs" / "check_data.py"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "squad 3 2"
    assert lines[1].startswith("error | offset | ") and "(found at 39)" in lines[1]
    assert 'Did you mean "data.train"?' in lines[-1]


def test_programs_that_train_and_load(tmp_path: Path, luthier_home: Path) -> None:
    """The tuned model answers the same with stock transformers, and the run holds every file that its page names."""
    model = REAL_HOME / "models" / "minilm"
    assert model.is_dir(), "luthier models get minilm (scripts/test does it)"
    (luthier_home / "models").mkdir(parents=True)
    (luthier_home / "models" / "minilm").symlink_to(model.resolve(), target_is_directory=True)
    said = program("train_and_predict.py", cwd=tmp_path)
    assert said[0] == "0001-classification-full"
    assert said[1] in ("use it", "do not use it", "not proven")
    assert [line.split()[0] for line in said[-2:]] == ["a", "b"]
    run = tmp_path / "runs" / said[0]
    label, confidence = program(
        "load_with_transformers.py", str(run / "model"), "my password is refused", cwd=tmp_path
    )[-1].split()
    _, expected, sure = said[-1].split()
    assert label == expected
    assert abs(float(confidence) - float(sure)) < 0.02  # luthier may have answered in bfloat16
    page = (ROOT / "docs" / "run-folder.md").read_text("utf-8")
    tree = next(body for body in blocks(page, "") if body.startswith("runs/"))
    named = {name.rstrip("/") for name in re.findall(r"^ {2,4}([\w./-]+)", tree, re.MULTILINE)}
    assert {"recipe.yaml", "splits.jsonl", "status.json", "test.jsonl"} <= named
    there = {path.name for path in run.rglob("*")} | {"checkpoints/step-000120"}
    assert named <= there
    assert {path.name for path in run.iterdir()} <= {name.split("/")[0] for name in named}


def program(name: str, *arguments: str, cwd: Path) -> list[str]:
    """The lines that a program of the docs prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "programs" / name), *arguments],
        cwd=cwd,
        env={**os.environ, "LUTHIER_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
