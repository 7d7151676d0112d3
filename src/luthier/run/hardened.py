"""A run that was trained under changes of its embeddings, beside the run that was not and is else the same."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier import config
from luthier.errors import LuthierError
from luthier.evidence.robustness.hardened import hardening, not_shown
from luthier.files import read_json, read_jsonl
from luthier.records import Finding
from luthier.runs import RunFolder, all_scored_before
from luthier.training.options import TrainOptions

from .prepare import test_key
from .recipe import Recipe

if TYPE_CHECKING:
    from .prove import Proof

ITS_KEYS = ("adversarial", "adversarial_epsilon", "adversarial_steps", "neftune_noise_alpha")
NO_MATTER = {"evidence", "ladder"}  # blocks that change nothing of the model
FILES = ("train", "validation", "test")  # of the data block
PACE = {"trackers", "save_steps", "save_total_limit", "fit", "token_budget", "gradient_checkpointing", "dtype"}


def hardening_findings(proof: Proof, home: Path) -> list[Finding]:
    """What `train.adversarial` or `neftune_noise_alpha` brought, where the newest run that differs in that alone has
    answered the same rewritten rows; of a run trained so without such a one, what would show it.
    """
    if proof.robustness is None or not proof.method.trains:
        return []
    own = proof.recipe.train
    with contextlib.suppress(LuthierError, OSError, KeyError, TypeError, ValueError):  # a run whose files were changed
        for other, recipe in _twins(proof, home):
            ours, theirs = (read_jsonl(folder.robustness) for folder in (proof.folder, other))
            plain = other.name if own.changes_embeddings else proof.folder.name
            pair = (ours, theirs) if own.changes_embeddings else (theirs, ours)
            setting = _setting(own if own.changes_embeddings else recipe.train)
            found = hardening(setting, plain, *pair, proof.recipe.seed)
            if found is not None:
                return [found]
    if not own.changes_embeddings:
        return []
    off = " ".join(f"--set train.{key}={_default(key)}" for key in ITS_KEYS if getattr(own, key) != _default(key))
    return [not_shown(_setting(own), f"luthier train {shlex.quote(_shown(proof.folder.recipe))} {off}")]


def _twins(proof: Proof, home: Path) -> Iterator[tuple[RunFolder, Recipe]]:
    """(folder, recipe) of runs that scored the same test rows, newest first, which differ from this one in whether
    embeddings are changed while training, and in nothing else that counts.
    """
    splits = proof.prepared.splits
    key, own = test_key(splits["test"], proof.task), [str(file["sha256"]) for file in proof.prepared.files]
    sizes = {name: len(rows) for name, rows in splits.items()}
    for other in all_scored_before(key, proof.folder.path, home):
        with contextlib.suppress(LuthierError, OSError, KeyError, TypeError):
            recipe = config.read_recipe(other.recipe, Recipe, ())
            apart = recipe.train.changes_embeddings != proof.recipe.train.changes_embeddings
            data, base = read_json(other.data), read_json(other.model / "luthier.json")["base"]
            rows = [str(file["sha256"]) for file in data["files"]] == own and data["splits"] == sizes
            same = rows and base["sha256"] == proof.source.sha256 and _rest(recipe) == _rest(proof.recipe)
            if apart and same and other.robustness.is_file():
                yield other, recipe


def _rest(recipe: Recipe) -> dict[str, Any]:
    """What the two must share. Files and the base model may lie elsewhere: what is in them is compared apart."""
    told = recipe.model_dump(mode="json", exclude={*NO_MATTER, "model"})
    told["train"] = {key: value for key, value in told["train"].items() if key not in (*ITS_KEYS, *PACE)}
    for key in FILES:
        if not isinstance(told["data"][key], float | int):
            told["data"][key] = "a file"
    return told


def _shown(path: Path) -> str:
    """The path from here, else from the run's own place: a finding is given on, and tells no folder of a person."""
    with contextlib.suppress(ValueError):
        return path.resolve().relative_to(Path.cwd()).as_posix()
    return f"{path.parent.name}/{path.name}"


def _setting(train: TrainOptions) -> str:
    told = [f"train.adversarial: {train.adversarial}"] * (train.adversarial != "none")
    told += [f"train.neftune_noise_alpha: {train.neftune_noise_alpha:g}"] * (train.neftune_noise_alpha > 0)
    return " and ".join(told)


def _default(key: str) -> Any:
    return TrainOptions.model_fields[key].default
