"""B1, B2: a run that is killed, anywhere and up to three times, ends as one that never was."""

from __future__ import annotations

import atexit
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bars import Bar, Trial
from nursery import Nursery, the_nursery

import tiny
from luthier.errors import RunError
from luthier.files import read_log, sha256_of, verified, write_jsonl
from luthier.records import Row
from luthier.runs import RunFolder
from luthier.training.checkpoint import complete

KINDS = [("classification", "full"), ("classification", "lora"), ("generation", "lora"), ("generation", "full")]
MODELS = {"classification": "bert", "generation": "llama"}
KEPT = 2
STEPS = 60  # at least
WINDOW = "checkpoints"  # what stands in the path of all that is done to save


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """Two in five are cut while a checkpoint is being saved, the others at any time; every third is cut again."""
    draw, stage = random.Random(seed), the_stage()
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        cuts = [_cut(draw, stage.reference(kind), in_window=number % 5 < 2)]
        for _ in range(draw.randint(1, 2) if number % 3 == 2 else 0):
            cuts.append(_cut(draw, stage.reference(kind), in_window=draw.random() < 0.4))
        yield _trial(stage, kind, cuts, twin)


@dataclass
class Reference:
    """What an uninterrupted run left, how long it took and what it did to its files."""

    left: dict[str, str]
    steps: dict[int, list[float]]
    rows: dict[int, list[list[int]]]
    seconds: float
    operations: int
    in_window: int


class Stage:
    """A folder with tiny models, recipes, and the runs that were never interrupted."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.folder, self.nursery = folder, nursery
        self.runs = 0
        self.references: dict[tuple[str, str], Reference] = {}

    def recipe(self, kind: tuple[str, str]) -> Path:
        """60 steps with dropout, shuffling and some three micro-batches each."""
        task, method = kind
        path = self.folder / f"{task}-{method}.yaml"
        if not path.exists():
            model = self.folder / MODELS[task]
            if not model.exists():
                dropout = {"attention_dropout": 0.1} if task == "generation" else {}
                tiny.save_model(model, MODELS[task], **dropout)
            rows = self.folder / f"{task}.jsonl"
            write_jsonl(rows, ({"id": row.id, **as_written(row)} for row in tiny.rows_for(task, 144)))
            about = {"max_new_tokens": 4} if task == "generation" else {}
            recipe = {
                "model": str(model),
                "task": {"name": task, "max_length": 64, **about},
                "data": {"train": str(rows), "validation": 0.17, "test": 0.16},
                "method": method,
                "train": {
                    "epochs": 5,
                    "batch_size": 8,
                    "learning_rate": 3e-3,
                    "dtype": "float32",
                    "token_budget": 64 if task == "classification" else 160,
                    "attention_dropout": 0.1,
                    "save_steps": 7,
                    "eval_steps": 10,
                    "early_stopping_patience": 0,
                    "save_total_limit": KEPT,
                },
            }
            path.write_text(json.dumps(recipe))
        return path

    def next_run(self) -> Path:
        """A folder for a run, which is not there yet."""
        self.runs += 1
        return self.folder / f"run-{self.runs}"

    def reference(self, kind: tuple[str, str]) -> Reference:
        if kind not in self.references:
            run = self.folder / f"whole-{'-'.join(kind)}"
            rows, trace = run.with_suffix(".rows"), run.with_suffix(".trace")
            start = time.monotonic()
            child = self.nursery.start(
                ["train", str(self.recipe(kind)), "--out", str(run)],
                home=run.with_suffix(".home"),
                log=run.with_suffix(".log"),
                watch=run,
                trace=trace,
                rows=rows,
            )
            code = child.wait()
            if code:
                raise RuntimeError(f"the uninterrupted run failed:\n{run.with_suffix('.log').read_text()[-2000:]}")
            seconds = time.monotonic() - start
            done = trace.read_text().splitlines()
            in_window = sum(WINDOW in line for line in done)
            steps, _ = _losses(run)
            taken, _ = _taken(rows)
            assert sorted(steps) == sorted(taken) == list(range(1, len(steps) + 1)) and len(steps) >= STEPS
            assert max(len(pieces) for pieces in taken.values()) > 1, "no accumulation"
            self.references[kind] = Reference(_left(run), steps, taken, seconds, len(done), in_window)
        return self.references[kind]


@cache
def the_stage() -> Stage:
    """One for the whole process, gone with it."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Stage(Path(folder.name), the_nursery())


