"""B30: where memory runs out, a person is told the peak, the forecast and three ways to take less; nothing is lost."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kill
from bars import Bar, Trial
from nursery import the_nursery
from places import at_call

from luthier.errors import RunError
from luthier.files import read_json, read_log, verified
from luthier.training.checkpoint import complete

# Where memory is asked for: module, what is called there, and which of its calls fails.
POINTS: dict[str, tuple[str, str, int]] = {
    "encode": ("luthier.tasks.classification", "Classification.encode", 1),
    "load": ("transformers", "AutoModelForSequenceClassification.from_pretrained", 1),
    "untuned": ("luthier.run.job", "answer_examples", 1),
    "forward": ("luthier.training.loop", "_Stepper._forward", 40),
    "backward": ("torch", "Tensor.backward", 47),
    "optimizer": ("torch.optim", "AdamW.step", 19),
    "evaluation": ("luthier.run.job", "answer_examples", 4),
    "checkpoint": ("luthier.training.checkpoint", "save_file", 5),
    "save": ("luthier.methods.full", "Full.save", 1),
    "report": ("luthier.run.prove", "write_report", 1),
}
PYTORCH = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 3145728 bytes. Error code 12 (Cannot allocate memory)"
)
KINDS = ("python", "pytorch", "gpu", "system")
KIND = ("classification", "full")
WHOLE = re.compile(
    r"memory ran out at [\d.]+ [GM]B; the forecast was [\d.]+ [GM]B: weights .+; "
    r"(step-\d+ is intact|no step was saved yet)"
    r"\s+Fix: 1\. \S.*\(about [\d.]+ [GM]B.*; 2\. \S.*\(about [\d.]+ [GM]B.*; 3\. \S.*\(about [\d.]+ [GM]B"
)


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """Each point in turn, with what each library raises there."""
    draw = random.Random(seed)
    kinds = draw.sample(KINDS, len(KINDS))
    points = list(POINTS) if not twin else ["optimizer", *POINTS]
    for number, point in zip(range(count), itertools.cycle(points)):
        yield _trial(point, kinds[number % len(kinds)], twin)


def _trial(point: str, kind: str, twin: str) -> Trial:
    stage = kill.the_stage()
    run, whole, name = stage.next_run(), stage.reference(KIND), f"{point}, as {kind} says it"
    home, log, rows = (run.with_suffix(f".{end}") for end in ("home", "log", "rows"))
    begin = ["train", str(stage.recipe(KIND)), "--out", str(run)]
    code = _wait(begin, home, log, rows, f"{twin}+at:{point}:{kind}")
    said = log.read_text()
    if code != 4:
        return Trial(name, f"it left with {code}: {said[-400:]}")
    if not WHOLE.search(" ".join(said.split())):
        return Trial(name, f"the message does not say it all: {said[-700:]}")
    if "Traceback" in said or read_json(run / "status.json")["state"] != "failed":
        return Trial(name, "a traceback, or another state than failed")
    kept = complete(run / "checkpoints")
    try:
        for folder in kept:
            verified(folder)
    except RunError as error:
        return Trial(name, f"a checkpoint is not whole: {error}")
    if kept and f"{kept[-1].name} is intact" not in said:
        return Trial(name, f"{kept[-1].name} is there and is not named")
    if code := _wait(["resume"], home, log, rows, ""):
        return Trial(name, f"resume left with {code}: {log.read_text()[-400:]}")
    told = [event["from_step"] for event in read_log(run / "events.jsonl") if event["event"] == "resumed"]
    if kept and told[-1:] != [int(kept[-1].name.split("-")[1])]:
        return Trial(name, f"{kept[-1].name} was there, it went on from {told}")
    return Trial(name, kill.differs(run, rows, whole))


def _wait(arguments: list[str], home: Path, log: Path, rows: Path, twin: str) -> int:
    child = the_nursery().start(arguments, home=home, log=log, module=__name__, twin=twin, rows=rows)
    try:
        return child.wait()
    except TimeoutError:
        return -1


TWINS = {
    "words-not-known": "only Python's own MemoryError is known, not what PyTorch and the system say",
    "no-remedies": "what would help is not said",
    "no-estimates": "remedies come without what the run would then take",
    "checkpoints-lost": "the checkpoints are emptied, to make room",
}


def put_in(twin: str) -> None:
    """In this process: the bug, and the call that fails."""
    bug, _, strike = twin.partition("+at:")
    if strike:
        _strike(*strike.split(":"))
    if bug == "words-not-known":
        from luthier.run import start

        start.is_out_of_memory = lambda error: isinstance(error, MemoryError)
    elif bug == "no-remedies":
        from luthier.run.forecast import Outlook

        Outlook.remedies = lambda self, limit=0: []  # type: ignore[method-assign]
    elif bug == "no-estimates":
        from luthier.run.forecast import Remedy

        Remedy.text = property(lambda self: str(dict(self.change)))  # type: ignore[assignment]
    elif bug == "checkpoints-lost":
        from luthier.run import start

        told = start._ran_out

        def wasteful(error: BaseException, job: Any, folder: Any) -> Any:
            out = told(error, job, folder)
            for step in complete(folder.checkpoints):
                (step / "trained.safetensors").write_bytes(b"")
            return out

        start._ran_out = wasteful


def _strike(point: str, kind: str) -> None:
    """Let one call fail for want of memory."""
    module, path, when = POINTS[point]

    def fail() -> None:
        raise _error(kind)

    at_call(module, path, when, fail)


def _error(kind: str) -> BaseException:
    import torch

    if kind == "pytorch":
        return RuntimeError(PYTORCH)
    if kind == "gpu":
        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if kind == "system":
        return OSError(12, "Cannot allocate memory")
    return MemoryError()


BAR = Bar(
    "out_of_memory",
    "Where memory runs out, peak, forecast and three ranked remedies are told, and the run goes on as it was.",
    10,
    trials,
    TWINS,
)
