"""Where a function is looked up, by words: so that a bar can put another in its place."""

from __future__ import annotations

import importlib
from typing import Any


def owner_of(module: str, path: str) -> tuple[Any, str]:
    """The module or class that holds `path` ("Job.encode") of `module`, and the last name of the path."""
    owner: Any = importlib.import_module(module)
    *above, last = path.split(".")
    for part in above:
        owner = getattr(owner, part)
    return owner, last
