"""B34: what people get wrong ends in a few lines that say where, what and what to do, before a weight is loaded.

`python benchmarks/trust/mistakes.py --show` prints every message, for a reader to judge.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":
    import run  # noqa: F401  (the paths)

from bars import Bar, Trial
from mistaken import MISTAKES, Mistake, stage

from luthier import cli
from luthier.cli import app as app_module

LINES = 12
# What tells what to do: its own line, or for a recipe's key what may stand there.
NEXT = ("\nFix: ", "Did you mean", "Allowed: ", "luthier calls it", "It is a key of", "must be")
EARLY = 0.9  # share of the mistakes that must be found before weights are loaded
LOADERS = ("luthier.models.load_pretrained", "luthier.models.load.load_pretrained")


@dataclass
class Said:
    """What came of one mistake."""

    code: int
    out: str
    err: str
    loaded: bool

    @property
    def text(self) -> str:
        return self.out + self.err


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """Each mistake once, in an order of the seed's; with a twin first those that it concerns."""
    order = list(MISTAKES)
    random.Random(seed).shuffle(order)
    if twin:
        order.sort(key=lambda one: one.name not in CONCERNS[twin])
    late = 0
    for mistake in order[:count]:
        said = make(mistake, twin)
        late += said.loaded
        fault = fault_of(mistake, said)
        if not fault and late > (1 - EARLY) * count:
            fault = f"weights were loaded first, as for {late} of {count} mistakes"
        yield Trial(f"{mistake.name}: luthier {' '.join(mistake.arguments)}", fault)


def fault_of(mistake: Mistake, said: Said) -> str:
    lines = said.text.strip().splitlines()
    if "Traceback" in said.text:
        return "a traceback"
    if said.code != mistake.code:
        return f"exit code {said.code}, not {mistake.code}: {said.text[-300:]}"
    if len(lines) > LINES:
        return f"{len(lines)} lines"
    if sum(line.startswith("error: ") for line in lines) != 1 or not any(word in said.text for word in NEXT):
        return f"no cause or nothing to do: {said.text[-300:]}"
    if missing := [word for word in mistake.says if word not in said.text]:
        return f"{missing} is not in: {said.text[-300:]}"
    return ""


def make(mistake: Mistake, twin: str = "") -> Said:
    """Make a mistake in a fresh copy of the stage, in this process."""
    out, err, loaded = io.StringIO(), io.StringIO(), []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name) / "work"
        shutil.copytree(_the_stage(), folder)
        mistake.prepare(folder)
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(patch.dict(os.environ, {"LUTHIER_HOME": str(folder / "home"), "LUTHIER_OFFLINE": "1"}))
        for change in (*_spies(loaded), *_put_in(twin)):
            stack.enter_context(change)
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        code = cli.main(list(mistake.arguments))
    return Said(code, out.getvalue().replace(name, ""), err.getvalue().replace(name, ""), bool(loaded))


def _spies(loaded: list[str]) -> list[Any]:
    from luthier import models

    real = models.load_pretrained

    def spy(*args: Any, **kwargs: Any) -> Any:
        loaded.append("weights")
        return real(*args, **kwargs)

    return [patch(name, spy) for name in LOADERS]


@cache
def _the_stage() -> Path:
    """Files, models and two finished runs; copied for each mistake."""
    holder = tempfile.TemporaryDirectory()
    atexit.register(holder.cleanup)
    folder = Path(holder.name) / "stage"
    folder.mkdir()
    stage(folder)
    with (
        contextlib.chdir(folder),
        patch.dict(os.environ, {"LUTHIER_HOME": str(folder / "home"), "LUTHIER_OFFLINE": "1"}),
        patch("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>")),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        codes = [cli.main(["train", name]) for name in ("classify.yaml", "answer.yaml")]
    if any(codes):
        raise RuntimeError(f"the runs failed:\n{err.getvalue()}")
    return folder


TWINS = {
    "our-fault": "what a person gets wrong is called luthier's own fault",
    "traceback": "tracebacks are shown",
    "no-remedy": "messages say what was found and not what to do",
    "every-row": "all faults of the data are listed",
    "weights-first": "the model is loaded before the rows are read",
}
_DATA = {"labels missing", "wrong answer starts", "fewer tags than words", "one label", "no label column"}
CONCERNS = {
    "our-fault": {"recipe mistyped"},
    "traceback": {"recipe mistyped"},
    "no-remedy": {"recipe mistyped"},
    "every-row": {"labels missing"},
    "weights-first": _DATA,
}


def _put_in(twin: str) -> list[Any]:
    from luthier.errors import InputError, LuthierError
    from luthier.run import prepare as prepare_module
    from luthier.run.job import Job

    if twin == "our-fault":
        return [patch.object(InputError, "exit_code", 70)]
    if twin == "traceback":
        leave = app_module._leave

        def show(error: BaseException, *args: Any, **kwargs: Any) -> int:
            import traceback

            traceback.print_exception(error, file=sys.stderr)
            return leave(error, *args, **kwargs)

        return [patch.object(app_module, "_leave", show)]
    if twin == "no-remedy":
        plain = app_module.print_error

        def curt(error: Any) -> None:
            plain(LuthierError(error.found, where=error.where) if isinstance(error, LuthierError) else error)

        return [patch.object(app_module, "print_error", curt)]
    if twin == "every-row":
        refuse = prepare_module.refuse_errors

        def wordy(prepared: Any) -> None:
            for fault in prepared.errors:
                print(fault.message, file=sys.stderr)
            refuse(prepared)

        return [patch("luthier.run.job.refuse_errors", wordy)]
    if twin == "weights-first":
        prepare = Job.prepare

        def hasty(self: Any) -> None:
            from transformers import AutoModel

            from luthier import models

            models.load_pretrained(self.source, AutoModel, head=("pooler",))
            prepare(self)

        return [patch.object(Job, "prepare", hasty)]
    return []


BAR = Bar(
    "mistakes",
    "What people get wrong: no traceback, the documented exit code, at most 12 lines, where, what and what to do; nine "
    "in ten before weights are loaded.",
    len(MISTAKES),
    trials,
    TWINS,
)


def show() -> None:
    """Every mistake with its message."""
    for number, mistake in enumerate(MISTAKES, 1):
        said = make(mistake)
        fault = fault_of(mistake, said)
        print(f"\n{number}. {mistake.name}{', WEIGHTS LOADED' if said.loaded else ''}{f'  [{fault}]' if fault else ''}")
        print(f"$ luthier {' '.join(mistake.arguments)}    -> {said.code}")
        print(said.text.rstrip())


if __name__ == "__main__":
    if sys.argv[1:] != ["--show"]:
        raise SystemExit("usage: python benchmarks/trust/mistakes.py --show")
    show()
