"""Signs of life from long loops: how far they are, a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Say = Callable[[str, int], None]  # what is being done, and how many of the rows are done
APART = 0.25  # seconds between two signs


class Pulse:
    """Tells `say` where a loop is. It begins with a sign of its own, so that what is done next has a name."""

    def __init__(self, say: Say | None, what: str) -> None:
        self._say, self._what, self._next = say, what, time.monotonic() + APART
        if say is not None:
            say(what, 0)

    def __call__(self, done: int) -> None:
        if self._say is not None and (now := time.monotonic()) >= self._next:
            self._next = now + APART
            self._say(self._what, done)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, counted."""
        for done, item in enumerate(items):
            self(done)
            yield item
