"""The work of a run, from beginning to end: load, check, split, encode, train, answer, prove."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier import __version__, config
from luthier.engine.ranks import ALONE, Ranks
from luthier.errors import Interrupted, RunError
from luthier.evidence.scores.measures import measure
from luthier.files import json_text, publish, read_json, write_json, write_jsonl, write_text
from luthier.methods import METHODS, Method, learned
from luthier.models.scratch import NEW
from luthier.records import Answer, Finding, Row
from luthier.runs import RunFolder
from luthier.serve import answer_examples
from luthier.tasks import TASKS, Task, Work
from luthier.training.debias import Debiased, corrected, refuse_unfit
from luthier.training.events import Event, Phase, Saved, Started, Step, Stopped

from .base_model import find_base, fitted_task
from .earlier import Earlier, keep_apart
from .forgetting import keep_what_it_knows, old_rows
from .looks import Looks
from .paraphrases import require_paraphrases, with_whole_names
from .prepare import Prepared, prepare, refuse_errors, split_lines
from .provenance import absolute, environment, fingerprint
from .recipe import Recipe
from .signals import Watch
from .soundness import require

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Examples
    from luthier.engine.device import Machine
    from luthier.models import Source

    from .forecast import Outlook

Listener = Callable[[Event], None]


class Job:
    """One run's work: its parts, each made by one method, in the order of the data's way."""

    task: Task
    method: Method
    source: Source
    tokenizer: PreTrainedTokenizerBase
    prepared: Prepared
    machine: Machine
    examples: dict[str, Examples]  # by split; only splits that hold rows
    model: nn.Module
    untuned_state: dict[str, Any]  # what was chosen for the untuned model, as `task.state` is for the tuned one
    trained_parameters = 0
    parameters = 0
    begun_from: Earlier | None = None  # the run whose model this one begins with
    earlier: Earlier | None = None  # the same, if it goes on with the same task
    replayed: Sequence[Row] = ()  # old rows among the training examples
    without: RunFolder | None = None  # the same run without made rows
    written: Recipe  # as recipe.yaml has it

    def __init__(
        self,
        recipe: Recipe,
        base: Path,
        folder: RunFolder,
        listen: Listener | None,
        watch: Watch,
        again: bool,
        ranks: Ranks = ALONE,
    ) -> None:
        self.recipe, self.base, self.folder, self.watch, self.again = recipe, base, folder, watch, again
        self.ranks = ranks
        self.listen = listen if listen and ranks.main else (lambda event: None)
        self.step = 0
        self.training = False
        self.looks = Looks(self)
        self.begun_with = 0  # bytes held before the rows were read
        self.outlook: Outlook | None = None

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
        self.folder.clean()
        with self.ranks.main_first():
            self.find_model()
        self.prepare()
        self.find_machine()
        self.write_beginnings()
        self.augment()
        self.encode()
        self.foresee()
        self.build()
        self.keep_features()
        untuned = self.answer_untuned()
        if self.method.trains:
            self.fit()
        answers = self.answer()
        if self.ranks.main:
            self.save()
            self.prove(answers, untuned)

    def find_model(self) -> None:
        from luthier.models import load_tokenizer

        self.emit(Phase("finding the model"))
        settings = self.recipe.method
        if getattr(settings, "prompt", ""):  # a file, found from the recipe's folder
            settings = settings.model_copy(update={"prompt": absolute(settings.prompt, self.base)})
            self.recipe = self.recipe.model_copy(update={"method": settings})
        self.method = METHODS[settings.name](settings)
        if self.recipe.model == NEW:
            self.source = self.make_model()
        else:
            fetching = self.progress("fetching the model", "bytes")
            self.source, self.begun_from = find_base(self.recipe.model, self.base, self.emit, progress=fetching)
            if self.begun_from is not None and self.begun_from.task == self.recipe.task.name:
                self.earlier = self.begun_from
        self.task = fitted_task(self.recipe.task, self.source, self.method, self.recipe.model)
        self.tokenizer = self.task.prepare(load_tokenizer(self.source), self.source)

    def make_model(self) -> Source:
        """A model from nothing: its vocabulary is that of the training rows, so these are read first."""
        from .new_model import new_model

        task = TASKS[self.recipe.task.name](self.recipe.task)
        self.prepared = prepare(self.recipe.data, task, self.base, None, self.emit)
        refuse_errors(self.prepared)
        rows = self.prepared.splits["train"]
        return new_model(self.recipe.task, rows, self.recipe.seed, self.folder, self.emit)

    def prepare(self) -> None:
        from luthier.engine.device import resident_memory

        self.begun_with = resident_memory()
        if self.recipe.model != NEW:
            self.prepared = prepare(self.recipe.data, self.task, self.base, self.tokenizer, self.emit)
        if self.earlier is not None and not self.prepared.errors:
            keep_apart(self.prepared, self.earlier, self.task, self.recipe.data, self.emit)
        if self.again:
            self.refuse_other_data()
        write_json(self.folder.data, self.prepared.as_json())
        refuse_errors(self.prepared)
        write_jsonl(self.folder.splits, split_lines(self.prepared))
        self.replayed = old_rows(self)
        require(self.recipe.evidence, self.base, self.prepared, self.task)
        require_paraphrases(self.recipe.evidence, self.task, self.base, self.emit)

    def refuse_other_data(self) -> None:
        """RunError where a run that has a checkpoint would go on with other rows; one that has none only says so."""
        from luthier.training.checkpoint import complete

        if not self.folder.data.is_file():
            return
        now = {str(file["path"]): file for file in self.prepared.files}
        old = [file for file in read_json(self.folder.data)["files"] if str(file["path"]) in now]
        odd = [file for file in old if file["sha256"] != now[str(file["path"])]["sha256"]]
        if not odd:
            return
        name = str(odd[0]["path"])
        found = f"it is not the file that the run began with ({odd[0]['rows']:,} rows then, {now[name]['rows']:,} now)"
        if complete(self.folder.checkpoints):
            fix = "put the old file back, or begin again with luthier train RECIPE --out NEW"
            raise RunError(found, where=name, fix=fix)
        self.emit(Phase(f"starting over with other rows: {name} has changed"))

    def find_machine(self) -> None:
        from luthier.engine.device import find_machine, keep_memory
        from luthier.models import home

        keep_memory()
        asked, memory = self.recipe.train.dtype, home() / "machine.json"
        self.machine = find_machine(self.ranks.from_main(lambda: find_machine(asked, memory).dtype))
        self.recipe = self.recipe.resolved(self.machine, self.source)

    def write_beginnings(self) -> None:
        """The full recipe, its paths made absolute so that it repeats from any folder here, and the environment."""
        from .augment import with_whole_paths

        data = with_whole_paths(self.recipe.data, self.base)
        # A resumed run reads these, and is told by its recipe.
        made_by = self.recipe.data.model_copy(update={"augment": data.augment})
        evidence = with_whole_names(self.recipe.evidence, self.base)
        self.recipe = self.recipe.model_copy(update={"data": made_by, "evidence": evidence})
        model = absolute(self.recipe.model, self.base)
        if self.begun_from is not None:
            model = str(self.begun_from.folder.path.resolve())
        elif self.source.folder.resolve() not in (Path(model), Path(model) / "model"):
            model = self.recipe.model  # a folder of this name is here, and is not what the name means
        self.written = self.recipe.model_copy(update={"data": data, "model": model})
        write_text(self.folder.recipe, config.dump(self.written))
        write_json(self.folder.environment, environment(self.machine, self.ranks.count))

    def augment(self) -> None:
        """Add made rows to the training split; all of them stand in made.jsonl, with what they were made from."""
        from .augment import Makers, make_rows, read_made

        options = self.recipe.data.augment
        if not options:
            return
        file, splits, seed = self.folder.made, self.prepared.splits, self.recipe.seed
        with self.ranks.main_first():
            if (self.again or not self.ranks.main) and file.is_file():  # made before the run was stopped, or just now
                made = read_made(self.folder)
                numbers = Counter(row["made_by"] for row in made)
                finding = Finding("augmented", "note", f"{len(made):,} training rows were made from others.", numbers)
            else:
                makers = Makers(self.base, self.machine, self.budget, self.emit)
                made, finding = make_rows(options, self.task, splits, makers, self.base, seed)
                write_jsonl(
                    file, ({"id": r.id, "fields": dict(r.fields), "file": r.file, "line": r.line} for r in made)
                )
        self.prepared.findings.append(finding)
        splits["train"] = [*splits["train"], *made]
        write_jsonl(self.folder.splits, split_lines(self.prepared))
        write_json(self.folder.data, self.prepared.as_json())
        if self.recipe.data.compare_augmented and splits["test"]:
            self.without = self.tune_without()

    def tune_without(self) -> RunFolder:
        """The same run without made rows, in a folder of its own, to hold this one against. It is there for its
        scores, so looks that take long are left to this one.
        """
        from .start import carry_out

        folder = RunFolder(self.folder.path / "without-made-rows")
        begun = self.ranks.from_main(folder.recipe.is_file)
        if self.ranks.from_main(lambda: folder.status_file.is_file() and folder.finished()):
            return folder
        plain = self.recipe.data.model_copy(update={"augment": []})
        looks = self.recipe.evidence.model_copy(update={"deep": False, "few_shot": 0, "paraphraser": ""})
        recipe = self.recipe.model_copy(update={"data": plain, "evidence": looks})
        if self.ranks.main:
            folder.path.mkdir(exist_ok=True)
            write_text(folder.recipe, config.dump(recipe))
        self.emit(Phase("tuning without the made rows"))

        def listen(event: Event) -> None:
            if isinstance(event, Phase):
                event = replace(event, what=f"{event.what}, without made rows")
            self.listen(event)

        carry_out(recipe, self.base, folder, listen, again=begun, ranks=self.ranks)
        self.emit(Phase("tuning with the made rows"))
        return folder

    def encode(self) -> None:
        splits = self.prepared.splits
        self.task.learn(splits["train"])
        if self.earlier is not None:
            self.task.inherit(self.earlier.state)
        train = self.recipe.train
        if train.label_smoothing or train.class_weights != "none":
            self.task.regularise(train.label_smoothing, train.class_weights, splits["train"])
        refuse_unfit(train, self.task, self.method.name)
        if self.machine.device == "cpu":  # on a GPU nothing can be said of memory yet
            self.outlook = self.look_ahead(len(splits["train"]))
        self.examples = {}
        for name, rows in splits.items():
            if rows:
                self.emit(Phase(f"encoding the {name} rows", 0, len(rows)))
                some = [*rows, *self.replayed] if name == "train" else rows
                self.examples[name] = self.task.encode(some, self.tokenizer)
        if self.ranks.count > 1:
            rows_of = {name: [row.id for row in rows] for name, rows in splits.items()}
            self.ranks.same("division of the rows, or set of labels,", json_text([rows_of, self.task.state]))

    def look_ahead(self, train: Examples | int) -> Outlook:
        """What is known of the run before its model is loaded."""
        from .fitting import outlook

        parts = (self.recipe, self.task, self.method, self.source, self.machine)
        return outlook(*parts, train, self.begun_with)

    def foresee(self) -> None:
        """Refuse a run that its disk has no room for, say what it will hold of memory at its peak, before the model is
        loaded, and make it fit where that is asked.

        A run that has a checkpoint goes on under the conditions that it was begun with.
        """
        from luthier.engine.device import available_memory
        from luthier.training.checkpoint import complete

        from .disk import require_disk
        from .fitting import held_against

        seen = self.look_ahead(self.examples["train"])
        if self.ranks.main:
            require_disk(seen, self.recipe, self.source.folder, self.prepared.splits, self.folder)
        if self.machine.device != "cpu":
            return
        free = self.recipe.train.fit == "auto" and not complete(self.folder.checkpoints)
        self.outlook, told = self.ranks.from_main(
            lambda: held_against(seen, available_memory(self.ranks.count), may_change=free)
        )
        if told.changed:
            changes = {key.removeprefix("train."): value for key, value in told.changed.items()}
            train = self.recipe.train.model_copy(update=changes)
            self.recipe = self.recipe.model_copy(update={"train": train})
            self.written = self.written.model_copy(update={"train": train})
            write_text(self.folder.recipe, config.dump(self.written))
        self.emit(told)

    def build(self) -> None:
        import torch

        from luthier.engine.attention import use_cpu_attention
        from luthier.engine.dropout import use_cheap_dropout
        from luthier.engine.heads import use_exact_head
        from luthier.engine.language.model import prepare_language_model
        from luthier.models import copy_grown, dropout_settings
        from luthier.models.quiet import quiet_transformers

        self.emit(Phase("loading the model"))
        options, head = self.recipe.train, self.task.head()
        torch.manual_seed(self.recipe.seed)
        settings = dropout_settings(self.source, options.dropout, options.attention_dropout)
        model = self.task.build(self.source, {**settings, **self.method.loading(head)})
        if self.earlier is not None:
            copy_grown(model, self.source)
        if self.machine.device == "cpu":
            use_cheap_dropout(model)
            if self.machine.bf16:
                use_cpu_attention(model)
        if options.gradient_checkpointing:
            with quiet_transformers():  # its newer name came after 5.17, and this one warns since
                model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        model = self.method.apply(model, head)
        use_exact_head(model, head.modules)
        self.model = model.to(self.machine.device)
        prepare_language_model(self.model, self.machine, apart=self.method.needs_base)
        self.ranks.same_weights(self.model)
        if not self.method.trains:
            self.parameters = sum(p.numel() for p in model.parameters())

    def keep_features(self) -> None:
        """For a frozen backbone: its features in place of tokens, and the head told their mean and spread."""
        from luthier.engine.heads import FeatureModel
        from luthier.engine.inference import keep_features

        if not isinstance(self.model, FeatureModel):
            return
        for name, examples in self.examples.items():
            progress = self.progress(f"computing features of the {name} rows")
            self.examples[name] = keep_features(self.model, examples, self.machine, self.budget, progress, self.ranks)
        columns = self.examples["train"].columns
        self.model.head.measure([one for name in columns if name.endswith("hidden") for one in columns[name]])

    @property
    def budget(self) -> int:
        return int(self.recipe.train.token_budget)

    def answers_to(self, task: Task, name: str, what: str, *, final: bool = True) -> tuple[list[Answer], float]:
        """`task`'s answers to the rows of split `name`, and its mean loss there."""
        rows, examples = self.prepared.splits[name], self.examples[name]
        if not self.method.trains and task is not self.task:  # it is asked without the examples
            examples = task.encode(rows, self.tokenizer)
        progress = self.progress(what)
        work = Work(
            *(rows, examples, self.model, self.tokenizer, self.machine, self.budget, progress),
            batch_size=self.recipe.train.batch_size,
            exact=task is self.task or self.earlier is not None or not self.task.head().modules,
            ranks=self.ranks,
        )
        return answer_examples(task, work, final=final)

    def answer_untuned(self) -> list[Answer]:
        """What the model answers before training, its threshold chosen on validation as the tuned model's will be."""
        from .untuned import Untuned, keep, kept, key_of

        self.looks.before()
        key = key_of(self)
        found = self.ranks.from_main(lambda: kept(self.folder.untuned, key)) if self.again else None
        if found is None:
            found = Untuned(*self.ask_untuned())
            if self.ranks.main:
                keep(self.folder.untuned, key, found)
        self.untuned_state = found.state
        if found.answers:
            self.looks.with_examples(found.answers)
        return list(found.answers)

    def ask_untuned(self) -> tuple[list[Answer], dict[str, Any]]:
        """(its answers to the test rows, what was chosen on the validation rows)."""
        shadow = self.task.untuned()
        rows = self.prepared.splits
        if rows["validation"]:
            given, _ = self.answers_to(shadow, "validation", "untuned model, validation rows", final=shadow.chooses)
            shadow.choose(rows["validation"], given)
        if not rows["test"]:
            return [], shadow.state
        given, _ = self.answers_to(shadow, "test", "untuned model, test rows")
        return shadow.settle(rows["test"], given), shadow.state

    def score(self, model: nn.Module) -> tuple[float, float, dict[str, float]]:
        """(the score that chooses checkpoints, more is better; loss; all scores) on the validation rows."""
        rows = self.prepared.splits["validation"]
        given, loss = self.answers_to(self.task, "validation", "scoring the validation rows", final=False)
        trial = self.task.copy()
        trial.choose(rows, given)
        scores = trial.score(rows, trial.settle(rows, given))
        return self.ranks.from_main(lambda: (watched(trial, scores), loss, scores))

    def fit(self) -> None:
        import torch

        from luthier.engine.device import give_back_memory
        from luthier.engine.heads import head_parameters
        from luthier.training.loop import Training, fit
        from luthier.training.trackers import Trackers

        options = self.recipe.train
        objective, pull = keep_what_it_knows(self)
        fixed = {
            "recipe": fingerprint(self.recipe),
            "data": sorted(str(f["sha256"]) for f in self.prepared.files),
            "model": self.source.sha256,
            "threads": self.machine.threads,
            "processes": self.ranks.count,
            "device": self.machine.device,
            "torch": torch.__version__,
        }
        rows = [*self.prepared.splits["train"], *self.replayed]
        known = len(self.prepared.splits["train"])
        objective, train = corrected(objective, self.model, self.task, options, self.examples["train"], rows, known)
        if not options.changes_embeddings:  # noise and worst changes have the size of a row, which a pack hides
            train = self.task.arrange(train, self.model, options.batch_size, self.budget)
        work = Training(
            model=self.model,
            examples=train,
            objective=objective,
            pull=pull,
            options=options,
            machine=self.machine,
            ranks=self.ranks,
            seed=self.recipe.seed,
            folder=self.folder.checkpoints,
            learned=learned,
            watched=self.task.watched_key,
            score=self.score if self.prepared.splits["validation"] else None,
            fixed=fixed,
            stop=self.asked_to_stop,
            before_saving=self.folder.sync_events,
            again=self.again,
            row_ids=[row.id for row in rows],
            head=frozenset(head_parameters(self.model, self.task.head())),
        )
        torch.manual_seed(self.recipe.seed)
        self.training = True
        trackers = None
        if options.trackers and self.ranks.main:
            facts = self.recipe.model_dump(mode="json")
            trackers = Trackers(options.trackers, self.folder.path, facts, cpu=self.machine.device == "cpu")
        for event in fit(work):
            self.emit(event)
            if trackers is not None:
                trackers.hear(event)
            if isinstance(event, Started):
                self.trained_parameters, self.parameters = event.trained_parameters, event.parameters
            if isinstance(event, Saved):
                self.folder.note_status("running", step=event.step)
            if isinstance(event, Stopped) and event.reason == "signal":
                raise Interrupted("stopped", signal=self.watch.asked or 2)
        self.training = False
        if isinstance(objective, Debiased):
            objective.close()
        if trackers is not None:
            trackers.close()
        give_back_memory()  # the optimizer's: evidence brings libraries of its own, which need not add to the peak

    def asked_to_stop(self) -> bool:
        """Whether any rank was asked to; then all were."""
        if asked := self.ranks.largest(self.watch.asked or 0):
            self.watch.hear(asked)
        return self.watch.asked is not None

    def answer(self) -> dict[str, list[Answer]]:
        """The tuned model's answers: validation first, on which thresholds are chosen, then test, once."""
        out = {}
        for name in ("validation", "test"):
            rows = self.prepared.splits[name]
            if rows:
                given, _ = self.answers_to(self.task, name, f"answering the {name} rows")
                if name == "validation":
                    self.task.choose(rows, given)
                out[name] = self.task.settle(rows, given)
        return out

    def save(self) -> None:
        from luthier.models.quiet import quiet_transformers
        from luthier.serve.predict import SETTINGS

        from .facts import base_name

        self.emit(Phase("saving the model"))
        base = base_name(self.source)

        def write(folder: Path) -> None:
            with quiet_transformers():
                self.method.save(self.model, folder, base)
                self.task.finish(folder, self.source)
                self.tokenizer.save_pretrained(folder)
            settings = {
                "luthier": __version__,
                "task": self.recipe.task.model_dump(mode="json"),
                "kind": self.source.kind,
                "state": self.task.state,
                "untuned_state": self.untuned_state,
                "method": self.recipe.method.model_dump(mode="json"),
                "base": {
                    "name": self.recipe.model if base == str(self.source.folder) else base,
                    "folder": str(self.source.folder),
                    "revision": self.source.revision,
                    "sha256": self.source.sha256,
                },
            }
            write_json(folder / SETTINGS, settings)

        size = sum(tensor.nbytes for tensor in learned(self.model).values())  # at least
        publish(self.folder.model, write, replace=True, size=size)

    def prove(self, answers: dict[str, list[Answer]], untuned: list[Answer]) -> None:
        from luthier.engine.device import peak_memory
        from luthier.models import home

        from .prove import Proof, prove

        self.folder.sync_events()  # what is proved is read from it
        self.looks.at_data()
        peak = peak_memory()
        proof = Proof(
            self.recipe,
            self.task,
            self.method,
            self.source,
            self.prepared,
            self.folder,
            answers,
            untuned,
            self.trained_parameters,
            self.parameters,
            peak,
            environment(self.machine, self.ranks.count),
            self.tokenizer,
            forecast_memory=self.outlook.forecast.total if self.outlook is not None else 0,
            went_on=self.earlier is not None,
        )
        self.looks.after(proof, answers.get("test", []))
        verdict = prove(proof, home(), self.emit)
        peak = peak_memory()  # with the report
        self.folder.add_event({"event": "end", "step": self.step, "verdict": verdict.word, "peak_memory": peak})
        self.folder.sync_events()
        self.folder.set_status(
            "finished",
            step=self.step,
            verdict=verdict.word,
            peak_memory=peak,
            forecast_memory=proof.forecast_memory,
            trained_parameters=self.trained_parameters,
            parameters=self.parameters,
        )


def watched(task: Task, scores: Mapping[str, float]) -> float:
    """The score that chooses among checkpoints, turned so that more is better."""
    score = scores[task.watched_key]
    return score if measure(task.watched_key).higher_is_better else -score
