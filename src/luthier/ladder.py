"""Every method on the same split: what each step up in cost brings, from a prompt to every weight.

Each rung is a run of its own, in a process of its own, so that its peak memory is its own and a rung that fails
takes no other with it. A ladder that was interrupted goes on where it stood: finished rungs are read, a begun one is
resumed. The order of the rungs is that of their validation scores; test scores are shown and choose nothing.
"""

from __future__ import annotations

import math
import multiprocessing
import queue
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from luthier import config
from luthier.errors import Interrupted, LuthierError, ModelError, RunError
from luthier.evidence.report.rungs import RungFacts, write_rungs
from luthier.evidence.scores.measures import measure
from luthier.files import read_json, read_log, write_json, write_text
from luthier.methods import METHODS
from luthier.run.augment import whole_model, with_whole_paths
from luthier.run.pairs import refusal
from luthier.run.recipe import Recipe, read
from luthier.run.signals import watching
from luthier.run.use import Run, contender
from luthier.runs import RunFolder
from luthier.tasks import TASKS
from luthier.training.events import Event, Phase

Listener = Callable[[Event], None]


@dataclass
class Rung:
    """One model with one method: where its run lies, and what became of it.

    `state`: to do, finished, failed, or left out (`note` says why of the last two).
    """

    name: str
    model: str
    method: str
    run: str
    state: str = "to do"
    note: str = ""

    @property
    def label(self) -> str:
        """What its model is called among the others."""
        return self.name.removesuffix(f" {self.method}")


@dataclass
class Ladder:
    """A ladder's folder and its rungs; `facts` has one entry a rung or baseline, best validation score first."""

    path: Path
    task: str
    primary: str
    rungs: list[Rung]
    facts: list[RungFacts] = field(default_factory=list)

    @property
    def page(self) -> Path:
        return self.path / "ladder.html"

    @property
    def best(self) -> RungFacts | None:
        """The rung with the best validation score."""
        return next((one for one in self.facts if one.run), None)

    @property
    def level(self) -> list[str]:
        """The other rungs with the very validation score of the best."""
        others = [one for one in self.facts if one.run and one is not self.best]
        return [one.name for one in others if self.best and one.validation == self.best.validation]

    def as_json(self) -> dict[str, Any]:
        return {
            "ladder": str(self.path),
            "task": self.task,
            "primary": self.primary,
            "best": self.best.name if self.best else None,
            "level": self.level,
            "rungs": [asdict(one) for one in self.facts],
            "left_out": [asdict(rung) for rung in self.rungs if rung.state != "finished"],
            "page": str(self.page),
        }


def climb(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    listen: Listener | None = None,
) -> Ladder:
    """Tune and prove every method that fits the recipe's task and models; the Ladder, its page written.

    `out` is the ladder's folder (default: the next number under ladders/); one that was begun with the same recipe is
    gone on with. Raises LuthierError where the recipe is wrong, RunError where no rung could be finished.
    """
    checked, base = read(recipe, overrides)
    emit = listen or (lambda event: None)
    folder = _folder(checked, Path(out) if out is not None else None)
    rungs = _plan(checked, base, folder, emit)
    for number, rung in enumerate(rungs, 1):
        if rung.state == "to do":
            done = ", finished before" if _finished(rung) else ""
            emit(Phase(f"rung {number} of {len(rungs)}: {rung.name}{done}"))
            _climb_one(rung, checked, base, folder, emit)
            _write_state(folder, rungs)
    task = TASKS[checked.task.name](checked.task)
    ladder = Ladder(folder, task.name, task.primary, rungs)
    finished = [rung for rung in rungs if rung.state == "finished"]
    if not finished:
        by_note: dict[str, list[str]] = {}
        for rung in rungs:
            by_note.setdefault(rung.note, []).append(rung.name)
        why = "; ".join(f"{', '.join(names)}: {note}" for note, names in by_note.items())
        raise RunError(f"no rung could be finished ({why})", where=str(folder), fix="correct what is said there")
    ladder.facts = _facts(finished, task.primary)
    write_json(folder / "ladder.json", ladder.as_json())
    write_rungs(ladder.page, task.title, task.primary, ladder.facts, [asdict(r) for r in rungs if r.note])
    return ladder


