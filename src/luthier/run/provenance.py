"""What makes a run repeatable: where its data and model lie, what it was made with, what it may not change."""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.secrets import without_secrets

from .recipe import Recipe

if TYPE_CHECKING:
    from luthier.engine.device import Machine


def environment(machine: Machine, processes: int = 1) -> dict[str, Any]:
    """environment.json: what the run was made with."""
    versions = {}
    for name in (
        "luthier",
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "tokenizers",
        "safetensors",
        "numpy",
        "scikit-learn",
    ):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": machine.device,
        "processor": machine.name,
        "dtype": machine.dtype,
        "threads": machine.threads,
        "processes": processes,
        "commit": _commit(),
        "command": without_secrets(" ".join(["luthier", *sys.argv[1:]]), shared=True)
        if Path(sys.argv[0]).name.startswith("luthier")
        else "luthier.train(...)",
        **versions,
    }


def _commit() -> str:
    """The commit of a luthier that runs from its source tree; "" for an installed one."""
    head = Path(__file__).resolve().parents[3] / ".git" / "HEAD"
    try:
        text = head.read_text().strip()
        return (head.parent / text.removeprefix("ref: ")).read_text().strip() if text.startswith("ref: ") else text
    except OSError:
        return ""


def absolute(source: Any, base: Path) -> Any:
    """A path or pattern as the whole path it stands for; fractions, hub ids and catalogue names as they are."""
    if isinstance(source, list):
        return [absolute(one, base) for one in source]
    if isinstance(source, str):
        for root in (base, Path.cwd()):
            if (root / source).exists():
                return str((root / source).resolve())
            if any(mark in source for mark in "*?[") and glob.glob(str(root / source), recursive=True):  # noqa: PTH207
                return str(root.resolve() / source)
    return source


def fingerprint(recipe: Recipe) -> str:
    """What must not change between a run and its resumption; where the data lies may."""
    facts = recipe.model_dump(mode="json")
    facts.pop("model")
    facts.pop("ladder")
    for name in ("train", "validation", "test"):
        if isinstance(facts["data"][name], (str, list)):
            facts["data"].pop(name)
    for name in ("trackers", "fit"):
        facts["train"].pop(name)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
