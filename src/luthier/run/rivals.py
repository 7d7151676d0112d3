"""What a tuned model is held against on the same rows: cheap answers, the model before tuning, the run before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from luthier.errors import LuthierError
from luthier.evidence.baselines.by_target import baseline_names, classical, trivial
from luthier.evidence.scores.previous import previous_finding, same_rows
from luthier.evidence.scores.score import TUNED
from luthier.files import read_jsonl
from luthier.records import Answer, Finding, Row, Table
from luthier.runs import scored_before
from luthier.tasks import Task
from luthier.training.events import Event, Phase

from .attempt import attempt
from .hardened import hardening_findings
from .prepare import test_key
from .prompted import NAME as FEW_SHOT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .prove import Proof


def baselines(
    task: Task,
    train: Sequence[Row],
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    emit: Callable[[Event], None],
    only: Sequence[str] = ("trivial", "classical"),
) -> dict[str, list[Answer]]:
    """The baselines' answers by name; one that cannot be computed is left out, and said."""
    out = {}
    for name, answer in (("trivial", trivial), ("classical", classical)):
        if name not in only:
            continue
        emit(Phase(f"the {name} baseline", 0, len(rows)))
        try:
            plain = partial(answer, task.form, train, rows)
            out[name] = task.rival(name, train, rows, tokenizer, plain)
        except (LuthierError, ValueError) as error:
            emit(Phase(f"the {name} baseline failed: {error}", len(rows), len(rows)))
    return out


def called(proof: Proof) -> dict[str, str]:
    """What the run's model and what it is held against are called in tables, by key."""
    names = {**baseline_names(proof.task.form), **proof.task.rivals, **proof.method.called}
    if proof.went_on:
        names["untuned"] = "earlier run's model"
    if proof.prompted is not None:
        names[FEW_SHOT] = f"{names['untuned']}, {proof.prompted.most} examples in its prompt"
    return names


def samples(proof: Proof, names: Mapping[str, str]) -> list[Table]:
    """Written answers beside the untuned model's, and those that it gives with examples."""
    test, tuned = proof.prepared.splits["test"], proof.answers.get("test", ())
    beside: dict[str, dict[str, Answer]] = {}
    if proof.untuned:
        beside[names["untuned"]] = {row.id: answer for row, answer in zip(test, proof.untuned)}
    if proof.prompted is not None:
        pairs = zip(proof.prompted.places, proof.prompted.answers)
        beside[names[FEW_SHOT]] = {test[place].id: answer for place, answer in pairs}
    return proof.task.samples(test, tuned, beside, names.get("tuned", TUNED))


def held_against_others(proof: Proof, home: Any) -> list[Finding]:
    """What a prompt with examples was asked, and how the run before it did on the same rows."""
    test = proof.prepared.splits["test"]
    found: list[Finding] = []
    if proof.prompted is not None and test:
        found += proof.prompted.findings(len(test), proof.answers["test"])
    before = previous(proof, home)
    found += [before] if before is not None else []
    what = "what training under changes of embeddings brought"
    found += attempt(what, lambda: hardening_findings(proof, home), [], found)
    return found


def previous(proof: Proof, home: Any) -> Finding | None:
    """This run beside the newest other one that answered the same test rows."""
    test = proof.prepared.splits["test"]
    other = scored_before(test_key(test, proof.task), proof.folder.path, home) if test else None
    if other is None:
        return None
    try:
        ours, theirs = (read_jsonl(folder.predictions / "test.jsonl") for folder in (proof.folder, other))
        if not same_rows(ours, theirs) or not alike(proof.task, [*ours, *theirs]):
            return None
        return previous_finding(other.name, ours, theirs, proof.recipe.seed)
    except (LuthierError, OSError, KeyError, TypeError, ValueError):  # somebody has changed that run's files
        return None


def alike(task: Task, lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether quality means the same in two runs: how likely a token is depends on the tokenizer that cut it."""
    texts = task.form[task.form.target].kind in ("text", "messages")
    return not texts or all("ended" in line for line in lines)
