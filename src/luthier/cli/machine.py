"""`doctor`: this machine as luthier sees it, and what is left behind when luthier itself fails.

Neither holds environment variables, and both are cleaned of what looks like a secret.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import platform
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier import __version__
from luthier.errors import InputError

from .arguments import Json
from .bundle import redacted, refuse_place, write_bundle

EXTRAS = {"trackers": ("tensorboard", "mlflow", "wandb")}  # extra of pyproject.toml -> what it brings
KEPT_CRASHES = 20


def doctor(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="The run that --zip tells of.", show_default="the newest"),
    ] = None,
    json_: Json = False,
    zip_: Annotated[
        Path | None,
        typer.Option(
            "--zip", metavar="FILE", help="Write one file to attach to a bug report: what failed, how to repeat it."
        ),
    ] = None,
) -> int:
    """This machine as luthier sees it."""
    from luthier.terminal.printers import print_environment
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json, say
    from luthier.training.events import Phase

    if zip_ is not None:
        refuse_place(zip_)
    elif run is not None:
        raise InputError("a run is for a report of it", where=run, fix=f"luthier doctor {run} --zip report.zip")
    with Progress() as listen:
        listen(Phase("looking at this machine"))
        facts = environment()
    if json_:
        print_json(facts)
    else:
        print_environment(facts)
    if zip_ is not None:
        names = write_bundle(zip_, facts, _crashes(), run)
        say(f"wrote {zip_} ({', '.join(names)}): read it before you share it")
    return 0


def environment() -> dict[str, Any]:
    """Versions, device, memory, disk and folders. Values for a person; sizes in words."""
    from luthier.engine.device import find_machine
    from luthier.evidence.report.content import memory_text
    from luthier.models import home, listing, offline
    from luthier.run.provenance import environment as of_run

    folder = home()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    facts = of_run(find_machine("auto", folder / "machine.json"))
    facts.pop("command", None)
    return {
        **{name: value for name, value in facts.items() if value != ""},
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": memory_text(_memory()) or "unknown",
        "free disk": memory_text(shutil.disk_usage(there).free) or "none",
        "folder": redacted(str(folder)),
        "offline": offline(),
        "models here": [row["name"] for row in listing() if row["here"]],
        "extras": {
            extra: {name: importlib.util.find_spec(name) is not None for name in names}
            for extra, names in EXTRAS.items()
        },
        "crash reports": len(_crashes()),
    }


def write_crash(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """A report of an error that is our fault; where it lies, or None where it could not be written."""
    from luthier.models import home

    now = datetime.datetime.now(datetime.UTC)
    said = "".join(traceback.format_exception(error))
    text = "\n".join(
        [
            f"luthier {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"{now.isoformat(timespec='seconds')}",
            f"command: luthier {' '.join(arguments)}",
            "",
            said,
        ]
    )
    with contextlib.suppress(OSError):
        folder = home() / "crashes"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"crash-{now:%Y%m%d-%H%M%S-%f}.txt"
        path.write_text(redacted(text), "utf-8", errors="replace")
        for old in _crashes()[:-KEPT_CRASHES]:
            old.unlink(missing_ok=True)
        return path
    return None


def _crashes() -> list[Path]:
    from luthier.models import home

    return sorted((home() / "crashes").glob("crash-*.txt"))


def _memory() -> int:
    """Bytes of memory this process may use: the machine's, or its control group's limit; 0: unknown."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total