def _folder(recipe: Recipe, out: Path | None) -> Path:
    """The ladder's folder, holding its recipe; RunError where another ladder, or anything else, lies in it."""
    text = config.dump(recipe)
    if out is None:
        place = Path.cwd() / "ladders"
        for old in sorted(place.glob(f"*-{recipe.task.name}"), reverse=True):
            written = old / "recipe.yaml"
            begun = written.is_file() and written.read_text("utf-8") == text
            if begun and not (old / "ladder.json").is_file():
                return old  # interrupted: go on
        numbers = [int(p.name[:4]) for p in place.glob("[0-9][0-9][0-9][0-9]-*")]
        out = place / f"{max(numbers, default=0) + 1:04d}-{recipe.task.name}"
    written = out / "recipe.yaml"
    if out.exists() and any(out.iterdir()) and not (written.is_file() and written.read_text("utf-8") == text):
        raise RunError("the folder holds something else", where=str(out), fix="name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_text(written, text)
    return out


def _plan(recipe: Recipe, base: Path, folder: Path, emit: Listener) -> list[Rung]:
    """Every model with every method asked for; those that cannot be are left out, with the reason."""
    from luthier.models import resolve

    options = recipe.ladder
    models = (options.models if options else []) or [recipe.model]
    methods = [name for name in METHODS if not options or name in (options.methods or METHODS)]
    prompt_model = options.prompt_model if options else None
    task = TASKS[recipe.task.name]
    labels = _labels({name: whole_model(name, base) for name in [*models, *filter(None, [prompt_model])]})
    rungs: list[Rung] = []
    for model in models:
        emit(Phase(f"finding {model}"))
        kind = resolve(model, base=base, say=lambda text: emit(Phase(text))).kind
        for method in methods:
            asked, note = model, refusal(recipe.task.name, method)
            if method == "few-shot" and kind == "encoder" and not note:
                asked = prompt_model or model
                note = "" if prompt_model else "an encoder writes nothing: name a ladder.prompt_model"
            elif kind not in METHODS[method].kinds:
                note = note or f"{method} does not work with {kind} models"
            elif kind == "encoder" and kind not in task.kinds:
                note = note or f"{task.name} does not work with {kind} models"
            name = f"{labels[asked]} {method}"
            if any(rung.name == name for rung in rungs):
                continue  # the same model: one prompt model serves several encoders
            place = folder / "rungs" / f"{labels[asked]}-{method}"
            rungs.append(Rung(name, asked, method, str(place), "left out" if note else "to do", note))
    if not any(rung.state == "to do" for rung in rungs):
        raise ModelError("no method fits", where="ladder", fix="; ".join(f"{r.name}: {r.note}" for r in rungs))
    return rungs


def _labels(models: Mapping[str, str]) -> dict[str, str]:
    """A short label for each model, given the whole path or name of each: its last part, with as many before it as tell
    it from the others.
    """
    parts = {name: Path(whole).relative_to(Path(whole).anchor).parts for name, whole in models.items()}
    labels = {}
    for name, own in parts.items():
        others = [other for other in parts.values() if other != own]
        few = next(n for n in count(1) if all(other[-n:] != own[-n:] for other in others))
        labels[name] = "/".join(own[-few:])
    return labels


def _rung_recipe(rung: Rung, recipe: Recipe, base: Path) -> Recipe:
    """The recipe with this rung's model and method; a rate chosen for another method is not carried over."""
    same = rung.method == recipe.method.name
    method = recipe.method if same else METHODS[rung.method].Options()
    train = recipe.train if same else recipe.train.model_copy(update={"learning_rate": "auto"})
    data, model = with_whole_paths(recipe.data, base), whole_model(rung.model, base)
    return recipe.model_copy(update={"model": model, "data": data, "method": method, "train": train, "ladder": None})


def _finished(rung: Rung) -> bool:
    run = RunFolder(Path(rung.run))
    return run.status_file.is_file() and run.finished()


def _climb_one(rung: Rung, recipe: Recipe, base: Path, folder: Path, emit: Listener) -> None:
    """Run one rung to its end in a process of its own, and note what became of it."""
    run = RunFolder(Path(rung.run))
    if _finished(rung):
        rung.state = "finished"
        return
    file = Path(f"{run.path}.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, config.dump(_rung_recipe(rung, recipe, base)))
    spawn = multiprocessing.get_context("spawn")
    events: Any = spawn.Queue()
    child = spawn.Process(target=_work, args=(str(file), rung.run, events))
    with watching() as watch:
        child.start()
        end: tuple[str, Any] | None = None
        told = False
        while end is None:
            if watch.asked is not None and not told and child.pid:
                told = True
                child.terminate()  # SIGTERM: the rung saves, then ends
            try:
                what, value = events.get(timeout=0.2)
            except queue.Empty:
                if not child.is_alive():
                    end = ("failed", f"its process ended with {_exit_text(child.exitcode)}")
                continue
            if what == "event":
                emit(value)
            else:
                end = (what, value)
        child.join()
        if end[0] == "interrupted" or watch.asked is not None:
            raise Interrupted(
                f"stopped at rung {rung.name}",
                signal=watch.asked or signal.SIGINT,
                where=str(folder),
                fix="the same command goes on from here",
            )
    rung.state, rung.note = end[0], str(end[1] or "")


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name} (out of memory?)" if name == "SIGKILL" else name
    return f"exit code {code}"


def _work(file: str, out: str, events: Any) -> None:
    """A rung's process: its events, then how it ended."""
    from luthier.run import resume, train

    def send(event: Event) -> None:
        events.put(("event", event))

    begun = (Path(out) / "status.json").is_file()
    try:
        if begun and not RunFolder(Path(out)).never_begun():
            resume(out, listen=send)
        else:
            train(file, out=out, listen=send)
        events.put(("finished", ""))
    except (Interrupted, KeyboardInterrupt):
        events.put(("interrupted", ""))
    except LuthierError as error:
        events.put(("failed", " ".join(str(error).split())))
    except BaseException as error:
        traceback.print_exc()
        events.put(("failed", f"{type(error).__name__}: {error}"))


def _write_state(folder: Path, rungs: Sequence[Rung]) -> None:
    write_json(folder / "state.json", {"rungs": [asdict(rung) for rung in rungs]})


def _few_shot_of(rung: Rung, other: Rung) -> bool:
    """Whether `other` is the model of `rung` with examples in its prompt."""
    return other.method == "few-shot" and bool(other.run) and other.label == rung.label


def _facts(rungs: Sequence[Rung], primary: str) -> list[RungFacts]:
    """What the page and the table say: the best validation score first, baselines among the rungs."""
    from luthier.evidence.scores.compare import compare

    runs = {rung.name: Run(RunFolder(Path(rung.run))) for rung in rungs}
    facts, seen = [], set()
    for rung in rungs:
        run = runs[rung.name]
        scores = read_json(run.folder.scores)
        test, validation = scores.get("test") or {}, scores.get("validation") or {}
        status = run.status()
        steps = [e["seconds"] for e in read_log(run.folder.events) if e.get("event") == "step"]
        facts.append(
            RungFacts(
                name=rung.name,
                run=rung.run,
                validation=(validation.get("scores") or {}).get(primary),
                score=(test.get("scores") or {}).get(primary),
                interval=(test.get("intervals") or {}).get(primary),
                verdict=str(status.get("verdict") or ""),
                trained_parameters=int(status.get("trained_parameters") or 0),
                parameters=int(status.get("parameters") or 0),
                seconds=sum(steps),
                peak_memory=int(status.get("peak_memory") or 0),
            )
        )
        for name, by_key in (test.get("baselines") or {}).items():
            called = f"{rung.label} {name}" if name in ("untuned", "few-shot") else name
            if name == "few-shot" and any(_few_shot_of(rung, other) for other in rungs):
                continue  # it stands there as a rung
            if name == "untuned" and rung.method not in ("full", "few-shot"):
                continue  # with an untrained part in front of a head it is no other model
            if called in seen or primary not in by_key:
                continue
            seen.add(called)
            if part := (test.get("asked") or {}).get(name):
                called = f"{called} (on {part:,} of {test['rows']:,} rows)"
            interval = (test.get("baseline_intervals") or {}).get(name, {}).get(primary)
            facts.append(RungFacts(called, "", None, by_key[primary], interval))
    sign = 1.0 if measure(primary).higher_is_better else -1.0
    facts.sort(key=lambda one: -math.inf if one.validation is None else sign * one.validation, reverse=True)
    ordered = [one for one in facts if one.run]
    if len(ordered) > 1 and all(one.score is not None for one in ordered):
        compared = compare([contender(runs[one.name]) for one in ordered])
        for one, line in zip(ordered, compared.runs):
            one.difference, one.difference_of = line.difference, compared.difference_of
    return facts
