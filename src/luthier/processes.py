"""Whether a process still lives, by its number and when it began."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def alive(pid: Any, start: str | None = None) -> bool:
    """Whether the process runs, and, with `start`, is not another one that was given the number since."""
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    now = start_of(pid)
    return now != "" and (start is None or now is None or now == start)


def start_of(pid: int) -> str | None:
    """When a process began, as the kernel counts it; "" if it is over, None where the kernel does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else None
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]  # state, and starttime: fields 3 and 22 of the line
