"""B35: after any failure `luthier doctor --zip` makes one file that tells what failed and how to repeat it.

It holds no secret and nothing of the rows: words that stand in every row, and secrets in the environment, the
arguments, the recipe and the error's own message, must be nowhere in it.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import itertools
import json
import os
import random
import shlex
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bars import Bar, Trial
from places import owner_of

import tiny
from luthier import cli
from luthier.cli import bundle, machine
from luthier.files import write_jsonl

CANARY = "zebrafinch"  # in every row
SECRETS = {"HF_TOKEN": "hf_QxDuzKyvRtMbLpWs", "MY_PASSWORD": "correct-horse-9", "AWS": "AKIAIOSFODNN7EXAMPLE"}
URL = "https://me:opensesame@example.com/rows"
RUN_PARTS = {"run/recipe.yaml", "run/environment.json", "run/status.json", "run/data.json", "run/events.jsonl"}


@cache
def _model() -> Path:
    holder = tempfile.TemporaryDirectory()
    atexit.register(holder.cleanup)
    return tiny.save_model(Path(holder.name) / "bert", "bert")


def _stage(folder: Path) -> None:
    rows = [{"id": f"r{row.id}", "text": f"{CANARY} {row['text']}", "label": row["label"]} for row in tiny.reviews(60)]
    write_jsonl(folder / "rows.jsonl", rows)
    train = {"epochs": 4, "batch_size": 8, "dtype": "float32", "early_stopping_patience": 0}
    made = {
        "model": str(_model()),
        "task": {"name": "classification", "max_length": 64},
        "data": {"train": "rows.jsonl", "validation": 0.2, "test": 0.2},
        "train": train,
    }
    (folder / "mine.yaml").write_text(json.dumps(made, indent=1))


def _recipe_fault(folder: Path, draw: random.Random) -> list[str]:
    return ["train", "mine.yaml", "--set", f"train.epoch={SECRETS['HF_TOKEN']}"]


def _data_fault(folder: Path, draw: random.Random) -> list[str]:
    lines = (folder / "rows.jsonl").read_text().splitlines()
    at = draw.randrange(len(lines))
    lines[at] = lines[at].replace('"label": "', f'"label": ["{CANARY}"], "other": "')
    lines += lines[:3]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return ["train", "mine.yaml", "--out", "mine"]  # without it a refused run leaves nothing


def _fail(name: str, error: Callable[[], BaseException], after: int) -> Any:
    """`name` raises at its call number `after`."""
    module, _, path = name.partition(":")
    owner, last = owner_of(module, path)
    real, calls = getattr(owner, last), itertools.count(1)

    def struck(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == after:
            raise error()
        return real(*args, **kwargs)

    return patch.object(owner, last, struck)


TRAIN = ["train", "mine.yaml", "--set", "seed=11"]
STEP = "luthier.training.loop:_Stepper._backward"
# Kind -> (exit code, arguments, what breaks, whether there is a run, whether there is a traceback).
Kind = tuple[int, Callable[[Path, random.Random], list[str]], Callable[[random.Random], Any], bool, bool]
_nothing: Callable[[random.Random], Any] = lambda draw: contextlib.nullcontext()


def _crash(draw: random.Random) -> Any:
    said = f"cannot take {{'text': '{CANARY} is \\'fine\\''}} from {URL} with {SECRETS['MY_PASSWORD']}"
    where = draw.choice([STEP, "luthier.run.job:Job.save", "luthier.run.prove:write_report"])
    return _fail(where, lambda: RuntimeError(said), 1)


def _not_finite(draw: random.Random) -> Any:
    return patch("luthier.training.loop._Stepper._backward", lambda self, indices: float("nan"))


def _memory(draw: random.Random) -> Any:
    return _fail(STEP, lambda: MemoryError(), draw.randint(1, 6))


def _stopped(draw: random.Random) -> Any:
    return _fail(STEP, lambda: KeyboardInterrupt(), draw.randint(1, 6))


KINDS: dict[str, Kind] = {
    "a key mistyped": (2, _recipe_fault, _nothing, False, False),
    "faults in the data": (2, _data_fault, _nothing, True, False),
    "our own fault": (
        70,
        lambda f, d: [*TRAIN, "--set", f"model={_model()}"],
        _crash,
        True,
        True,
    ),
    "a loss that is no number": (2, lambda f, d: TRAIN, _not_finite, True, False),
    "no memory": (4, lambda f, d: TRAIN, _memory, True, False),
    "stopped": (130, lambda f, d: TRAIN, _stopped, True, False),
    "no such run": (2, lambda f, d: ["predict", "7", "--input", "rows.jsonl"], _nothing, False, False),
}


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    draw = random.Random(seed)
    names = [CONCERNS[twin]] if twin else list(KINDS)
    for name in itertools.islice(itertools.cycle(names), count):
        yield Trial(name, _fault(name, draw, twin))


def _fault(name: str, draw: random.Random, twin: str) -> str:
    code, arguments, breaks, has_run, has_crash = KINDS[name]
    out = io.StringIO()
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place) / "work"
        folder.mkdir()
        _stage(folder)
        given = arguments(folder, draw)
        stack.enter_context(contextlib.chdir(folder))
        own = {"LUTHIER_HOME": str(folder / "home"), "LUTHIER_OFFLINE": "1", **SECRETS}
        stack.enter_context(patch.dict(os.environ, own))
        for change in _put_in(twin):
            stack.enter_context(change)
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(out))
        # Which of two precisions is faster is measured on every new machine, for seconds.
        stack.enter_context(patch("luthier.engine.device._faster_dtype", lambda name, memory: "float32"))
        with breaks(draw):
            left = cli.main(given)
        if left != code:
            return f"it left with {left}, not {code}: {out.getvalue()[-300:]}"
        if cli.main(["doctor", "--zip", "report.zip"]) != 0:
            return f"doctor failed: {out.getvalue()[-300:]}"
        with zipfile.ZipFile("report.zip") as opened:
            parts = {one: opened.read(one).decode() for one in opened.namelist()}
    return _incomplete(parts, given, code, has_run, has_crash) or _leaks(parts)


def _incomplete(parts: dict[str, str], given: list[str], code: int, has_run: bool, has_crash: bool) -> str:
    trained = has_run and given[:3] == TRAIN[:3]
    late = {"run/environment.json", "run/events.jsonl"}  # not written by a run that its rows stopped
    of_run = RUN_PARTS - (set() if trained else late) if has_run else set()
    wanted = {"environment.json", "failure.json", "replay.txt"} | of_run
    missing = {one for one in wanted if not parts.get(one)}
    if missing:
        return f"{sorted(missing)} not in it"
    crashes = [text for one, text in parts.items() if one.startswith("crash-")]
    if bool(crashes) != has_crash or any("Traceback" not in text for text in crashes):
        return f"{len(crashes)} tracebacks"
    failure = json.loads(parts["failure.json"])
    if failure["exit_code"] != code or failure["arguments"] != [bundle.redacted(one) for one in given]:
        return f"failure.json tells of another failure: {failure}"
    clean = [one if one not in SECRETS.values() else bundle.LEFT_OUT for one in failure["arguments"]]
    if shlex.join(["luthier", *clean]) not in parts["replay.txt"]:
        return f"no command to repeat it: {parts['replay.txt']}"
    if "torch" not in json.loads(parts["environment.json"]):
        return "no versions"
    if has_run and "luthier train run/recipe.yaml" not in parts["replay.txt"]:
        return "no command to repeat the run"
    return ""


def _leaks(parts: dict[str, str]) -> str:
    bad = {"a row": CANARY, "a URL's password": "opensesame", **SECRETS}
    if len(str(Path.home())) > 1:
        bad["the home folder"] = str(Path.home())
    found = [f"{what} in {name}" for name, text in parts.items() for what, word in bad.items() if word in text]
    return ", ".join(found)


TWINS = {
    "secrets-inside": "nothing is cleaned",
    "rows-inside": "messages keep what they quote",
    "whole-data-report": "data.json goes in as it is",
    "no-replay": "no command to repeat it",
    "unnoted": "what failed is not noted",
    "crash-forgotten": "the traceback is left out",
}
CONCERNS = {
    "secrets-inside": "our own fault",
    "rows-inside": "our own fault",
    "whole-data-report": "faults in the data",
    "no-replay": "no memory",
    "unnoted": "a key mistyped",
    "crash-forgotten": "our own fault",
}


def _put_in(twin: str) -> list[Any]:
    from luthier.cli import app

    if twin == "secrets-inside":
        return [
            patch.object(bundle, "redacted", lambda text: text),
            patch.object(machine, "redacted", lambda text: text),
        ]
    if twin == "rows-inside":
        return [patch.object(bundle, "without_rows", lambda message: message)]
    if twin == "whole-data-report":
        return [patch.object(bundle, "_DATA_KEYS", (*bundle._DATA_KEYS, "faults"))]
    if twin == "no-replay":
        return [patch.object(bundle, "_replay", lambda failure, run: "")]
    if twin == "unnoted":
        return [patch.object(app, "note_failure", lambda error, arguments: None)]
    if twin == "crash-forgotten":
        return [patch.object(machine, "_crashes", lambda: [])]
    return []


BAR = Bar(
    "doctor",
    "After a failure of any kind one zip with recipe, environment, events, status, traceback and the commands to "
    "repeat it; no secrets, nothing of the rows.",
    35,
    trials,
    TWINS,
)
