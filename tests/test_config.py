"""The reader of recipes, on a schema of its own: what is not plain YAML, or not a recipe, is refused at its line."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, model_validator

from luthier.config import Section, check, dump, quoted, read_recipe
from luthier.errors import RecipeError
from luthier.recipe_words import describe, shown


class Inner(Section):
    size: int = Field(3, ge=1, lt=10, description="how big")
    words: list[Literal["red", "blue"]] = Field([])
    names: dict[str, str] = Field({})
    paths: str | list[str] = "x"

    @model_validator(mode="after")
    def _fits(self) -> Inner:
        if self.size == 7 and self.words:
            raise ValueError("size 7 has no words")
        return self


class Outer(Section):
    title: str = Field(description="what it is called", min_length=1)
    inner: Inner = Field(default_factory=Inner)
    rate: float | None = Field(None, ge=0)
    switch: bool = False


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "r.yaml"


def refusal(file: Path, text: str | bytes, *overrides: str) -> str:
    """The refusal's text after the file's name; it must come within two seconds."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        read_recipe(file, Outer, overrides)
    assert time.process_time() - start < 2
    return str(caught.value).replace(str(file), "FILE")


BAD_YAML = {
    "": "FILE: a recipe is `key: value` lines, this holds nothing",
    "# only a comment\n": "FILE: a recipe is `key: value` lines, this holds nothing",
    "- title\n": "FILE: a recipe is `key: value` lines, this holds a list",
    "text,label\ngood,1\n": "FILE: a recipe is `key: value` lines, this holds a single value",
    "title: a\ninner:\n\tsize: 1\n": "FILE:3: a tab\nFix: use spaces",
    "title: a\n\ntitle: b\n": 'FILE:3: the key "title" is written twice',
    "title: a\ninner: {size: 1, size: 2}\n": 'FILE:2: the key "size" is written twice',
    "title: a\nrate: *.csv\n": "FILE:2: *.csv is an alias, which no recipe holds\nFix: write the value out, or",
    "title: &a x\nrate: *a\n": "FILE:2: *a is an alias",
    "title: !!python/object:os.system x\n": "FILE:1: tag:yaml.org,2002:python/object:os.system is a tag",
    "title: !secret x\n": "FILE:1: !secret is a tag",
    "title: a: b\n": "FILE:1: a colon where no value can begin",
    "title a\nrate: 1\n": "FILE:2: a colon where no value can begin, here or in the line above",
    "title: a\ninner:\n  size: 1\n words: []\n": "FILE:4: this line's indentation fits no line above",
    "title: a\ninner:\n  size: 1\nrate\n": "FILE:5: this line has no colon",
    "title: [a, b\nrate: 1\n": "FILE:2: a bracket is opened and not closed",
    "title: {a\n": "FILE:2: a brace is opened and not closed",
    'title: "a\n': "FILE:2: a quote or bracket is opened and not closed",
    "title: @a\n": "FILE:1: found character '@' that cannot start any token\nFix: put quotes around the value",
    "title: a\n---\ntitle: b\n": "FILE:2: a second document begins (---)\nFix: keep one recipe in a file",
    '{"title": "a"}\n{"title": "b"}\n': "FILE:2: the recipe ended in the line above",
    "rate: 1\ntitle: a\x00b\n": "FILE:2: a control character (#x0000)",
    "rate: 1\ntitle: \x1b[31m\n": "FILE:2: a control character (#x001b)",
    f"title: a\nrate: {'9' * 5000}\n": "FILE: this is not YAML (Exceeds the limit",
}  # fmt: skip


def test_what_is_not_plain_yaml(file: Path) -> None:
    for text, words in BAD_YAML.items():
        said = refusal(file, text)
        assert said.startswith(words), (text, said)
        assert "\nFix: " in said
    assert len(BAD_YAML) == 24


