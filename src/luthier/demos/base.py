"""What a demo is, what it fetches, and the three answers it shows at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from luthier.data import load
from luthier.files import read_jsonl
from luthier.models import CATALOGUE, fetch
from luthier.run import Run
from luthier.tasks import TASKS

Say = Callable[[str], None]
Fetched = Callable[[str, int, int], None]  # name, bytes done, bytes in all

RIGHT = 0.999  # an answer of this quality is called right, one below the next wrong
WRONG = 0.5
LONGEST = 200  # characters of a shown text


@dataclass(frozen=True, slots=True)
class Demo:
    """One demo. `prepare(folder)` writes its data files and gives the recipe; `needs` is fetched before.

    `before` says what is about to happen, `after` what the result means and what it does not.
    """

    name: str
    before: str
    after: str
    needs: tuple[str, ...]
    prepare: Callable[[Path], dict[str, Any]]


def fetch_all(names: Iterable[str], *, say: Say, progress: Fetched) -> None:
    """Have the catalogue's models and data on this disk. ModelError or DataError where that cannot be."""
    for name in names:
        fetch(CATALOGUE[name], say=say, progress=partial(progress, name))


def answers(run: Run, recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Three answers to test rows: a right one, a wrong one if there is any, and one more.

    Each has given, answered, expected (texts, shortened), confidence and right.
    """
    form = TASKS[recipe["task"]["name"]].form
    sources = [recipe["data"][split] for split in ("train", "test")]
    rows = {row.id: row for s in sources if isinstance(s, str) for row in load(s, form).rows}
    lines = [line for line in read_jsonl(run.folder.predictions / "test.jsonl") if line["id"] in rows]
    shown = []
    for line in _choose(lines):
        given = [str(rows[line["id"]][name]) for name in (field.name for field in form.inputs)]
        shown.append(
            {
                "given": short(given[0], LONGEST),
                "answered": short(line["prediction"] or "(no answer in the passage)"),
                "expected": short(_expected(line["expected"])),
                "confidence": line["confidence"],
                "right": line["quality"] >= RIGHT,
            }
        )
    return shown


def _choose(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The surest right answer, the surest wrong one, and the surest right answer that says something else."""
    sure = sorted(lines, key=lambda line: (-line["confidence"], line["id"]))
    right = [line for line in sure if line["quality"] >= RIGHT]
    wrong = [line for line in sure if line["quality"] < WRONG]
    # One that says something is more telling than "no answer".
    first = next((line for line in right if line["prediction"]), right[0] if right else None)
    other = next((line for line in right if first and line["prediction"] != first["prediction"]), None)
    chosen = [line for line in (first, other, wrong[0] if wrong else None) if line is not None]
    spare = [line for line in (*wrong, *right, *sure) if line not in chosen]
    return (chosen + spare)[:3]


def _expected(value: Any) -> str:
    if isinstance(value, list):
        return str(value[0]["text"]) if value else "(no answer in the passage)"
    return str(value)


def short(text: str, longest: int = 100) -> str:
    """`text` on one line, cut at a word."""
    flat = " ".join(text.split())
    if len(flat) <= longest:
        return flat
    return flat[: longest - 2].rsplit(" ", 1)[0] + " …"
