"""No search for reference cycles while rows are made by the million."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For blocks, and as `@uncollected()` for functions, that make many objects and no cycles.

    Python looks through all objects for cycles whenever their number has grown by a quarter. Among a million rows,
    which hold none, each time takes a second or more: a quarter of the whole time, in which nothing is heard.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
