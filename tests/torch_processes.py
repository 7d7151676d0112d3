"""How many processes import torch while tests run. Each costs seconds, so there may be `MOST` of them."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from importlib.abc import MetaPathFinder

NOTES = "LUTHIER_TEST_TORCH"  # environment variable: the file that takes a line a process
MOST = 40


class _Notes(MetaPathFinder):
    """Finds nothing; notes that torch is being loaded, not that somebody asks whether it is there. A process that was
    forked from one that has it loads nothing.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torch._C":
            sys.meta_path.remove(self)
            with open(os.environ.get(NOTES) or os.devnull, "a") as file:  # noqa: PTH123, cheap enough for every start
                file.write(" ".join([str(os.getpid()), *sys.argv[:3]])[:200].replace("\n", " ") + "\n")


def begin() -> None:
    """For the process of the tests and all it starts."""
    if NOTES not in os.environ:
        notes = tempfile.NamedTemporaryFile(prefix="luthier-torch-")  # noqa: SIM115, gone with this process
        atexit.register(notes.close)
        os.environ[NOTES] = notes.name
    watch()


def watch() -> None:
    """From now on, in this process."""
    sys.meta_path.insert(0, _Notes())


def counted() -> list[str]:
    """A line for each process so far: its number and how it was called."""
    with open(os.environ.get(NOTES) or os.devnull) as file:  # noqa: PTH123
        lines = file.read().splitlines()
    return list({line.split()[0]: line for line in lines}.values())
