"""Where a model comes from: a name becomes a folder that has been looked at, before anything is loaded.

A name is, in this order: a folder (a model's, or an earlier run's), a catalogue name, something fetched
before, or a hub id `org/name[@revision]`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.files import sha256_of

from ..errors import ModelError, NotHere, did_you_mean, nearest
from .catalogue import CATALOGUE, MODELS
from .fetch import Progress, fetch, here, tell
from .folder_files import refuse_links
from .home import home, models_home
from .hub import fetch_from_hub
from .kinds import Kind, architecture_of, kind_of, read_config
from .publish import Say, read_manifest
from .weights import parameters, read_tensors, weight_files

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
# Position embeddings of these start after the padding index: 514 rows hold 512 tokens.
_OFFSET_TYPES = frozenset(
    {"roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "xlm-roberta-xl", "longformer", "mpnet"}
)
# Positions are relative: what the config calls a maximum is what the model was trained on, not a limit.
_RELATIVE_TYPES = frozenset(
    {"t5", "mt5", "longt5", "umt5", "switch_transformers", "bloom", "mpt", "xlnet", "mamba", "mamba2"}
)


@dataclass(frozen=True, slots=True)
class Source:
    """A model on disk that has been looked at: safetensors only, headers sound, architecture known.

    `asked` is what the person wrote; `bytes` are the weights' bytes on disk; `parameters` counts the weights'
    floating-point numbers; `max_length` is in tokens (None: no limit of its own); `licence` is what the model
    card says; `hub_id` and `revision` are set where the weights are the hub's.
    """

    asked: str
    folder: Path
    kind: Kind
    model_type: str
    architecture: str
    parameters: int
    bytes: int
    licence: str | None
    hub_id: str | None
    revision: str | None
    max_length: int | None
    hidden_size: int | None
    vocab_size: int | None

    @property
    def sha256(self) -> str:
        """Of the weights: the file's own sha256, or for shards that of the lines "sha256  name"."""
        files = weight_files(self.folder)
        hashes = [_remembered_sha256(path) for path in files]
        if len(hashes) == 1:
            return hashes[0]
        lines = "".join(f"{digest}  {path.name}\n" for digest, path in zip(hashes, files, strict=True))
        return hashlib.sha256(lines.encode()).hexdigest()


def resolve(
    name: str,
    *,
    base: Path | None = None,
    fetch_missing: bool = True,
    say: Say = tell,
    progress: Progress | None = None,
) -> Source:
    """Find the model that `name` means, fetching it if it is missing and `fetch_missing` allows.

    Relative folders are looked for under `base` (a recipe's folder), then under the working directory.
    Raises ModelError where there is no such model, or it is unfit or unsafe; ResourceError for a full disk.
    """
    name = name.strip()
    if folder := _folder(name, base):
        return inspect(folder, asked=name)
    if name in CATALOGUE:
        return inspect(_from_catalogue(name, fetch_missing, say, progress), asked=name)
    if _plain(name) and (models_home() / name / "config.json").is_file():
        return inspect(models_home() / name, asked=name)
    if name.endswith(".gguf"):
        raise ModelError(
            "GGUF has to be converted before it can be tuned", where=name, fix=f"luthier models get {name}"
        )
    if _HUB_ID.fullmatch(name) and not name.startswith(".") and ".." not in name:
        repository, _, revision = name.partition("@")
        found = fetch_from_hub(repository, revision or None, fetch_missing=fetch_missing, say=say)
        return inspect(found.folder, asked=name, hub_id=repository, revision=found.revision)
    raise _unknown(name, base)


def inspect(folder: Path, *, asked: str = "", hub_id: str | None = None, revision: str | None = None) -> Source:
    """Look at a model folder without loading it; ModelError where it is unfit, damaged or unsafe."""
    folder = folder.absolute()
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise _adapter(folder)
    refuse_links(folder)
    config = read_config(folder)
    files = weight_files(folder)
    if (folder / "adapter_config.json").is_file():
        raise _adapter(folder)
    tensors = read_tensors(files)
    kind = kind_of(config, str(folder))
    text = config.get("text_config") if isinstance(config.get("text_config"), Mapping) else config
    _refuse_oversized(text, sum(t.elements for t in tensors.values()), folder)
    manifest = read_manifest(folder) or {}
    return Source(
        asked=asked or str(folder),
        folder=folder,
        kind=kind,
        model_type=str(config["model_type"]),
        architecture=architecture_of(config),
        parameters=parameters(tensors.values()),
        bytes=sum(path.stat().st_size for path in files),
        licence=licence_of(folder),
        hub_id=hub_id or manifest.get("hub_id"),
        revision=revision,
        max_length=_max_length(text, str(config["model_type"]), folder),
        hidden_size=_number(text, "hidden_size", "d_model", "n_embd", "dim"),
        vocab_size=_number(text, "vocab_size"),
    )


