"""SIGINT and SIGTERM: asked once, the run saves and stops; asked again, it stops at once.

Schedulers, and terminals by way of a wrapper, send a signal twice within moments and mean it once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAME = 1.0  # seconds within which a second signal is the first one said twice


class Watch:
    """`asked` is the signal's number once one has come; whoever works looks at it where nothing would be lost."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.hear(number)
            _tell("stopping where nothing is lost; once more stops at once")
        elif time.monotonic() - self._since > SAME:
            raise KeyboardInterrupt

    def hear(self, number: int) -> None:
        """One that came, to this process or to another that works on the same run."""
        if self.asked is None:
            self.asked, self._since = number, time.monotonic()


def _tell(text: str) -> None:
    """A line for whoever sits at the terminal. A signal may come in the middle of a print, so none is used."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), f"\r\x1b[K{text}\n".encode())


@contextmanager
def watching() -> Iterator[Watch]:
    """Handle both signals while the block runs; outside the main thread nothing is handled."""
    watch = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watch
        return
    before = {number: signal.signal(number, watch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield watch
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