def as_written(row: Row) -> dict[str, Any]:
    """As a file has them: a dialog with its last answer in it."""
    fields = dict(row.fields)
    if "messages" in fields:
        fields["messages"] = [*fields["messages"], {"role": "assistant", "content": fields.pop("answer")}]
    return fields


def _cut(draw: random.Random, whole: Reference, *, in_window: bool) -> dict[str, Any]:
    if in_window:
        delay = draw.choice([0.0, 0.0, round(draw.uniform(0, 0.004), 4)])
        return {"in": WINDOW, "at": draw.randint(1, whole.in_window), "delay": delay}
    return {"after": round(draw.uniform(0, whole.seconds), 3)}


def _trial(stage: Stage, kind: tuple[str, str], cuts: list[dict[str, Any]], twin: str) -> Trial:
    run, whole = stage.next_run(), stage.reference(kind)
    home, log, rows = (run.with_suffix(f".{name}") for name in ("home", "log", "rows"))
    name = f"{'-'.join(kind)} cut {', then '.join(map(str, cuts))}"
    begin = ["train", str(stage.recipe(kind)), "--out", str(run)]
    arguments, expected, resumptions = begin, None, 0
    for cut in [*cuts, None]:
        child = stage.nursery.start(
            arguments,
            home=home,
            log=log,
            module=__name__,
            twin=twin,
            cut=cut if cut and "in" in cut else None,
            watch=run,
            rows=rows,
        )
        if cut is not None and "after" in cut:
            while time.monotonic() < child.started + cut["after"] and child.poll() is None:
                time.sleep(0.002)
            child.send(signal.SIGKILL)
        try:
            code = child.wait()
        except TimeoutError as error:
            return Trial(name, str(error))
        told = _resumed_from(run)
        if len(told) > resumptions and told[-1] != (expected or 0):
            return Trial(name, f"a checkpoint of step {expected} is there, it went on from {told[-1]}")
        if code == 0 and arguments is not begin and len(told) == resumptions:
            return Trial(name, "it went on and did not say so")
        resumptions = len(told)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            return Trial(name, f"{' '.join(arguments[:1])} left with {code}: {log.read_text()[-600:]}")
        if fault := _whole(run):
            return Trial(name, fault)
        found = complete(run / "checkpoints")
        expected = int(found[-1].name.split("-")[1]) if found else None
        # Killed before the run was entered among the user's runs there is nothing to resume.
        arguments = ["resume"] if RunFolder(run).recipe.is_file() and RunFolder(run).status_file.is_file() else begin
    return Trial(name, differs(run, rows, whole))


def _whole(run: Path) -> str:
    """What looks finished and is not, or lies about in too great a number."""
    for folder in [*complete(run / "checkpoints"), run / "model"]:
        if folder.exists():
            try:
                verified(folder)
            except RunError as error:
                return f"a published folder is not whole: {error}"
    if (run / "checkpoints").is_dir():
        named = [p for p in (run / "checkpoints").iterdir() if p.name.startswith("step-")]
        if odd := [p.name for p in named if not (p / "manifest.json").is_file()]:
            return f"{odd[0]} has its final name and no manifest"
        if len(named) > KEPT + 1:
            return f"{len(named)} checkpoints, {KEPT} are to be kept"
    return ""


def _resumed_from(run: Path) -> list[int]:
    return [e["from_step"] for e in read_log(run / "events.jsonl") if e["event"] == "resumed"]


