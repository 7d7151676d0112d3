"""What `luthier models list` shows: the catalogue, what was converted, and the hub models on this disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ModelError
from .catalogue import CATALOGUE
from .fetch import here
from .home import models_home
from .kinds import quick_kind, read_config
from .source import licence_of
from .weights import parameters, read_tensors, weight_files


def listing() -> list[dict[str, Any]]:
    """One dict each, catalogue first; keys: name, what, kind, parameters, bytes, download, disk, here, licence, where,
    path, summary (`what` is "model" or "data"; `where` says in which of the three places it lies).

    `bytes` is the size on disk for what is here, else the size to download, which `download` is in any case (None
    outside the catalogue), as `disk` is the size once it is here. Nothing is loaded or imported:
    `kind` is None for the rare type that only transformers itself could judge.
    """
    found = [_entry(name) for name in CATALOGUE]
    home = models_home()
    others = sorted(p.parent for p in home.glob("[!.]*/config.json")) if home.is_dir() else []
    found += [row for p in others if p.name not in CATALOGUE and (row := _folder(p, p.name, "luthier's cache"))]
    found += [row for name, folder in _hub_folders() if (row := _folder(folder, name, "Hugging Face's cache"))]
    return found


def _entry(name: str) -> dict[str, Any]:
    entry = CATALOGUE[name]
    path = here(entry)
    return {
        "name": name,
        "what": entry.what,
        "kind": entry.kind,
        "parameters": entry.parameters,
        "bytes": _bytes(entry.folder) if path else entry.download,
        "download": entry.download,
        "disk": _bytes(entry.folder) if path else entry.disk,
        "here": path is not None,
        "licence": entry.licence,
        "where": "catalogue",
        "path": str(path) if path else None,
        "summary": entry.summary,
    }


def _folder(folder: Path, name: str, where: str) -> dict[str, Any] | None:
    """The row of a model folder; None for one that luthier would refuse, which a list need not show."""
    try:
        config = read_config(folder)
        files = weight_files(folder)
        count = parameters(read_tensors(files).values())
        kind = quick_kind(config, name)
    except (ModelError, OSError):
        return None
    return {
        "name": name,
        "what": "model",
        "kind": kind,
        "parameters": count,
        "bytes": (size := sum(p.stat().st_size for p in files)),
        "download": None,
        "disk": size,
        "here": True,
        "licence": licence_of(folder),
        "where": where,
        "path": str(folder),
        "summary": str(config["model_type"]),
    }


def _hub_folders() -> list[tuple[str, Path]]:
    """Name (with @revision where there are several) and snapshot folder of every hub model on this disk."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, OSError, ValueError):
        return []
    found = []
    for repository in sorted(repositories, key=lambda r: r.repo_id):
        revisions = list(repository.revisions) if repository.repo_type == "model" else []
        for revision in sorted(revisions, key=lambda r: r.commit_hash):
            suffix = f"@{revision.commit_hash[:12]}" if len(revisions) > 1 else ""
            found.append((f"{repository.repo_id}{suffix}", Path(revision.snapshot_path)))
    return found


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
