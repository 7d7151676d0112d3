"""A run from beginning to end. It reads like the sentence: load, check, split, encode, train, answer, prove."""

from __future__ import annotations

import glob
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier import __version__, config
from luthier.errors import Interrupted, ModelError, ResourceError, RunError
from luthier.methods import METHODS, Method, learned
from luthier.records import Answer, Row
from luthier.runs import (
    RunFolder,
    clean_staging,
    find_run,
    new_run,
    newest_unfinished,
    publish,
    write_json,
    write_jsonl,
    write_text,
)
from luthier.tasks import TASKS, Task
from luthier.training.events import Event, Phase, Saved, Started, Step, Stopped

from .prepare import Prepared, prepare, refuse_errors, split_lines
from .recipe import Recipe, read
from .signals import Watch, watching
from .use import Run

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples
    from luthier.engine.device import Machine
    from luthier.models import Source

Listener = Callable[[Event], None]


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    listen: Listener | None = None,
) -> Run:
    """Tune a model as the recipe says and prove it; the finished Run.

    `recipe` is a file, a mapping or a Recipe; `overrides` are "key.path=value" strings; `out` is the run folder
    itself (default: the next number under runs/). Raises LuthierError for whatever stands in the way.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError(
            f"this is one of {os.environ['WORLD_SIZE']} processes, and a whole run in several is not supported yet",
            where="luthier.train",
            fix="start it as one process; the loop itself (luthier.training) already shares its steps",
        )
    checked, base = read(recipe, overrides)
    from luthier.models import home

    kind = f"{checked.task.name}-{checked.method.name}"
    folder = new_run(Path(out) if out is not None else None, Path.cwd(), kind, home())
    # Before its status: what has one is listed as a run, and without a recipe it could not be carried on.
    write_text(folder.recipe, config.dump(checked))
    return _carry_out(checked, base, folder, listen)


def resume(run: str | None = None, *, listen: Listener | None = None) -> Run:
    """Carry a run on from its newest checkpoint; a finished one is returned as is.

    Without `run` it is the newest unfinished one.
    """
    from luthier.models import home

    folder = find_run(run, home(), Path.cwd()) if run is not None else newest_unfinished(home())
    if folder is None:
        raise RunError(
            "there is no unfinished run", where="luthier resume", fix="luthier train RECIPE begins one"
        )
    status = folder.status()
    if status["state"] == "finished":
        return Run(folder)
    if status["state"] == "running" and status.get("pid") != os.getpid():
        raise RunError(
            f"it is still running (process {status['pid']})",
            where=str(folder.path),
            fix="wait, or stop that process",
        )
    if not folder.recipe.is_file():
        raise RunError(
            "it holds no recipe", where=str(folder.path), fix="luthier train RECIPE begins a new run"
        )
    recipe = config.read_recipe(folder.recipe, Recipe)
    base = Path(status.get("base", "."))
    return _carry_out(recipe, base, folder, listen, again=True)


def _carry_out(
    recipe: Recipe, base: Path, folder: RunFolder, listen: Listener | None, *, again: bool = False
) -> Run:
    """The work, with its end written into status.json whatever the end is."""
    with folder.held(), watching() as watch:
        folder.set_status("running", base=str(base))
        job = _Job(recipe, base, folder, listen, watch, again)
        try:
            job.run()
        except (KeyboardInterrupt, Interrupted):
            folder.set_status("stopped")
            raise Interrupted(
                f"stopped at step {job.step}",
                signal=watch.asked or 2,
                where=str(folder.path),
                fix=f"go on with: luthier resume {folder.path}",
            ) from None
        except MemoryError:
            folder.set_status("failed", error="out of memory")
            raise ResourceError(
                "memory ran out; the last checkpoint is intact",
                where=str(folder.path),
                fix="lower train.token_budget or task.max_length, or set train.gradient_checkpointing: true",
            ) from None
        except BaseException as error:
            if "out of memory" in str(error).lower() or "not enough memory" in str(error).lower():
                folder.set_status("failed", error="out of memory")
                raise ResourceError(
                    f"memory ran out ({str(error).splitlines()[0][:160]}); the last checkpoint is intact",
                    where=str(folder.path),
                    fix="lower train.token_budget or task.max_length, or set train.gradient_checkpointing: true",
                ) from None
            folder.set_status("failed", error=str(error)[:2000])
            raise
    return Run(folder)


class _Job:
    """One run's work. Methods follow the data's way, top to bottom."""

    def __init__(
        self,
        recipe: Recipe,
        base: Path,
        folder: RunFolder,
        listen: Listener | None,
        watch: Watch,
        again: bool,
    ) -> None:
        self.recipe, self.base, self.folder, self.watch, self.again = recipe, base, folder, watch, again
        self.listen = listen or (lambda event: None)
        self.step = 0
        self.training = False

    def emit(self, event: Event) -> None:
        """Log an event, pass it on, and stop here if a signal asked for it (the loop looks for itself)."""
        if event.logged:
            self.folder.add_event(event.as_json())
        if isinstance(event, (Step, Stopped)):
            self.step = event.step
        self.listen(event)
        if self.watch.asked is not None and not self.training:
            raise Interrupted("stopped", signal=self.watch.asked)

    def progress(self, what: str, unit: str = "rows") -> Callable[[int, int], None]:
        return lambda done, total: self.emit(Phase(what, done, total, unit))

    def run(self) -> None:
        recipe, folder = self.recipe, self.folder
        for place in (folder.path, folder.checkpoints, folder.predictions):
            clean_staging(place)
        task: Task = TASKS[recipe.task.name](recipe.task)
        method: Method = METHODS[recipe.method.name](recipe.method)
        source, tokenizer = self.find_model(task, method)
        prepared = self.prepare(task, tokenizer)
        machine = self.find_machine(source)
        self.write_beginnings(prepared, machine, source)
        task.learn(prepared.splits["train"])
        examples = {
            name: self.encode(task, rows, tokenizer, name) for name, rows in prepared.splits.items() if rows
        }
        model = self.build(task, method, source, machine)
        examples = self.keep_features(model, examples, machine)
        untuned = self.answer_untuned(task, model, prepared, examples, machine)
        self.fit(task, model, prepared, examples, machine, source)
        answers = self.answer(task, model, prepared, examples, machine)
        self.save(task, method, model, tokenizer, source)
        self.prove(task, method, model, source, prepared, answers, untuned, machine)

    def find_model(self, task: Task, method: Method) -> tuple[Source, PreTrainedTokenizerBase]:
        from luthier.models import load_tokenizer, resolve

        self.emit(Phase("finding the model"))

        def say(text: str) -> None:
            self.emit(Phase(text))

        source = resolve(
            self.recipe.model, base=self.base, say=say, progress=self.progress("fetching the model", "bytes")
        )
        if source.kind not in task.kinds & method.kinds:
            raise ModelError(
                f"it is a {source.kind} ({source.architecture}); {task.name} with {method.name} needs an "
                f"{' or '.join(sorted(task.kinds & method.kinds))}",
                where=self.recipe.model,
                fix="model: minilm is an encoder; `luthier models list` shows the kind of each",
            )
        if source.max_length is not None and task.options.max_length > source.max_length:
            raise ModelError(
                f"task.max_length is {task.options.max_length}, but the model reads at most {source.max_length} tokens",
                where=self.recipe.model,
                fix=f"task.max_length: {source.max_length}",
            )
        return source, load_tokenizer(source)

    def prepare(self, task: Task, tokenizer: PreTrainedTokenizerBase) -> Prepared:
        prepared = prepare(self.recipe.data, task, self.base, tokenizer, self.emit)
        write_json(self.folder.data, prepared.as_json())
        refuse_errors(prepared)
        write_jsonl(self.folder.splits, split_lines(prepared))
        return prepared

    def find_machine(self, source: Source) -> Machine:
        from luthier.engine.device import find_machine, keep_memory
        from luthier.models import home

        keep_memory()
        machine = find_machine(self.recipe.train.dtype, home() / "machine.json")
        self.recipe = self.recipe.resolved(machine, source)
        return machine

    def write_beginnings(self, prepared: Prepared, machine: Machine, source: Source) -> None:
        """The full recipe, its paths made absolute so that it repeats from any folder here, and the environment."""
        data = self.recipe.data
        here = {name: _absolute(getattr(data, name), self.base) for name in ("train", "validation", "test")}
        model = _absolute(self.recipe.model, self.base)
        if source.folder.resolve() not in (Path(model), Path(model) / "model"):
            model = self.recipe.model  # a folder of this name is here, and is not what the name means
        written = self.recipe.model_copy(update={"data": data.model_copy(update=here), "model": model})
        write_text(self.folder.recipe, config.dump(written))
        write_json(self.folder.environment, environment(machine))

    def encode(
        self, task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, name: str
    ) -> Examples:
        self.emit(Phase(f"encoding the {name} rows", 0, len(rows)))
        return task.encode(rows, tokenizer)

    def build(self, task: Task, method: Method, source: Source, machine: Machine) -> nn.Module:
        import torch

        from luthier.engine.attention import use_cpu_attention
        from luthier.engine.dropout import use_cheap_dropout
        from luthier.engine.heads import use_exact_head
        from luthier.models.quiet import quiet_transformers

        self.emit(Phase("loading the model"))
        options = self.recipe.train
        torch.manual_seed(self.recipe.seed)
        model = task.build(source, dropout_settings(source, options.dropout, options.attention_dropout))
        if machine.device == "cpu":
            use_cheap_dropout(model)
            if machine.bf16:
                use_cpu_attention(model)
        if options.gradient_checkpointing:
            with quiet_transformers():  # its newer name came after 5.17, and this one warns since
                model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        model = method.apply(model, task.head())
        use_exact_head(model, task.head().modules)
        return model.to(machine.device)

    def keep_features(
        self, model: nn.Module, examples: dict[str, Examples], machine: Machine
    ) -> dict[str, Examples]:
        """For a frozen backbone: its features in place of tokens, and the head told their mean and spread."""
        from luthier.engine.heads import FeatureModel
        from luthier.engine.inference import keep_features

        if not isinstance(model, FeatureModel):
            return examples
        kept = {
            name: keep_features(
                model, some, machine, self.budget, self.progress(f"computing features of the {name} rows")
            )
            for name, some in examples.items()
        }
        model.head.measure(kept["train"].columns["hidden"])
        return kept

    @property
    def budget(self) -> int:
        return int(self.recipe.train.token_budget)

    def answers_to(
        self,
        task: Task,
        model: nn.Module,
        rows: Sequence[Row],
        examples: Examples,
        machine: Machine,
        what: str,
        exact: bool = True,
    ) -> tuple[list[Answer], float]:
        from luthier.serve import answer_examples

        progress = self.progress(what)
        return answer_examples(task, model, rows, examples, machine, self.budget, progress, exact)

    def answer_untuned(
        self,
        task: Task,
        model: nn.Module,
        prepared: Prepared,
        examples: dict[str, Examples],
        machine: Machine,
    ) -> list[Answer]:
        """What the model answers before training, its threshold chosen on validation as the tuned model's will be."""
        shadow = type(task)(task.options, task.state)
        rows = prepared.splits
        if rows["validation"]:
            given, _ = self.answers_to(
                shadow,
                model,
                rows["validation"],
                examples["validation"],
                machine,
                "untuned model, validation rows",
            )
            shadow.choose(rows["validation"], given)
        self.untuned_state = shadow.state
        if not rows["test"]:
            return []
        given, _ = self.answers_to(
            shadow, model, rows["test"], examples["test"], machine, "untuned model, test rows"
        )
        return shadow.settle(rows["test"], given)

    def fit(
        self,
        task: Task,
        model: nn.Module,
        prepared: Prepared,
        examples: dict[str, Examples],
        machine: Machine,
        source: Source,
    ) -> None:
        import torch
        from accelerate import Accelerator

        from luthier.training.loop import Training, fit
        from luthier.training.trackers import Trackers

        options, rows = self.recipe.train, prepared.splits["validation"]
        accelerator = Accelerator(
            cpu=machine.device == "cpu",
            log_with=list(options.trackers) or None,
            project_dir=str(self.folder.path),
        )

        def score(model: nn.Module) -> tuple[float, float, dict[str, float]]:
            given, loss = self.answers_to(
                task, model, rows, examples["validation"], machine, "scoring the validation rows", exact=False
            )
            trial = type(task)(task.options, task.state)
            trial.choose(rows, given)
            scores = trial.score(rows, trial.settle(rows, given))
            return scores[task.primary], loss, scores

        fixed = {
            "recipe": _fingerprint(self.recipe),
            "data": sorted(str(f["sha256"]) for f in prepared.files),
            "model": source.sha256,
            "threads": machine.threads,
            "processes": accelerator.num_processes,
            "device": machine.device,
            "torch": torch.__version__,
        }
        work = Training(
            model=model,
            examples=examples["train"],
            objective=task,
            options=options,
            machine=machine,
            accelerator=accelerator,
            seed=self.recipe.seed,
            folder=self.folder.checkpoints,
            learned=learned,
            score=score if rows else None,
            fixed=fixed,
            stop=lambda: self.watch.asked is not None,
            again=self.again,
        )
        torch.manual_seed(self.recipe.seed)
        self.training = True
        trackers = (
            Trackers(accelerator, self.folder.name, self.recipe.model_dump(mode="json"))
            if options.trackers
            else None
        )
        for event in fit(work):
            self.emit(event)
            if trackers is not None:
                trackers.hear(event)
            if isinstance(event, Started):
                self.trained_parameters, self.parameters = event.trained_parameters, event.parameters
            if isinstance(event, Saved):
                self.folder.set_status("running", step=event.step)
            if isinstance(event, Stopped) and event.reason == "signal":
                raise Interrupted("stopped", signal=self.watch.asked or 2)
        self.training = False
        if trackers is not None:
            trackers.close()

    def answer(
        self,
        task: Task,
        model: nn.Module,
        prepared: Prepared,
        examples: dict[str, Examples],
        machine: Machine,
    ) -> dict[str, list[Answer]]:
        """The tuned model's answers: validation first, on which thresholds are chosen, then test, once."""
        out = {}
        for name in ("validation", "test"):
            rows = prepared.splits[name]
            if rows:
                given, _ = self.answers_to(
                    task, model, rows, examples[name], machine, f"answering the {name} rows"
                )
                if name == "validation":
                    task.choose(rows, given)
                out[name] = task.settle(rows, given)
        return out

    def save(
        self, task: Task, method: Method, model: nn.Module, tokenizer: PreTrainedTokenizerBase, source: Source
    ) -> None:
        from luthier.models.quiet import quiet_transformers
        from luthier.serve.predict import SETTINGS

        from .prove import base_name

        self.emit(Phase("saving the model"))
        base = base_name(source)

        def write(folder: Path) -> None:
            with quiet_transformers():
                method.save(model, folder, base)
                tokenizer.save_pretrained(folder)
            settings = {
                "luthier": __version__,
                "task": self.recipe.task.model_dump(mode="json"),
                "state": task.state,
                "untuned_state": self.untuned_state,
                "method": self.recipe.method.model_dump(mode="json"),
                "base": {
                    "name": self.recipe.model if base == str(source.folder) else base,
                    "folder": str(source.folder),
                    "revision": source.revision,
                    "sha256": source.sha256,
                },
            }
            write_json(folder / SETTINGS, settings)

        publish(self.folder.model, write, replace=True)

    def prove(
        self,
        task: Task,
        method: Method,
        model: nn.Module,
        source: Source,
        prepared: Prepared,
        answers: dict[str, list[Answer]],
        untuned: list[Answer],
        machine: Machine,
    ) -> None:
        from luthier.engine.device import peak_memory
        from luthier.models import home

        from .prove import Proof, prove

        peak = peak_memory()
        proof = Proof(
            self.recipe,
            task,
            method,
            source,
            prepared,
            self.folder,
            answers,
            untuned,
            self.trained_parameters,
            self.parameters,
            peak,
            environment(machine),
        )
        verdict = prove(proof, home(), self.emit)
        self.folder.add_event(
            {"event": "end", "step": self.step, "verdict": verdict.word, "peak_memory": peak}
        )
        self.folder.set_status(
            "finished",
            step=self.step,
            verdict=verdict.word,
            peak_memory=peak,
            trained_parameters=self.trained_parameters,
        )


