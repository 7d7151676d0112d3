"""Write docs/recipe.md from the recipe's own schema: `python docs/make_recipe_page.py`.

A test calls `page()` and compares, so the page cannot fall behind the code.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from luthier.recipe_words import describe, sections
from luthier.run.recipe import Recipe

PAGE = Path(__file__).with_name("recipe.md")
INTRODUCTION = """# Recipe

Every key, as the code has it. This page is written by `docs/make_recipe_page.py`; do not edit it by hand.

A recipe is a YAML file. `model`, `task` and `data` are required; everything else has a default. An unknown key is
refused with the nearest known one, and so is a value of another type: `"3"` is not a number. `luthier new`
writes a starter, `--set key=value` changes a key for one command, and the `recipe.yaml` of a run holds every
default and every `auto` written out. `task: classification` and `method: lora` are short for blocks with that
`name`. Relative paths start from the recipe's folder. Aliases, tags and a second document in the file are refused.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Top level\n", _table(Recipe, "")]
    for name, field in Recipe.model_fields.items():
        inner = sections(field.annotation)
        if len(inner) == 1:
            parts += _block(f"## `{name}`\n", inner[0], name)
        for section in inner if len(inner) > 1 else ():
            own = get_args(section.model_fields["name"].annotation)[0]
            parts += _block(f"## `{name}`, where `name: {own}`\n", section, name)
    return "\n".join(part for part in parts if part)


def _block(heading: str, section: type[BaseModel], path: str) -> list[str]:
    """A section's heading, what it is, its table, and the blocks inside it."""
    parts = [heading, _said(section), _table(section, f"{path}.")]
    for name, field in section.model_fields.items():
        for inner in sections(field.annotation):
            parts += _block(f"### `{path}.{name}`\n", inner, f"{path}.{name}")
    return parts


def _said(section: type[BaseModel]) -> str:
    """The first line of the section's docstring, and a blank one; nothing where there is none."""
    own = (section.__doc__ or "").strip().splitlines()
    return f"{own[0]}\n" if own else ""


def _table(section: type[BaseModel], prefix: str) -> str:
    lines = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in section.model_fields.items():
        allowed = describe(field.annotation, field.metadata)
        cells = (f"`{prefix}{name}`", allowed, _default(field), field.description or "chooses this block")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"`name: {getattr(value, 'name', '')}`" if hasattr(value, "name") else "each key's own"
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "empty" if value in ([], {}) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE}")