def licence_of(folder: Path) -> str | None:
    """What the model card's front matter, or else luthier's own manifest, says."""
    try:
        with (folder / "README.md").open("rb") as file:
            card = file.read(65_536).decode("utf-8", "replace")
    except OSError:
        card = ""
    front = re.match(r"\ufeff?---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    lines = front[1] if front else ""
    found = re.search(r"^license:[ \t]*(?:\[)?[ \t]*(?:\r?\n\s*-[ \t]*)?[\"']?([\w.+-]+)", lines, re.MULTILINE)
    if found and found[1].lower() == "other":
        found = re.search(r"^license_name:[ \t]*[\"']?([\w.+-]+)", lines, re.MULTILINE) or found
    return found[1] if found else (read_manifest(folder) or {}).get("licence")


def _folder(name: str, base: Path | None) -> Path | None:
    """The model folder that `name` names: itself, or the `model/` of a run; None: no such folder."""
    if not name:
        return None
    asked = Path(name).expanduser()
    for path in dict.fromkeys(([] if base is None else [base / asked]) + [asked]):
        try:
            if not path.is_dir():
                continue
        except (OSError, ValueError):
            return None
        if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
            return path
        if (path / "model" / "config.json").is_file() or (path / "model" / "adapter_config.json").is_file():
            return path / "model"
        if name not in CATALOGUE:  # a folder that only happens to be called `minilm` hides nothing
            return path
    return None


def _from_catalogue(name: str, fetch_missing: bool, say: Say, progress: Progress | None) -> Path:
    entry = CATALOGUE[name]
    if entry.what != "model":
        raise ModelError(
            f"{name} is a data set, not a model",
            where=name,
            fix=f"`luthier models get {name}` prints its file, which goes under data.train; "
            f"models: {', '.join(MODELS)}",
        )
    if not fetch_missing and not here(entry):
        raise NotHere(f"{name} is not on this machine", where=name, fix=f"luthier models get {name}")
    return fetch(entry, say=say, progress=progress)


def _plain(name: str) -> bool:
    return len(name) < 200 and re.fullmatch(r"\w[\w.-]*", name) is not None


def _unknown(name: str, base: Path | None) -> ModelError:
    if not name:
        return ModelError("no model is named", fix=f"model: {MODELS[0]}, a folder, or a hub id such as org/name")
    if not _plain(name):
        parent = Path(name).expanduser().parent
        places = [(base or Path()) / parent, parent]
        siblings = {p.name for place in places if place.is_dir() for p in place.iterdir() if p.is_dir()}
        guess = nearest(Path(name).name, siblings)
        ask = f' Did you mean "{parent / guess}"?' if guess else ""
        return ModelError(
            f"there is no such model folder, and this is no hub id.{ask}",
            where=name,
            fix="luthier models list",
        )
    fetched = [p.parent.name for p in models_home().glob("[!.]*/config.json")] if models_home().is_dir() else []
    return ModelError(
        f'unknown model "{name}". {did_you_mean(name, {*MODELS, *fetched})}',
        where=name,
        fix="use one of these, a folder, or a hub id such as org/name",
    )


def _adapter(folder: Path) -> ModelError:
    return ModelError(
        "this is an adapter (adapter_config.json), not a whole model",
        where=str(folder),
        fix="name the model it was trained on, or merge it once with peft: merge_and_unload, then save_pretrained",
    )


def _refuse_oversized(config: Any, elements: int, folder: Path) -> None:
    """A config that claims far more than the weights hold would fill the memory before any tensor is read."""
    vocab, hidden, inner = (
        _number(config, *names) or 1
        for names in (
            ("vocab_size",),
            ("hidden_size", "d_model", "n_embd", "dim"),
            ("intermediate_size", "d_ff"),
        )
    )
    if max(vocab, inner) * min(hidden, 65_536) > 4 * elements + 1_000_000 or hidden > 1_000_000:
        raise ModelError(
            f"its config.json claims far larger tensors (vocabulary {vocab:,}, hidden {hidden:,}) than its "
            f"weights hold ({elements:,} numbers)",
            where=str(folder),
            fix="config.json and weights do not belong together: fetch the model again",
        )


def _max_length(config: Any, model_type: str, folder: Path) -> int | None:
    limits = []
    positions = _number(config, "max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    if positions and model_type not in _RELATIVE_TYPES:
        limits.append(positions - (int(config.get("pad_token_id") or 1) + 1 if model_type in _OFFSET_TYPES else 0))
    try:
        told = json.loads((folder / "tokenizer_config.json").read_text("utf-8")).get("model_max_length")
    except (OSError, ValueError, AttributeError, RecursionError):
        told = None
    if isinstance(told, (int, float)) and 0 < told < 10_000_000 and model_type not in _RELATIVE_TYPES:
        limits.append(int(told))
    return min(limits, default=None)


def _number(config: Any, *names: str) -> int | None:
    return next((config[n] for n in names if type(config.get(n)) is int and config[n] > 0), None)


def _remembered_sha256(path: Path) -> str:
    """The file's sha256, computed once for each length and time of change and kept in the cache folder."""
    real = path.resolve()
    status = real.stat()
    key, stamp = str(real), [status.st_size, status.st_mtime_ns, status.st_ino]
    notes = home() / "hashes.json"
    known = _read_notes(notes)
    note = known.get(key)
    if isinstance(note, list) and note[:3] == stamp and len(note) == 4:
        return str(note[3])
    digest = sha256_of(real)
    try:
        notes.parent.mkdir(parents=True, exist_ok=True)
        fresh = notes.with_name(f".hashes-{status.st_ino}.json")
        fresh.write_text(json.dumps({**known, key: [*stamp, digest]}), "utf-8")
        fresh.replace(notes)
    except OSError:
        pass  # only a note: without it the next run computes it again
    return digest


def _read_notes(notes: Path) -> dict[str, Any]:
    try:
        known = json.loads(notes.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}