def dropout_settings(source: Source, hidden: float | str, attention: float) -> dict[str, float]:
    """The config entries of this architecture that hold dropout rates, with the recipe's values.

    Names differ between architectures; an entry that the config does not have is not set.
    """
    from transformers import AutoConfig

    have = AutoConfig.from_pretrained(
        str(source.folder), trust_remote_code=False, local_files_only=True
    ).to_dict()
    names = (
        (attention, ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")),
        (
            hidden,
            (
                "hidden_dropout_prob",
                "dropout",
                "embedding_dropout",
                "mlp_dropout",
                "resid_pdrop",
                "embd_pdrop",
            ),
        ),
    )
    return {
        name: value
        for value, entries in names
        if isinstance(value, (int, float))
        for name in entries
        if name in have
    }


def environment(machine: Machine) -> dict[str, Any]:
    """environment.json: what the run was made with."""
    versions = {}
    for name in (
        "luthier",
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "tokenizers",
        "safetensors",
        "numpy",
        "scikit-learn",
    ):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": machine.device,
        "processor": machine.name,
        "dtype": machine.dtype,
        "threads": machine.threads,
        "commit": _commit(),
        "command": " ".join(["luthier", *sys.argv[1:]])
        if Path(sys.argv[0]).name.startswith("luthier")
        else "luthier.train(...)",
        **versions,
    }


