"""Where a function is looked up, by words: so that a bar can put another in its place."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable
from typing import Any


def owner_of(module: str, path: str) -> tuple[Any, str]:
    """The module or class that holds `path` ("Job.encode") of `module`, and the last name of the path."""
    owner: Any = importlib.import_module(module)
    *above, last = path.split(".")
    for part in above:
        owner = getattr(owner, part)
    return owner, last


def at_call(module: str, path: str, number: int, act: Callable[[], None]) -> Callable[..., Any]:
    """In the place of `path` put a function that calls `act` before its `number`-th call of the one it replaces."""
    owner, last = owner_of(module, path)
    real: Callable[..., Any] = getattr(owner, last)
    calls = itertools.count(1)

    @functools.wraps(real)
    def struck(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            act()
        return real(*args, **kwargs)

    setattr(owner, last, struck)
    return struck
