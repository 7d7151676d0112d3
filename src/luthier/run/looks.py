"""What is looked at beside training and its scores: at the model before tuning, at the data, at the tuned model.

A look that fails costs itself and is told (attempt.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from luthier.data import units
from luthier.errors import LuthierError
from luthier.files import read_jsonl, read_log, write_json
from luthier.records import Answer, Finding, Row
from luthier.training.events import Phase

from .attempt import attempt
from .earlier import added_finding
from .prepare import group_field
from .use import saved_answer

if TYPE_CHECKING:
    from luthier.evidence.bias.counterfactual import Swapped
    from luthier.evidence.learning.general import Change, State
    from luthier.evidence.robustness import Robustness

    from .job import Job
    from .prompted import Prompted
    from .prove import Proof

T = TypeVar("T")
WRITTEN = 40  # rows that are asked again where answers are written word by word, which takes long


class Looks:
    """Every look at one run."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.failed: list[Finding] = []
        self.general: State | None = None  # what the untuned model makes of everyday texts
        self.prompted: Prompted | None = None  # what it answers with examples in its prompt

    def before(self) -> None:
        """At the model before it is tuned."""
        self.general = self._looked("general language", self._general, None)

    def with_examples(self, untuned: Sequence[Answer]) -> None:
        """At its answers to the test rows with examples before them, beside those without."""
        self.prompted = self._looked("the untuned model with examples", lambda: self._prompted(untuned), None)

    def at_data(self) -> None:
        """Whether labels can be believed, whether rows are enough and varied: into findings and data.json."""
        from .soundness import look_at_data

        job = self.job
        taken = sum(event["seconds"] for event in read_log(job.folder.events) if event.get("event") == "step")
        alone = taken * job.ranks.count  # what is trained again is trained in one process
        parts = (job.prepared, job.task, job.recipe, job.base, job.emit, alone)
        job.prepared.facts["soundness"] = look_at_data(*parts)
        write_json(job.folder.data, job.prepared.as_json())

    def after(self, proof: Proof, answers: Sequence[Answer]) -> None:
        """At the tuned model, whose answers to the test rows are given; into `proof`."""
        proof.general = self._looked("general language", self._change, None)
        proof.swaps = self._looked("swapped groups", lambda: self._swaps(answers), [])
        proof.robustness = self._looked("robustness", lambda: self._robustness(answers), None)
        proof.prompted = self.prompted
        proof.findings += self._looked("the earlier run's rows", self._kept, [])
        proof.findings += self._looked("the run without made rows", lambda: self._gained(answers), [])
        proof.findings += self.failed

    def _looked(self, what: str, look: Callable[[], T], nothing: T) -> T:
        return attempt(what, look, nothing, self.failed)

    def _general(self) -> State | None:
        """What the model makes of everyday texts now, where tuning may change that."""
        from .general import general_state

        job = self.job
        if not job.recipe.evidence.general or not job.method.changes_backbone:
            return None
        job.emit(Phase("reading everyday sentences"))
        return general_state(job.model, job.tokenizer, job.machine, job.source.kind)

    def _prompted(self, untuned: Sequence[Answer]) -> Prompted | None:
        from .prompted import Before, prompted

        job = self.job
        parts = (job.recipe, job.source, job.method, job.model, job.tokenizer, job.machine, job.budget)
        before = Before(*parts, job.earlier.state if job.earlier is not None else None, job.ranks)
        splits, progress = job.prepared.splits, job.progress("untuned model with examples")
        return prompted(before, splits["train"], splits["test"], untuned, progress)

    def _change(self) -> Change | None:
        from luthier.evidence.learning.general import change

        after = self._general() if self.general is not None else None
        return (
            change(self.general, after, self.job.recipe.seed)
            if self.general is not None and after is not None
            else None
        )

    def _robustness(self, answers: Sequence[Answer]) -> Robustness | None:
        """On some test rows, those of the user's paraphrases first; None for a task without texts, or too few rows."""
        from luthier.evidence.robustness import KINDS, measure_robustness

        from .paraphrases import paraphrases, rows_asked

        job, rows = self.job, self.job.prepared.splits["test"]
        count = min(len(rows), self._most(job.recipe.evidence.robustness))
        if not count:
            return None
        options, done = job.recipe.evidence, 0
        chosen = rows_asked(options, rows, job.base, count)
        whole = (len(KINDS) + bool(options.paraphrases or options.paraphraser)) * count

        def ask(some: Sequence[Row]) -> Sequence[Answer]:
            nonlocal done
            job.emit(Phase("answering rows written differently", min(done, whole), whole))
            done += count
            return self._answers(some)

        together = self._units(rows)
        own = None if together is None else [together[i] for i in chosen]
        some, told = [rows[i] for i in chosen], [answers[i] for i in chosen]
        parts = (job.base, job.machine, job.budget, job.emit)
        said = self._looked("paraphrases", lambda: paraphrases(options, job.task, some, *parts), None)
        found = measure_robustness(job.task, some, told, ask, own, job.recipe.seed, said)
        return found if found.ways or said is not None else None

    def _swaps(self, answers: Sequence[Answer]) -> list[Swapped]:
        """Whether answers change where the groups in texts are swapped."""
        from luthier.evidence.bias.terms import read_terms

        from .swaps import WHAT, Asked, swap

        job, test = self.job, self.job.prepared.splits["test"]
        most = self._most(job.recipe.evidence.swaps)
        if not most or not answers or job.task.name in ("embedding", "pretraining"):
            return []
        job.emit(Phase(WHAT))
        asked = Asked(job.task, test, answers, self._units(test), job.recipe.seed)
        return swap(asked, read_terms(None), self._answers, most)[0]

    def _kept(self) -> list[Finding]:
        """For a run that goes on from another: what was added, and what became of the old test rows."""
        from luthier.evidence.learning.forgetting import forgetting_finding, measure_forgetting

        job = self.job
        if job.earlier is None:
            return []
        try:
            old, test = (job.earlier.rows(name, job.emit) for name in ("train", "test"))
        except LuthierError as error:
            said = f"What it has forgotten cannot be told: {error.found}."
            told = any(finding.id == "old-rows-gone" for finding in job.prepared.findings)
            return [] if told else [Finding("old-rows-gone", "warning", said)]
        findings = [added_finding(job.earlier, job.task, old, job.prepared.splits["train"], len(job.replayed))]
        if test:
            before = job.earlier.answers(test, job.emit)
            now = self._answers(test, job.progress("answering the old test rows"))
            found = measure_forgetting(job.task, test, before, now, self._units(test), job.recipe.seed)
            done = job.recipe.train.forgetting.method
            findings += [forgetting_finding(found, job.earlier.name, done)] if found else []
        return findings

    def _gained(self, answers: Sequence[Answer]) -> list[Finding]:
        """What the made rows brought: this run and the one without them on the same test rows."""
        from luthier.evidence.learning.augmentation import augmentation_finding

        job = self.job
        if job.without is None:
            return []
        rows = job.prepared.splits["test"]
        before = {line["id"]: saved_answer(line) for line in read_jsonl(job.without.predictions / "test.jsonl")}
        others = [before[row.id] for row in rows]
        return [augmentation_finding(job.task, rows, answers, others, self._units(rows), job.recipe.seed)]

    def _most(self, rows: int) -> int:
        written = self.job.task.speaks or hasattr(self.job.recipe.task, "max_new_tokens")
        return min(rows, WRITTEN) if written else rows

    def _answers(self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None) -> list[Answer]:
        """The tuned model's answers to other rows."""
        from luthier.serve import answer_rows

        job = self.job
        told = answer_rows(job.task, job.model, job.tokenizer, rows, job.machine, job.budget, progress)
        return job.task.settle(rows, told)

    def _units(self, rows: Sequence[Row]) -> Sequence[int] | None:
        return units(rows, self.job.task.form, group_field(self.job.recipe.data, self.job.task, rows))
