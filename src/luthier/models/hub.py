"""Models of the Hugging Face hub: small files first, looked at, then safetensors; never a .bin or a .py."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, NotHere, ResourceError
from .fetch import megabytes
from .home import offline
from .kinds import kind_of, read_config
from .publish import Say
from .weights import INDEX, WEIGHTS

_SMALL = re.compile(
    r"[^/]+\.(json|txt|model|jinja)|README\.md|LICEN[CS]E[^/]*|1_Pooling/config\.json|additional_chat_templates/[^/]+\.jinja"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_SMALL = 64_000_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of a hub repository on this disk; `revision` is its commit."""

    folder: Path
    revision: str | None


def fetch_from_hub(repository: str, revision: str | None, *, fetch_missing: bool, say: Say) -> Snapshot:
    """The repository's files in the Hugging Face cache, downloaded if they are missing.

    Without a revision, or with a commit's, a complete copy in the cache is used as it is; a branch or tag is
    asked for again when there is a network. Raises ModelError or ResourceError.
    """
    cached = cached_snapshot(repository, revision)
    if cached and (revision is None or _COMMIT.fullmatch(revision) or offline() or not fetch_missing):
        return cached
    if offline() or not fetch_missing:
        raise _not_here(repository, revision)
    try:
        return _download(repository, revision, say)
    except _Unreached as error:
        if cached:
            at = f"revision {cached.revision[:12]}" if cached.revision else "an earlier download"
            say(f"The hub was not reached; using the copy of {repository} from {at}.")
            return cached
        raise ModelError(
            f"the hub was not reached ({error})",
            where=repository,
            fix="check the network, or use a catalogue model or a folder: luthier models list",
        ) from None


def cached_snapshot(repository: str, revision: str | None) -> Snapshot | None:
    """A snapshot in the Hugging Face cache that has its config and all of its weights."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json", revision=revision)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    if not (folder / WEIGHTS).is_file():
        try:
            shards = set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if not all(isinstance(name, str) and (folder / name).is_file() for name in shards):
            return None
    return Snapshot(folder, folder.name if _COMMIT.fullmatch(folder.name) else None)


class _Unreached(Exception):
    pass


def _download(repository: str, revision: str | None, say: Say) -> Snapshot:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub import errors as hub

    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=30)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        commit = info.sha or revision
        small = [name for name, size in sizes.items() if _SMALL.fullmatch(name) and size <= _MAX_SMALL]
        folder = Path(snapshot_download(repository, revision=commit, allow_patterns=_exactly(small)))
        weights = _looked_at(folder, sizes, repository)
        licence = getattr(info.card_data, "license", None) or "not given"
        size = megabytes(sum(sizes.get(name, 0) for name in weights))
        say(f"Fetching {repository} ({size}, licence {licence}) from the hub, revision {str(commit)[:12]}")
        snapshot_download(repository, revision=commit, allow_patterns=_exactly(weights))
        # Last, so that the cache calls this commit by the branch's name only once its weights are there.
        snapshot_download(repository, revision=revision, allow_patterns=_exactly(small))
    except hub.GatedRepoError:
        raise ModelError(
            "its authors ask you to accept their terms first",
            where=repository,
            fix=f"accept them on https://huggingface.co/{repository}, then: hf auth login",
        ) from None
    except hub.RevisionNotFoundError:
        raise ModelError(
            f'it has no revision "{revision}"',
            where=repository,
            fix=f"see https://huggingface.co/{repository}/tree/main",
        ) from None
    except hub.RepositoryNotFoundError:
        raise ModelError(
            "there is no such model on the hub (or it is private, and you are not logged in)",
            where=repository,
            fix="check the name, or: hf auth login; a folder is written with ./ in front",
        ) from None
    except ModelError:
        raise
    except OSError as error:
        if error.errno == 28:
            raise ResourceError(
                "the disk is full", where=repository, fix="free some space, or set HF_HOME to another disk"
            ) from None
        raise _Unreached(_short(error)) from None
    except Exception as error:  # the http client's own tree differs between versions of huggingface_hub
        raise _Unreached(_short(error)) from None
    return Snapshot(folder, commit)


def _looked_at(folder: Path, sizes: dict[str, int], repository: str) -> list[str]:
    """Judge config and file list before gigabytes come; the names of the weight files."""
    kind_of(read_config(folder), repository)
    if WEIGHTS in sizes:
        return [WEIGHTS]
    if INDEX in sizes:
        names: Iterable[Any] = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()
        shards = sorted({name for name in names if isinstance(name, str)})
        if shards and all(name in sizes and "/" not in name and name.endswith(".safetensors") for name in shards):
            return shards
    others = sorted(n for n in sizes if n.endswith((".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack")))
    raise ModelError(
        f"it has no safetensors weights{f' (only {others[0]})' if others else ''}; luthier reads nothing "
        f"else, because a pickle file can run any code when it is opened",
        where=repository,
        fix=f"look for a safetensors revision (a pull request of SFconvertbot) under "
        f"https://huggingface.co/{repository}/discussions, then write {repository}@refs/pr/N",
    )


def _exactly(names: Iterable[str]) -> list[str]:
    return [re.sub(r"([*?\[])", r"[\1]", name) for name in names]


def _short(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return (text or type(error).__name__)[:200]


def _not_here(repository: str, revision: str | None) -> NotHere:
    asked = f"{repository}@{revision}" if revision else repository
    why = "and the network is switched off" if offline() else "and fetching was not allowed"
    cache = f"{os.environ.get('HF_HOME') or '~/.cache/huggingface'}/hub/models--{repository.replace('/', '--')}"
    return NotHere(
        f"it is not on this machine, {why}",
        where=asked,
        fix=f"with a network: luthier models get {asked}; without one: copy the model's folder here and "
        f"write its path, or copy {cache} from a machine that has it",
    )
