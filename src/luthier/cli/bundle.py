"""One file to attach to a bug report: what failed, how to repeat it, with what; no secrets, and no rows of the data.

| in it | what |
| --- | --- |
| `environment.json` | versions, device, memory, disk |
| `failure.json` | the last command that failed: its arguments, folder, exit code and message |
| `crash-*.txt` | the newest traceback of an error that is luthier's own fault |
| `run/` | of the newest run: `recipe.yaml`, `environment.json`, `status.json`, `data.json` (hashes and numbers), the end of `events.jsonl` |
| `replay.txt` | the commands that repeat it |
"""  # noqa: E501

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import re
import shlex
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from luthier.errors import InputError, LuthierError
from luthier.files import write_new
from luthier.runs import RunFolder, find_run, known_runs
from luthier.secrets import LEFT_OUT, without_secrets

from .arguments import writing

TAIL = 200  # events
FAILURE = "last-failure.json"  # in luthier's home
_DATA_KEYS = ("format", "columns", "read", "kept", "splits", "fault_counts")
_FILE_KEYS = ("path", "sha256", "bytes", "encoding", "format", "rows")
_QUOTED = re.compile(r'"[^"\n]*"|(?<!\w)\'(?:\\.|[^\'\n\\])*\'')


def redacted(text: str) -> str:
    """`text` without what looks like a secret, or is one in the environment, and with ~ for the person's home."""
    own = str(Path.home())
    return without_secrets(text.replace(own, "~") if len(own) > 1 else text, shared=True)


def without_rows(message: str) -> str:
    """A message without what it quotes, which may be the text of a row."""
    return _QUOTED.sub(f'"{LEFT_OUT}"', message)


def note_failure(error: LuthierError, arguments: Sequence[str]) -> None:
    """Keep what failed last, for a report of it; a home that cannot be written costs the note alone."""
    from luthier.files import write_json
    from luthier.models import home

    facts = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "arguments": [redacted(one) for one in arguments],
        "folder": redacted(str(Path.cwd())),
        "exit_code": error.exit_code,
        "where": redacted(error.where),
        "found": redacted(without_rows(error.found)),
        "fix": redacted(without_rows(error.fix)),
    }
    with contextlib.suppress(OSError, LuthierError):
        write_json(home() / FAILURE, facts)


def refuse_place(path: Path) -> None:
    """InputError if no new file can be made there."""
    if path.is_dir():
        inside = shlex.quote(str(path / "report.zip"))
        raise InputError("it is a folder", where=str(path), fix=f"name a file in it: --zip {inside}")
    if path.exists():
        beside = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
        free = shlex.quote(str(next(other for other in beside if not other.exists())))
        raise InputError("it is already there", where=str(path), fix=f"name a new file: --zip {free}")
    above = next(place for place in path.absolute().parents if place.exists())
    if not above.is_dir():
        raise InputError(f"{above} is a file, and no folder", where=str(path), fix=f"--zip {path.name} writes it here")
    if not path.parent.is_dir():
        fix = f"mkdir -p {shlex.quote(str(path.parent))}, or --zip {path.name} writes it here"
        raise InputError("its folder is not there", where=str(path), fix=fix)


def write_bundle(path: Path, facts: dict[str, Any], crashes: Sequence[Path], run: str | None) -> list[str]:
    """Write the zip; the names in it. `run` is a run's name, by default the newest."""
    from luthier.models import home

    failure = _read(home() / FAILURE)
    folder = find_run(run, home(), Path.cwd()) if run is not None else _newest(home())
    parts: dict[str, str] = {"environment.json": json.dumps(facts, indent=1, default=str)}
    if failure is not None:
        parts["failure.json"] = json.dumps(failure, indent=1)
    for crash in crashes[-1:]:
        parts[crash.name] = _crash(crash.read_text("utf-8", errors="replace"))
    if folder is not None:
        parts |= {f"run/{name}": text for name, text in _run_parts(folder).items()}
    parts["replay.txt"] = _replay(failure, folder)

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, text in parts.items():
                bundle.writestr(name, redacted(text))

    with writing(path, "--zip"):
        new = write_new(path, write)
    if not new:
        refuse_place(path)
    return list(parts)


def _newest(home: Path) -> RunFolder | None:
    known = known_runs(home)
    return RunFolder(known[-1]) if known else None


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text("utf-8"))
        return value if isinstance(value, dict) else None
    return None


def _crash(text: str) -> str:
    """A traceback whose messages quote nothing. Lines of code are indented, messages are not."""
    return "\n".join(line if line[:1].isspace() else without_rows(line)[:300] for line in text.splitlines())


def _run_parts(run: RunFolder) -> dict[str, str]:
    """What tells how the run was made and how it ended. A file that cannot be read is left out."""
    from luthier.files import read_log

    def status() -> str:
        found = run.status()
        return json.dumps(
            {**found, "error": without_rows(str(found["error"]))} if "error" in found else found, indent=1
        )

    def data() -> str:
        found = _read(run.data) or {}
        files = [{key: one.get(key) for key in _FILE_KEYS} for one in found.get("files", ())]
        return json.dumps({"files": files, **{key: found.get(key) for key in _DATA_KEYS}}, indent=1)

    def events() -> str:
        last = read_log(run.events)[-TAIL:]
        for event in last:
            event.update({key: without_rows(str(event[key])) for key in ("found", "fix") if key in event})
        return "".join(json.dumps(event) + "\n" for event in last)

    made: dict[str, Callable[[], str]] = {
        "recipe.yaml": lambda: run.recipe.read_text("utf-8"),
        "environment.json": lambda: run.environment.read_text("utf-8"),
        "status.json": status,
        "data.json": data,
        "events.jsonl": events,
    }
    parts = {}
    for name, make in made.items():
        with contextlib.suppress(OSError, ValueError, LuthierError):
            parts[name] = make()
    return parts


def _replay(failure: dict[str, Any] | None, run: RunFolder | None) -> str:
    """The commands that repeat what failed, for whoever has the same rows."""
    lines = []
    if failure is not None:
        command = shlex.join(["luthier", *failure.get("arguments", ()), "--debug"])
        lines += ["# what failed last", f"cd {shlex.quote(str(failure.get('folder', '.')))}", command, ""]
    if run is not None:
        threads = (_read(run.environment) or {}).get("threads", 1)
        lines += [
            f"# the run {run.name}, from its own recipe (run/recipe.yaml here); data.json has its files' sha256",
            f"OMP_NUM_THREADS={threads} luthier train run/recipe.yaml --out replay",
        ]
    return "\n".join(lines or ["# nothing has failed, and there is no run"]) + "\n"
