"""Chat templates as text, in a process that is stopped after 2 seconds or 1 MB: see template_process.py."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from luthier.errors import LuthierError
from luthier.secrets import is_secret_name

PROCESS = "luthier.engine.chat.template_process"
SECONDS = 2.0  # of computing, for one dialog
PATIENCE = 60.0  # seconds of waiting for one dialog, on a machine that is busy
START = 120.0  # and for the process to begin


class TemplateError(Exception):
    """A template that cannot be rendered for these messages; its text says why."""


class TemplateStopped(TemplateError):
    """A template that had to be stopped; what it was to render after that is not even tried."""


def request(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None,
    cuts: Sequence[tuple[int, bool]],
    tokens: Mapping[str, str],
) -> bytes:
    """For each cut (count, prompt): the first `count` messages as text, and with `prompt` the words that begin an
    answer. `tokens` are what a template may name (`bos_token`, `eos_token`).
    """
    asked = {
        "template": template,
        "messages": [{k: v for k, v in turn.items() if v is not None} for turn in messages],
        "tools": list(tools) if tools else None,
        "tokens": dict(tokens),
        "cuts": [list(cut) for cut in cuts],
        "seconds": SECONDS,
    }
    return json.dumps(asked).encode() + b"\n"


def render(requests: Sequence[bytes]) -> list[list[str] | TemplateError]:
    """The texts of each request as transformers renders them; or the error where the template refuses these messages,
    breaks, or takes too long or too much.
    """
    out: list[list[str] | TemplateError] = []
    for reply in _process.ask(requests):
        kind = TemplateStopped if reply.get("stopped") else TemplateError
        out.append(reply["texts"] if "texts" in reply else kind(reply["error"]))
    return out


class _Process:
    """The process that renders, started when it is needed and again after it had to be stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0  # the process that started it: a fork must not write into the same pipe
        self._running: subprocess.Popen[bytes] | None = None
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def ask(self, lines: Sequence[bytes]) -> list[dict[str, Any]]:
        """One reply a line. All lines are sent at once; one that ends the process is the answer to those after it."""
        out: list[dict[str, Any]] = []
        with self._lock:
            running = self._running
            if running is None or self._owner != os.getpid() or running.poll() is not None:
                running = self._start()
            threading.Thread(target=_write, args=(running.stdin, lines), daemon=True).start()
            try:
                while len(out) < len(lines):
                    try:
                        reply = self._replies.get(timeout=PATIENCE)
                    except queue.Empty:
                        reply = b""
                    if not reply:
                        stopped = {"error": self._why_it_ended(), "stopped": True}
                        return [*out, *(stopped for _ in lines[len(out) :])]
                    out.append(json.loads(reply))
            except BaseException:  # Ctrl-C: the replies that are still to come answer nobody's next question
                self.close()
                raise
        return out

    def _start(self) -> subprocess.Popen[bytes]:
        self._replies = queue.SimpleQueue()
        paths = os.pathsep.join(path for path in sys.path if path)
        kept = {name: value for name, value in os.environ.items() if not is_secret_name(name)}
        running = subprocess.Popen(
            [sys.executable, "-m", PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C is for this process to answer
        )
        self._running, self._owner = running, os.getpid()
        threading.Thread(target=_read, args=(running.stdout, self._replies), daemon=True).start()
        try:
            ready = self._replies.get(timeout=START)
        except queue.Empty:
            ready = b""
        if not ready:
            self.close()
            raise LuthierError(
                "the process that renders chat templates did not start",
                where=PROCESS,
                fix=f"run {sys.executable} -m {PROCESS} to see why",
            )
        return running

    def _why_it_ended(self) -> str:
        running = self._running
        with contextlib.suppress(subprocess.TimeoutExpired, AttributeError):
            running.wait(1)  # type: ignore[union-attr]
        code = running.returncode if running is not None else None
        self.close()
        if code is None or code == -getattr(signal, "SIGPROF", 0):
            return f"it takes longer than {SECONDS:g} seconds"
        return "it broke the process that rendered it"

    def close(self) -> None:
        """End the process, if this one started it."""
        running, self._running = self._running, None
        if running is None or self._owner != os.getpid():
            return
        running.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(5)
        for stream in (running.stdin, running.stdout):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()


def _write(stream: IO[bytes], lines: Sequence[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):  # it ended; what is missing is seen where replies are read
        for line in lines:
            stream.write(line)
        stream.flush()


def _read(stream: IO[bytes], replies: queue.SimpleQueue[bytes]) -> None:
    """Pass lines on, and an empty one at the end."""
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            replies.put(line)
    replies.put(b"")


_process = _Process()
atexit.register(_process.close)
