"""What evidence costs: the share of the demo's time that is neither training nor scoring validation and test rows.

`luthier demo`'s sentiment recipe is run as it is; every event ends the part before it, so all time is in some part.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path

import measure
from measure import Demands, Result, Settings

MOST = 0.25  # of the training time
BEFORE = ("finding the model", "fetching", "reading rows", "reading the", "loading", "encoding", "probing")
BASELINES = ("untuned model", "the trivial", "the classical")
ANSWERING = ("answering the", "scoring", "saving the model")


def kind(part: str) -> str:
    """What a part counts as: training (its scorings too), before (rows, model), answering (the validation and test
    rows), baselines, evidence.
    """
    if part == "training":
        return "training"
    if part.startswith(BEFORE):
        return "before"
    if part.startswith(BASELINES):
        return "baselines"
    return "answering" if part.startswith(ANSWERING) else "evidence"


class Clock:
    """Listens to a run and gives the time since the event before to the part that this event begins or goes on with."""

    def __init__(self) -> None:
        self.parts: Counter[str] = Counter()
        self.now, self.since, self.fitting = "loading", time.monotonic(), False

    def __call__(self, event: object) -> None:
        moment = time.monotonic()
        self.parts[self.now] += moment - self.since
        self.since = moment
        name = getattr(event, "name", "")
        if name in ("start", "stopped"):
            self.fitting = name == "start"
            self.now = "training" if self.fitting else self.now
        if self.fitting:
            self.now = "training"
        elif name == "phase":
            self.now = str(event.what)  # type: ignore[attr-defined]

    def end(self) -> None:
        self.parts[self.now] += time.monotonic() - self.since


def demo(settings: Settings) -> Result:
    """The parts' seconds; `training` are the seconds of all the recipe's steps, of which a part may have been made."""
    import luthier
    from luthier.demos import DEMOS
    from luthier.files import read_log
    from luthier.models import CATALOGUE

    reviews = CATALOGUE["imdb"].path  # in this side's own home, which is empty
    reviews.parent.mkdir(parents=True)
    reviews.symlink_to(settings["reviews"])
    with tempfile.TemporaryDirectory() as folder:
        recipe = {**DEMOS["sentiment"].prepare(Path(folder)), "model": settings["model"]}
        whole = recipe["train"]["epochs"]
        recipe["train"]["epochs"] = whole * settings["part"]
        for name in settings["off"]:
            recipe.setdefault("evidence", {})[name] = 0 if name in ("robustness", "swaps", "few_shot") else False
        clock = Clock()
        run = luthier.train(recipe, out=Path(folder) / "run", listen=clock)
        clock.end()
        steps = [event["seconds"] for event in read_log(run.folder.events) if event.get("event") == "step"]
        training = sum(steps) / settings["part"]
        return {"parts": dict(clock.parts), "training": training, "steps": len(steps)}


SIDES: dict[str, measure.Side] = {"demo": demo}


def cost(args: Namespace) -> int:
    started, load = measure.start(), os.getloadavg()[0]
    settings = {"off": args.off, "part": args.part, "reviews": measure.imdb_path(), "model": measure.minilm()}
    found = measure.run(__file__, "demo", settings)
    parts = Counter(found["parts"])
    whole: Counter[str] = Counter()
    for part, seconds in parts.items():
        whole[kind(part)] += seconds
    share = whole["evidence"] / found["training"]
    both = (whole["evidence"] + whole["baselines"]) / found["training"]
    made = f"{found['steps']:,} steps were made" + (
        f", {args.part:g} of all; their time is divided by that" if args.part < 1 else ""
    )
    body = (
        f"Load of the machine before: {load:.1f}. {made}. All steps take {found['training']:.1f} s, evidence "
        f"{whole['evidence']:.1f} s, {100 * share:.1f} % of that; with the baselines {100 * both:.1f} %.\n\n"
    )
    body += measure.table(("in all", "seconds"), [(name, f"{s:.1f}") for name, s in whole.most_common()]) + "\n\n"
    rows = [(part, kind(part), f"{seconds:.1f}") for part, seconds in parts.most_common() if seconds >= 0.1]
    body += measure.table(("part", "counted as", "seconds"), rows)
    demands = Demands()
    demands.add("evidence outside training and validation, of the training time", share, MOST, sign="<")
    return measure.finish(args.page, "cost", body, started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    parser.add_argument("--off", nargs="*", default=[], help="keys of `evidence` to switch off")
    parser.add_argument("--part", type=float, default=1.0, help="train this part of the epochs alone")
    return cost(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