def _commit() -> str:
    """The commit of a luthier that runs from its source tree; "" for an installed one."""
    head = Path(__file__).resolve().parents[3] / ".git" / "HEAD"
    try:
        text = head.read_text().strip()
        return (
            (head.parent / text.removeprefix("ref: ")).read_text().strip()
            if text.startswith("ref: ")
            else text
        )
    except OSError:
        return ""


def _absolute(source: Any, base: Path) -> Any:
    """A path or pattern as the whole path it stands for; fractions, hub ids and catalogue names as they are."""
    if isinstance(source, list):
        return [_absolute(one, base) for one in source]
    if isinstance(source, str):
        for root in (base, Path.cwd()):
            if (root / source).exists():
                return str((root / source).resolve())
            if any(mark in source for mark in "*?[") and glob.glob(str(root / source), recursive=True):  # noqa: PTH207
                return str(root.resolve() / source)
    return source


def _fingerprint(recipe: Recipe) -> str:
    """What must not change between a run and its resumption; where the data lies may."""
    import hashlib
    import json

    facts = recipe.model_dump(mode="json")
    facts.pop("model")
    for name in ("train", "validation", "test"):
        if isinstance(facts["data"][name], (str, list)):
            facts["data"].pop(name)
    facts["train"].pop("trackers")
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