def differs(run: Path, rows: Path, whole: Reference) -> str:
    """What a run that was interrupted left that an uninterrupted one did not; "" if nothing."""
    if not (run / "report.html").is_file():
        return "it left with 0 and is not finished"
    left = _left(run)
    if odd := sorted(name for name in whole.left.keys() | left.keys() if whole.left.get(name) != left.get(name)):
        return f"not as in the uninterrupted run: {', '.join(odd)}"
    steps, repeated = _losses(run)
    if steps != whole.steps:
        odd_steps = [s for s in whole.steps if steps.get(s) != whole.steps[s]]
        return f"other losses at steps {odd_steps[:5]}"
    if any(values != whole.steps[step] for step, values in repeated):
        return "a step that was repeated had another loss"
    taken, partial = _taken(rows)
    if taken != whole.rows:
        return "other rows, or in another order"
    if any(pieces != whole.rows[step][: len(pieces)] for step, pieces in partial):
        return "a step that was cut had begun with other rows"
    return ""


def _left(run: Path) -> dict[str, str]:
    """All that follows from recipe and data alone, as sha256."""
    files = [run / "splits.jsonl", run / "scores.json", *sorted((run / "predictions").iterdir())]
    files += sorted((run / "model").glob("*model.safetensors"))
    return {str(path.relative_to(run)): sha256_of(path) for path in files}


def _losses(run: Path) -> tuple[dict[int, list[float]], list[tuple[int, list[float]]]]:
    """Step -> [loss, gradient norm, rate, examples, tokens], and those of steps that were repeated."""
    steps: dict[int, list[float]] = {}
    repeated = []
    for e in read_log(run / "events.jsonl"):
        if e["event"] == "step":
            values = [e["loss"], e["gradient_norm"], e["learning_rate"], e["examples"], e["tokens"]]
            if e["step"] in steps:
                repeated.append((e["step"], values))
            steps.setdefault(e["step"], values)
    return steps, repeated


def _taken(path: Path) -> tuple[dict[int, list[list[int]]], list[tuple[int, list[list[int]]]]]:
    """Step -> its micro-batches, joined over processes; and those of steps that were cut or repeated."""
    by: dict[tuple[int, int], list[list[int]]] = {}
    done: dict[int, list[list[int]]] = {}
    others = []
    for line in path.read_text().splitlines():
        pid, step, what = json.loads(line)
        if what != "done":
            by.setdefault((pid, step), []).append(what)
            continue
        pieces = by.pop((pid, step))
        if step in done:
            others.append((step, pieces))
        done.setdefault(step, pieces)
    return done, [*others, *((step, pieces) for (_, step), pieces in by.items())]


TWINS = {
    "order-not-kept": "rows come in an order of the process's own",
    "published-in-place": "files of a checkpoint are written under its final name",
    "reseeded": "a resumed run begins its random numbers anew",
    "counted-twice": "a resumed run goes on one step late",
    "optimizer-left-out": "a resumed run begins with an empty optimizer",
}


def put_in(twin: str) -> None:
    """Put a bug into this process."""
    import torch

    from luthier import files
    from luthier.training import checkpoint, loop

    if twin == "order-not-kept":
        plan = loop.epoch_plan
        loop.epoch_plan = lambda lengths, size, seed, epoch: plan(lengths, size, seed + os.getpid(), epoch)
    elif twin == "published-in-place":

        def publish(folder: Path, write: Any, *, replace: bool = False, size: int = 0) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            write(folder)
            inside = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.json")
            files.write_json(folder / "manifest.json", {p.name: sha256_of(p) for p in inside})

        checkpoint.publish = publish
    elif twin == "reseeded":
        checkpoint.restore_random = lambda saved: torch.manual_seed(7)
    elif twin == "counted-twice":
        load = checkpoint.load

        def late(path: Path) -> Any:
            position, *rest = load(path)
            position.step += 1
            return position, *rest

        checkpoint.load = late
    elif twin == "optimizer-left-out":
        loop.load_optimizer_tensors = lambda *args: None
    else:
        raise ValueError(twin)


BAR = Bar(
    "kill",
    "Killed anywhere, up to three times, `luthier resume` ends with the same weights, losses and rows.",
    50,
    trials,
    TWINS,
)
