"""Runs of luthier as processes that are forked from one which has everything loaded, and can be killed at will.

Loading torch takes seconds, and bars start hundreds of processes. The nursery computes nothing itself, so a fork of
it is as fresh as a new process.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

PLOTS = "LUTHIER_TRUST_PLOTS"
"""Set to 0, reports are written without their plots, which take half of so small a run."""

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Nursery:
    """`start` gives a process that runs the command line with these arguments."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(HERE), str(ROOT / "tests")]),
            "CUDA_VISIBLE_DEVICES": "",
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def start(
        self,
        arguments: Sequence[str],
        *,
        home: Path,
        log: Path,
        module: str = "",
        twin: str = "",
        cut: dict[str, Any] | None = None,
        watch: Path | None = None,
        trace: Path | None = None,
        rows: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> Child:
        """`module` and `twin` name a bug of TWINS there, put in before the start; `cut` is for `_Scissors`.

        `watch` is the folder whose file operations are counted, and written to `trace`; `rows` takes a line a
        micro-batch; `env` is added to the environment.
        """
        request = {
            "arguments": list(arguments),
            "home": str(home),
            "log": str(log),
            "module": module,
            "twin": twin,
            "cut": cut,
            "env": env or {},
            **{k: str(v) if v else "" for k, v in {"watch": watch, "trace": trace, "rows": rows}.items()},
        }
        return Child(self, int(self.ask(request)["pid"]))

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the nursery has died")
        return dict(json.loads(line))


@cache
def the_nursery() -> Nursery:
    """One for the whole process, gone with it."""
    nursery = Nursery()
    atexit.register(nursery.close)
    return nursery


def as_ranks(count: int) -> list[dict[str, str]]:
    """The environment of each of `count` processes, as torchrun gives it to those that it starts together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


class Child:
    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.nursery, self.pid = nursery, pid
        self.started = time.monotonic()

    def poll(self) -> int | None:
        """Its exit code (minus the signal that killed it), or None while it runs."""
        code = self.nursery.ask({"poll": self.pid})["code"]
        return None if code is None else int(code)

    def wait(self, seconds: float = 120) -> int:
        """Its exit code; it is killed, and TimeoutError raised, if it takes longer than `seconds`."""
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"still running after {seconds:.0f} s")
            time.sleep(0.01)
        return code

    def send(self, number: int) -> None:
        """A signal for its whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


# In the nursery


def _serve() -> None:
    for name in ("accelerate", "peft", "sklearn.linear_model", "matplotlib.figure", "transformers", "luthier.cli"):
        importlib.import_module(name)
    for name in ("luthier.run", "luthier.training.loop", "luthier.run.prove", "luthier.evidence.report.page"):
        importlib.import_module(name)
    import tiny

    for architecture in ("bert", "llama"):  # classes that transformers loads when they are first used
        tiny._model_parts(architecture, {})
    print(json.dumps({"ready": True}), flush=True)
    codes: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid = request["poll"]
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            print(json.dumps({"code": codes.get(pid)}), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            _run(request)
        codes.pop(pid, None)  # of an earlier process with this number
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # whichever of the two comes first
        print(json.dumps({"pid": pid}), flush=True)


def _run(request: dict[str, Any]) -> None:
    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        out = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ["LUTHIER_HOME"] = request["home"]
        os.environ.update(request["env"])
        import matplotlib

        from luthier.cli import main

        matplotlib.use("Agg")
        if os.environ.get(PLOTS) == "0":
            importlib.import_module("luthier.run.prove").write_report = lambda path, content: path.write_text("<html>")
        if request["rows"]:
            _note_rows(request["rows"])
        if request["twin"]:
            importlib.import_module(request["module"]).put_in(request["twin"])
        if request["watch"]:
            sys.addaudithook(_Scissors(request["watch"], request["cut"], request["trace"]))
        code = main(request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


_FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate"}


class _Scissors:
    """Counts what is done to files under a folder, and kills the process before one of these operations.

    `cut` is {"at": n} (the n-th operation) or {"in": word, "at": n} (the n-th whose path holds the word), with
    "delay" seconds to wait. Operations in other languages than Python are not seen; a delay may fall into them.
    """

    def __init__(self, folder: str, cut: dict[str, Any] | None, trace: str) -> None:
        self.folder, self.cut, self.count = folder, cut, 0
        self.trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if trace else -1
        self.pid = os.getpid()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _FILE_EVENTS or not args or os.getpid() != self.pid:
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else ""
        if not path.startswith(self.folder):
            return
        if self.trace >= 0:
            os.write(self.trace, f"{event} {path[len(self.folder) :]}\n".encode())
        if self.cut is None or self.cut.get("in", "") not in path:
            return
        self.count += 1
        if self.count == self.cut["at"]:
            _kill_soon(self.cut.get("delay", 0.0))


def _kill_soon(delay: float) -> None:
    own = os.getpid()
    if not delay:
        os.kill(own, signal.SIGKILL)
    if os.fork() == 0:
        time.sleep(delay)
        os.kill(own, signal.SIGKILL)
        os._exit(0)


def _note_rows(path: str) -> None:
    """Write each micro-batch of training, with its step, to `path`, as it is about to be computed."""
    from luthier.training import loop

    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    step, batch = loop._Stepper.step, loop._Stepper._batch
    now = [0]

    def noted_step(self: Any, position: Any) -> Any:
        now[0] = position.step + 1
        done = step(self, position)
        os.write(file, f"{json.dumps([os.getpid(), now[0], 'done'])}\n".encode())
        return done

    def noted_batch(self: Any, indices: Any) -> Any:
        os.write(file, f"{json.dumps([os.getpid(), now[0], [int(i) for i in indices]])}\n".encode())
        return batch(self, indices)

    loop._Stepper.step, loop._Stepper._batch = noted_step, noted_batch  # type: ignore[method-assign]


if __name__ == "__main__":
    _serve()
