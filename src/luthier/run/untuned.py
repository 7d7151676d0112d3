"""The untuned model's answers, kept in the run's folder: a resumed run takes them from there.

They are taken only where all that they follow from is the same, known by its hash: the base model, the rows of every
split, the recipe, the prompt, what the task has learned of the rows, the machine's kind, and the versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import LuthierError
from luthier.files import read_json, sha256_of, write_text
from luthier.records import Answer, content_hash

from .provenance import environment, fingerprint

if TYPE_CHECKING:
    from .job import Job

_NO_MATTER = ("commit", "command", "platform")  # of the environment: they change no answer


@dataclass(frozen=True, slots=True)
class Untuned:
    """`answers` to the test rows, and what was chosen on the validation rows for giving them (a threshold, say)."""

    answers: Sequence[Answer]
    state: dict[str, Any]


def key_of(job: Job) -> str:
    """sha256 (hex) of what the untuned model's answers follow from."""
    names = [field.name for field in job.task.form.fields]
    splits = {name: [(row.id, content_hash(row, names)) for row in rows] for name, rows in job.prepared.splits.items()}
    made_with = environment(job.machine, job.ranks.count)
    prompt = getattr(job.method.options, "prompt", "")
    facts = {
        "model": job.source.sha256,
        "recipe": fingerprint(job.recipe),
        "prompt": sha256_of(Path(prompt)) if prompt else "",
        "rows": splits,
        "replayed": [row.id for row in job.replayed],
        "state": job.task.state,
        "environment": {name: value for name, value in made_with.items() if name not in _NO_MATTER},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def keep(path: Path, key: str, untuned: Untuned) -> None:
    """Write them down, if they are the same when they are read back: not every task's answers are plain JSON."""
    answers = [[one.prediction, one.confidence, dict(one.detail)] for one in untuned.answers]
    kept = {"key": key, "state": untuned.state, "answers": answers}
    try:
        text = json.dumps(kept, ensure_ascii=False, allow_nan=False)
        same = json.loads(text) == kept
    except (TypeError, ValueError):
        return
    if same:
        write_text(path, text + "\n")


def kept(path: Path, key: str) -> Untuned | None:
    """What was written under this key; None where there is nothing, or it is damaged."""
    try:
        found = read_json(path)
        if found["key"] != key:
            return None
        return Untuned([Answer(*one) for one in found["answers"]], dict(found["state"]))
    except (LuthierError, KeyError, TypeError, ValueError):
        return None