def test_bombs_are_refused_at_once(file: Path) -> None:
    laughs = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
    bombs = {
        laughs: "FILE:2: *a0 is an alias",
        "title: " + "[" * 20_000: "FILE:1: blocks are nested over 12 deep",
        "title: " + "{a: " * 9_000: "FILE:1: blocks are nested over 12 deep",
        "\n".join(" " * i + "a:" for i in range(300)): "FILE:13: blocks are nested over 12 deep",
        "title: &a [*a]\n": "FILE:1: *a is an alias",
        "title: x\n" * 20_000: "FILE: over 48,000 bytes are too many for a recipe",
        "title: " + "x" * 3_000_000: "FILE: over 48,000 bytes are too many for a recipe",
        f"title: a\n{'rat' * 15_000}: 1\n": "FILE:2: this line has no colon",
        f"title: a\n{'rat' * 300}: 1\n": 'FILE:2: unknown key "ratratrat',
    }
    for text, words in bombs.items():
        said = refusal(file, text)
        assert said.startswith(words), (text[:40], said[:200])
        assert len(said) < 400
    assert len(bombs) == 9


def test_many_faults_are_said_in_twelve_lines(file: Path) -> None:
    said = refusal(file, "title: a\n" + "".join(f"key{i}: 1\n" for i in range(3000))).splitlines()
    assert len(said) == 12
    assert said[0] == 'FILE:2: unknown key "key0". Known here: title, inner, rate, switch'
    assert said[-1] == "and 2989 more"
    said = refusal(file, "switch: 3\nrate: x\ninner: {size: 0}\n").splitlines()
    assert said == [
        'FILE: the key "title" is missing: what it is called',
        "FILE:1: switch is 3. Allowed: true or false",
        'FILE:2: rate is "x". Allowed: a number of at least 0',
        "FILE:3: inner.size is 0. Allowed: a whole number of at least 1 and below 10",
    ]


def test_files_that_are_no_recipe(tmp_path: Path, file: Path) -> None:
    assert refusal(file, b"title: a\nrate: \xff\xfe\n").startswith("FILE:2: this is not UTF-8 text (byte 0xff)")
    assert refusal(file, "title: ä".encode("utf-16")).startswith("FILE:1: this is not UTF-8 text")
    file.write_text("title: a\n")
    cases = {
        tmp_path: f"{tmp_path}: this is a folder\nFix: name a recipe file: {file}",
        tmp_path / "r.yml": f"{tmp_path / 'r.yml'}: there is no such recipe\nFix: did you mean {file}?",
        tmp_path / "r": f"{tmp_path / 'r'}: there is no such recipe\nFix: did you mean {file}?",
        tmp_path / "other" / "x.yaml": "there is no such recipe\nFix: `luthier new TASK --data FILE`",
        file / "r.yaml": "it cannot be read (Not a directory)",
        tmp_path / ("x" * 300): "it cannot be read (File name too long)",
        Path("/dev/zero"): "over 48,000 bytes",
        Path("a\0b"): "it cannot be read (embedded null byte)",
    }
    for path, words in cases.items():
        with pytest.raises(RecipeError) as caught:
            read_recipe(path, Outer)
        assert words in str(caught.value)
    assert len(cases) == 8
    if os.getuid():
        file.chmod(0)
        with pytest.raises(RecipeError, match="Permission denied"):
            read_recipe(file, Outer)


def test_yaml_as_it_is_written(file: Path) -> None:
    file.write_text("\ufefftitle: yes # YAML 1.2\nrate: 1e-4\ninner:\n  names: {1: a, null: b}\n", "utf-8")
    recipe = read_recipe(file, Outer)
    assert (recipe.title, recipe.rate, recipe.inner.names) == ("yes", 1e-4, {"1": "a", "": "b"})
    file.write_bytes(b"title: a\r\ninner:\r\n  size: 4\r\n")
    assert read_recipe(file, Outer).inner.size == 4


