"""B29: of a run that was said to fit, memory never runs out: the same runs under limits about their own peaks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import memory
from bars import Bar, Trial

from luthier.files import read_log


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """Each setting once free, then under 0.8 to 1.5 times what it took; every second run may fit itself."""
    draw, stage = random.Random(seed), memory.the_stage()
    for number in range(count):
        setting = dict(memory.TELLING) if twin and not number else memory.drawn(draw)
        fault, _, held = stage.said_and_held(setting)
        if fault:
            yield Trial(str(setting), fault)
            continue
        limit = int(held * draw.uniform(0.8, 1.5))
        if number % 2:
            setting["train"] = {"fit": "auto"}
        run = stage.next_run()
        fault = stage.train(setting, run, f"{twin}+limit:{limit}")
        told = [event for event in read_log(run / "events.jsonl") if event["event"] == "memory"]
        fits = bool(told) and told[-1]["fits"]
        said = f"{'fits' if fits else 'does not fit'} under {limit / held:.2f} of the peak"
        if told and told[-1]["changed"]:
            said += f" with {told[-1]['changed']}"
        name = f"{setting['architecture']} {memory._short(setting['method'])}: {said}; {'ran out' if fault else 'done'}"
        yield Trial(name, f"said to fit, and then: {fault}" if fits and fault else "")


TWINS = {"always-fits": "every run is said to fit"}


def put_in(twin: str) -> None:
    """The limit, and the bug, in this process."""
    import resource

    bug, _, limit = twin.partition("+limit:")
    lines = Path("/proc/self/status").read_text().splitlines()
    held = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line[:2] == "Vm"}
    most = int(limit) + held["VmData"] - held["VmRSS"]
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if bug == "always-fits":
        from luthier.run import fitting

        fitting.SURE = 0.0


BAR = Bar(
    "memory_limit",
    "A run that is said to fit does not run out of memory, under whatever limit.",
    30,
    trials,
    TWINS,
)
