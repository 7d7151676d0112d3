"""Runs through the command line, in one process or in several that meet as torchrun's do; and bugs put into those.

The processes are forked from the nursery: gloo works in a fork of a process that has computed nothing.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
from nursery import as_ranks, the_nursery

from luthier.runs import RunFolder


def carried_out(recipe: dict[str, Any], run: Path, ranks: int, twin: str = "", seconds: float = 120) -> str:
    """`luthier train` in so many processes, all of which must leave with 0; what went wrong, "" if nothing."""
    file = run.with_suffix(".json")
    file.write_text(json.dumps(recipe))
    environments: list[dict[str, str]] = as_ranks(ranks) if ranks > 1 else [{}]
    logs = [run.with_suffix(f".log-{rank}") for rank in range(ranks)]
    children = [
        the_nursery().start(
            ["train", str(file), "--out", str(run)],
            home=run.with_suffix(".home"),
            log=log,
            module=__name__ if twin else "",
            twin=twin,
            env=own,
        )
        for own, log in zip(environments, logs)
    ]
    try:
        codes = [child.wait(seconds) for child in children]
    except TimeoutError as error:
        return str(error)
    finally:
        for child in children:
            if child.poll() is None:
                child.send(signal.SIGKILL)
    if any(codes):
        return f"they left with {codes}: {''.join(log.read_text()[-300:] for log in logs)}"
    lines = [line for log in logs[1:] for line in log.read_text().splitlines()]
    # PyTorch's own word where a machine cannot tell the name of a local address.
    if said := "\n".join(line for line in lines if line.strip() and "[c10d]" not in line):
        return f"another process than the main one spoke: {said[-300:]}"
    return "" if RunFolder(run).finished() else "it left with 0 and is not finished"


TWINS = {
    "share-as-mean": "each process's share of a step weighs the same, whatever it holds",
    "duplicates-counted": "rows are padded to a multiple of the processes, and the copies are scored",
    "other-seed": "the command line trains with another seed than Python",
}


def put_in(twin: str) -> None:
    """The bug, in this process."""
    from luthier.run import prove, start
    from luthier.training import loop

    if twin == "share-as-mean":
        backward = loop._Stepper._backward

        def broken(self: Any, indices: Any) -> float:
            count, whole = self.t.ranks.count, self.weight
            pieces = loop.micro_batches(indices, self.t.examples.lengths, int(self.t.options.token_budget), count)
            own = np.concatenate(self.t.ranks.share(pieces))
            self.weight = float(self.weights[own].sum()) * count
            try:
                return backward(self, indices)
            finally:
                self.weight = whole

        loop._Stepper._backward = broken  # type: ignore[method-assign]
    elif twin == "duplicates-counted":
        evaluate = prove.evaluate

        def padded(task: Any, rows: Any, answers: Any, rivals: Any, *rest: Any) -> Any:
            more = len(rows) % 2
            rivals = {name: [*given, *given[:more]] for name, given in rivals.items()}
            return evaluate(task, [*rows, *rows[:more]], [*answers, *answers[:more]], rivals, *rest)

        prove.evaluate = padded
    elif twin == "other-seed":
        train = start.train
        start.train = lambda *given, **more: train(*given, **{**more, "overrides": ["seed=8"]})
    else:
        raise ValueError(twin)