def test_values(file: Path) -> None:
    said = {
        "title: ''": 'FILE:1: title is "". Allowed: text that is not empty',
        "title:": "FILE:1: title is empty. Allowed: text that is not empty",
        "title: 3": "FILE:1: title is 3. Allowed: text that is not empty",
        'title: a\nrate: "\\e[31m\\u0085"': 'FILE:2: rate is "\\x1b[31m\\x85". Allowed: a number of at least 0',
        f"title: a\nrate: {'x' * 99}": f'FILE:2: rate is "{"x" * 60}...". Allowed: a number of at least 0',
        "title: a\nswitch: yes": 'FILE:2: switch is "yes". Allowed: true or false',
        "title: a\ninner: []": "FILE:2: inner is an empty list. Allowed: a block of keys such as size, words, names",
        "title: a\ninner:\n  words: red": 'FILE:3: inner.words is "red". Did you mean [red]? Allowed: a list of: red,',
        "title: a\ninner:\n  words:\n    - red\n    - bleu": 'FILE:5: inner.words[1] is "bleu". Did you mean "blue"?',
        "title: a\ninner:\n  names:\n    x: 3": "FILE:4: inner.names.x is 3. Allowed: text",
        "title: a\ninner:\n  paths: 3": "FILE:3: inner.paths is 3. Allowed: text, or a list of texts",
        "title: a\ninner:\n  paths: [a,\n  3]": "FILE:4: inner.paths[1] is 3. Allowed: text",
        "title: a\ninner:\n  words: [red]\n  size: 7": "FILE:4: size 7 has no words",
        "title: a\n1: 2": 'FILE:2: unknown key "1". Known here: title, inner, rate, switch',
        "title: a\n? [a, b]\n: 2": "FILE:2: unknown key",
        "title: a\nrate: 010": None,
    }  # fmt: skip
    for text, words in said.items():
        if words is None:
            file.write_text(text)
            assert read_recipe(file, Outer).rate == 10
        else:
            assert refusal(file, text + "\n").startswith(words), refusal(file, text + "\n")
            assert "\n" not in refusal(file, text + "\n")
    assert len(said) == 16


def test_overrides(file: Path) -> None:
    file.write_text("title: a\n")
    assert read_recipe(file, Outer, ["inner.size=4", "inner.names.x=y", "rate = 2", "rate=1"]).rate == 1
    for bad in ("", "rate", "=1", ".rate=1", "inner..size=1", " =1", "inner.=1"):
        assert f'--set: "{bad}" is not key=value' in refusal(file, "title: a\n", bad)
    bad_values = {"[1": "a bracket", "&a [*a]": "*a is an alias", "a: b: c": "a colon", "[" * 99: "blocks"}
    for value, words in bad_values.items():
        assert refusal(file, "title: a\n", f"rate={value}").startswith(f"--set rate={value}: {words}")
    said = refusal(file, "title: a\ninner: {size: 2}\nrate: -1\n", "inner.size=0", "title=")
    assert said.splitlines() == [
        "--set title=: title is empty. Allowed: text that is not empty",
        "--set inner.size=0: inner.size is 0. Allowed: a whole number of at least 1 and below 10",
        "FILE:3: rate is -1. Allowed: a number of at least 0",
    ]


AWKWARD = [
    "yes", "1", "1.0", "1e3", "null", "~", "", " a", "a: b", "a #b", "#", "*x", "&x", "!x", "'", '"', "{", "[", "@",
    "a\nb", "\ta", "é", "\u2028", "0o7", "0x1f", "2024-01-01", "- a", "? a", "|", "%", "true", "-", "=", "<<",
    "x" * 200, "a " * 90, "\x07",
]  # fmt: skip


def test_what_is_dumped_is_read_back(file: Path) -> None:
    for text in AWKWARD:
        recipe = Outer(title=text or "x", inner=Inner(names={text: text}), rate=1e-5)
        file.write_text(dump(recipe), "utf-8")
        assert read_recipe(file, Outer) == recipe
        file.write_text(f"title: {quoted(text or 'x')} # said\n", "utf-8")
        assert read_recipe(file, Outer).title == (text or "x")
    assert len(AWKWARD) == 37


def test_mappings_have_no_lines() -> None:
    assert check({"title": Path("a/b")}, Outer).title == "a/b"
    mapping = {"title": "a", "inner": {"size": 3}}
    assert check(mapping, Outer, ["inner.size=4", "rate=1"]).inner.size == 4
    assert mapping == {"title": "a", "inner": {"size": 3}}
    with pytest.raises(RecipeError) as caught:
        check({"title": "a", "inner": {"sise": 3}}, Outer)
    assert str(caught.value) == 'recipe: unknown key "inner.sise". Did you mean "inner.size"?'
    assert caught.value.where == "recipe"


def test_words() -> None:
    assert describe(float | Literal["auto"]) == "a number, or auto"
    assert describe(list[int]) == "a list of: a whole number"
    assert describe(str | list[str]) == "text, or a list of texts"
    assert describe(dict[str, int], items=1) == "a whole number"
    values = {"empty": None, "true": True, "an empty block": {}, "a list": [1], '"a"': "a", "2.5": 2.5}
    assert [shown(value) for value in values.values()] == list(values)
