"""B25, B26, F13: the same recipe, data and seed give the same run, whatever the order of Python's sets.

Each trial is a run in a process of its own, with its own PYTHONHASHSEED, held against a first run: the label map, the
splits, and the sha256 of weights, answers, scores, verdict and report. Left out is what is measured: time, memory and
the date (`MEASURED`, `TIMED`), status.json and environment.json. Then the rows stand in another order in their file
(the same label map, and each row in the same split), and the seed is another (the same splits, other weights).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bars import Bar, Trial, scratch

HERE = Path(__file__).resolve().parent
SEED, OTHER = 7, 8
KINDS = [("classification", "lora"), ("generation", "full"), ("token-classification", "adapter")]
KINDS += [("classification", "frozen"), ("generation", "soft-prompt")]
MODELS = {"classification": "bert", "generation": "llama", "token-classification": "roberta"}
HASH_SEEDS = 5
WAYS = [*(f"hash seed {number}" for number in range(HASH_SEEDS)), "again", "rows shuffled", "another seed"]
SAME = (
    "model",
    "predictions",
    "splits.jsonl",
    "scores.json",
    "findings.json",
    "report.html",
    "data.json",
    "recipe.yaml",
)
MEASURED = re.compile(
    r'<th scope="row">(training time|peak memory)</th><td>[^<]*</td>|^- (training time|peak memory): .*$'
    r"|<dt>date</dt><dd>[^<]*</dd>|(?<= on )\d{4}-\d\d-\d\d(?=\.$)",
    re.M,
)
TIMED = ("time", "seconds", "forecast", "available", "remedies", "peak_memory")  # keys of events.jsonl


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    plan = [(kind, way) for way in WAYS for kind in KINDS]
    if twin:
        plan = [(KINDS[0], TELLING[twin])]
    elif count < len(plan):  # both ways that need no new interpreter, and some that do
        plan = [(KINDS[0], "another seed"), (KINDS[0], "rows shuffled")]
        plan += [(kind, way) for way in WAYS[1:HASH_SEEDS] for kind in KINDS]
    for kind, way in plan[:count]:
        yield Trial(f"{'-'.join(kind)}, {way}", _fault(kind, way, seed, twin))


def _fault(kind: tuple[str, str], way: str, seed: int, twin: str) -> str:
    first = facts(_first(kind))
    number = int(way.rpartition(" ")[2]) if way.startswith("hash") else None
    try:
        other = _run(kind, number, twin, shuffled=seed if way == "rows shuffled" else 0, other=way == "another seed")
    except RuntimeError as error:
        return str(error)
    found = facts(other)
    if first["labels"] != found["labels"]:
        return f"labels {found['labels']}, before {first['labels']}"
    if first["splits"] != found["splits"]:
        odd = sum(found["splits"].get(row) != split for row, split in first["splits"].items())
        return f"{odd} of {len(first['splits'])} rows have another split"
    if way == "another seed":
        return "another seed gave the same weights" if first["weights"] == found["weights"] else ""
    if way == "rows shuffled":
        return ""
    odd_files = sorted(n for n in first["files"] | found["files"] if first["files"].get(n) != found["files"].get(n))
    return f"they differ: {', '.join(odd_files)}" if odd_files else ""


def facts(run: Path) -> dict[str, Any]:
    """`labels` by number, `splits` by row; sha256 of `weights`, and of `files`, which must all be the same."""
    settings = json.loads((run / "model" / "luthier.json").read_text())
    lines = [json.loads(line) for line in (run / "splits.jsonl").read_text().splitlines()]
    inside = [p for name in SAME for p in ([run / name] if (run / name).is_file() else sorted((run / name).rglob("*")))]
    files = {p.relative_to(run).as_posix(): _digest(p) for p in inside if p.is_file()}
    files["events.jsonl"] = _digest_of_events(run / "events.jsonl")
    return {
        "labels": settings["state"].get("labels"),
        "splits": {line["id"]: line["split"] for line in lines},
        "weights": {name: digest for name, digest in files.items() if name.endswith(".safetensors")},
        "files": files,
    }


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix in (".html", ".md"):
        data = MEASURED.sub("", data.decode()).encode()
    return hashlib.sha256(data).hexdigest()


def _digest_of_events(path: Path) -> str:
    text = path.read_text().replace(str(path.parent), "RUN")
    events = [json.loads(line) for line in text.splitlines()]
    kept = [{key: value for key, value in event.items() if key not in TIMED} for event in events]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


# Runs


@cache
def _first(kind: tuple[str, str]) -> Path:
    return _run(kind, None, "")


def _run(kind: tuple[str, str], number: int | None, twin: str, shuffled: int = 0, other: bool = False) -> Path:
    """A run in a new interpreter with this PYTHONHASHSEED; without a number in a process of the nursery."""
    from nursery import the_nursery

    recipe = _recipe(kind, shuffled, OTHER if other else SEED)
    place = Path(tempfile.mkdtemp(dir=scratch("determinism")))
    out, log = place / "run", place / "log"
    arguments = ["train", str(recipe), "--out", str(out)]
    if number is None:
        code = the_nursery().start(arguments, home=place / "home", log=log, module=__name__, twin=twin).wait()
    else:
        environment = {
            **os.environ,
            "PYTHONHASHSEED": str(number),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "LUTHIER_HOME": str(place / "home"),
            "PYTHONPATH": str(HERE.parents[1] / "src"),
        }
        with log.open("w") as told:
            command = [sys.executable, __file__, twin, *arguments]
            code = subprocess.run(command, env=environment, stdout=told, stderr=told, timeout=300).returncode
    if code:
        raise RuntimeError(f"the run failed with {code}: {log.read_text()[-300:]}")
    return out


def _recipe(kind: tuple[str, str], shuffled: int, seed: int) -> Path:
    """The same path at every call, as a run keeps it; its rows in the order that `shuffled` draws (0: as they are)."""
    import tiny
    from luthier.files import write_jsonl

    task, method = kind
    model, rows = scratch("determinism") / MODELS[task], scratch("determinism") / f"{task}-{shuffled}.jsonl"
    if not model.exists():
        tiny.save_model(model, MODELS[task])
    if not rows.exists():
        made = rows_of(task)
        if shuffled:
            random.Random(shuffled).shuffle(made)
        write_jsonl(rows, made)
    recipe = {
        "model": str(model),
        "task": {
            "name": task,
            "max_length": 64,
            **({"max_new_tokens": 4} if task == "generation" else {}),
            **({"stride": 8} if task == "token-classification" else {}),
        },
        "data": {"train": str(rows), "validation": 0.2, "test": 0.2},
        "method": method,
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "dtype": "float32"},
        "seed": seed,
    }
    path = scratch("determinism") / f"{task}-{method}-{shuffled}-{seed}.yaml"
    path.write_text(json.dumps(recipe))
    return path


def rows_of(task: str) -> list[dict[str, Any]]:
    """Rows without ids, which then follow from what is in them; a text has one of ten labels."""
    from kill import as_written

    import tiny

    if task != "classification":
        return [as_written(row) for row in tiny.rows_for(task, 80)]
    return [{"text": " ".join(words), "label": words[3]} for _, _, words, _ in tiny.facts(120)]


def _alone(twin: str, *arguments: str) -> None:
    """What a new interpreter runs: the command line, with this bug put in; as the nursery does it."""
    import matplotlib
    from nursery import PLOTS

    from luthier.cli import main
    from luthier.run import prove

    matplotlib.use("Agg")
    if os.environ.get(PLOTS) == "0":
        prove.write_report = lambda path, content: path.write_text("<html>")
    if twin:
        put_in(twin)
    raise SystemExit(main(list(arguments)))


# Bugs

TWINS = {
    "labels-from-a-set": "labels are numbered in the order of a set",
    "seed-unheard": "new weights, order and dropout follow from a seed that is always the same",
    "head-unseeded": "new weights are drawn before any seed is set",
}
TELLING = {
    "labels-from-a-set": f"hash seed {HASH_SEEDS - 1}",
    "seed-unheard": "another seed",
    "head-unseeded": "again",
}


def put_in(twin: str) -> None:
    """The bug, in a process that is about to run."""
    import torch

    from luthier.run.job import Job
    from luthier.tasks.classification import Classification

    owner: Any = Job
    if twin == "labels-from-a-set":
        learn = Classification.learn

        def unordered(self: Any, rows: Any) -> None:
            learn(self, rows)
            self.state["labels"] = list({str(row["label"]) for row in rows})

        owner = Classification
        owner.learn = unordered
    elif twin == "seed-unheard":
        begin = Job.__init__

        def deaf(self: Any, *args: Any, **kwargs: Any) -> None:
            begin(self, *args, **kwargs)
            self.recipe = self.recipe.model_copy(update={"seed": SEED})

        owner.__init__ = deaf
    elif twin == "head-unseeded":
        build, seeded = Job.build, torch.manual_seed

        def careless(self: Any) -> None:
            torch.manual_seed = lambda number: torch.default_generator.manual_seed(time.time_ns())
            try:
                build(self)
            finally:
                torch.manual_seed = seeded

        owner.build = careless
    else:
        raise ValueError(twin)


BAR = Bar(
    "determinism",
    "The same recipe, data and seed give the same label map, splits, weights, answers, scores and report to the byte "
    "under every PYTHONHASHSEED; the order of rows in their file changes neither label map nor splits.",
    len(WAYS) * len(KINDS),
    trials,
    TWINS,
)

if __name__ == "__main__":
    _alone(*sys.argv[1:])
