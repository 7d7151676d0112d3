"""What the report and the model card say of a run's model and rows, and how the model is loaded again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luthier.evidence.report.content import DataFacts, Lengths, ModelFacts, SourceFile, count_faults
from luthier.evidence.soundness import soundness_tables
from luthier.tasks import Task

from .prepare import Prepared

if TYPE_CHECKING:
    from luthier.models import Source

    from .prove import Proof


def base_name(source: Source) -> str:
    """What an adapter calls its base: the hub id it was fetched by, else its folder here, so that it loads offline."""
    from_hub = source.hub_id is not None and source.asked.startswith(source.hub_id)
    return source.hub_id if from_hub and source.hub_id else str(source.folder)


def loading_code(proof: Proof) -> str:
    """Plain Python that loads model/ and answers, without luthier."""
    task, method = proof.task, proof.method
    labels = task.state.get("labels")
    places = 'FOLDER = "."  # where this file lies\n'
    if method.needs_base:
        base = base_name(proof.source)
        places += f"BASE = {base!r}  # the base model: a hub id or its folder; sha256 {proof.source.sha256}\n"
    if labels:
        places += f"LABELS = {labels!r}\n"
    code = method.card_code(task.auto_class, task.head())
    imports, _, rest = code.partition("\n\n")
    return f"{imports}\n\n{places}{rest}\n\n{task.card_code()}"


def model_facts(proof: Proof) -> ModelFacts:
    source = proof.source
    return ModelFacts(
        name=proof.recipe.model,
        kind=source.kind,
        hub_id=source.hub_id or "",
        sha256=source.sha256,
        license=source.licence or "",
        library=proof.method.library,
        parameters=proof.parameters,
        trained_parameters=proof.trained_parameters,
    )


def data_facts(prepared: Prepared, task: Task) -> DataFacts:
    labels = {}
    if task.form[task.form.target].kind == "label":
        for name, rows in prepared.splits.items():
            counts: dict[str, int] = {}
            for row in rows:
                label = str(row[task.form.target])
                counts[label] = counts.get(label, 0) + 1
            labels[name] = dict(sorted(counts.items()))
    tokens = prepared.facts.get("tokens") or {}
    lengths = []
    everything = [row for rows in prepared.splits.values() for row in rows]
    if tokens:
        over = prepared.facts.get("truncated") or prepared.facts.get("windowed") or {"rows": 0}
        lengths = [Lengths("tokens", tokens["p50"], tokens["p95"], tokens["p100"], over["rows"])]
    return DataFacts(
        rows={name: len(rows) for name, rows in prepared.splits.items()},
        files=[SourceFile(f["path"], f["format"], f["sha256"]) for f in prepared.files],
        labels=labels,
        faults=count_faults(prepared.faults),
        moves=[f"{len(m['rows'])} rows from {m['from']} to {m['to']}: {m['why']}" for m in prepared.moves],
        lengths=lengths,
        tables=soundness_tables(prepared.facts.get("soundness") or {}, everything, task.form),
    )
