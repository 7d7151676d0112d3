"""Test rows in other words: from the user's file (`evidence.paraphrases`) and by a model (`evidence.paraphraser`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.data import augment as rules
from luthier.data import load
from luthier.errors import DataError, ModelError
from luthier.evidence.options import EvidenceOptions
from luthier.evidence.report.content import model_text
from luthier.evidence.robustness import Paraphrases, spoken_text
from luthier.evidence.robustness.paraphrase import from_model, from_texts
from luthier.models.kinds import a_kind, read_config
from luthier.records import Field, Form, Row
from luthier.tasks import Task
from luthier.training.events import Event, Phase

from .augment import Makers, in_other_words, whole_model
from .provenance import absolute

if TYPE_CHECKING:
    from luthier.engine.device import Machine
    from luthier.models import Source

Emit = Callable[[Event], None]
FILE, MODEL = "evidence.paraphrases", "evidence.paraphraser"
TEXT = Form(
    (Field("text", "text", "the row said otherwise", aliases=("paraphrase", "question", "source", "request")),), "text"
)


def require_paraphrases(options: EvidenceOptions, task: Task, base: Path, emit: Emit) -> None:
    """DataError or ModelError where what the recipe names can give no row: better told before training than after."""
    if not options.paraphrases and not options.paraphraser:
        return
    where = FILE if options.paraphrases else MODEL
    if task.form[task.form.target].kind == "tags" or task.name in ("embedding", "pretraining"):
        found = f"{task.name} has no text of a person's own that could be said in other words"
        raise DataError(found, where=where, fix="leave it out")
    if not options.robustness:
        found = "it is read by robustness, which is switched off"
        raise DataError(found, where=where, fix="evidence.robustness: 200, or leave it out")
    if options.paraphrases:
        _texts(options.paraphrases, base)
    if options.paraphraser:
        _source(options.paraphraser, base, emit)


def paraphrases(
    options: EvidenceOptions, task: Task, rows: Sequence[Row], base: Path, machine: Machine, budget: int, emit: Emit
) -> Paraphrases | None:
    """The rows in other words, the user's own where there are such, else a model's; None where none are asked for."""
    if options.paraphrases:
        texts = _texts(options.paraphrases, base)
        return from_texts(task.form, rows, texts, Path(options.paraphrases).name)
    if not options.paraphraser:
        return None
    asked = [(place, spoken_text(task.form, row)) for place, row in enumerate(rows)]
    asked = [(place, text) for place, text in asked if text.strip()]
    made = rules.rewritten(
        [Row(str(place), {"text": text}) for place, text in asked],
        TEXT,
        *_writer(options.paraphraser, base, machine, budget, emit),
    )
    old = dict(asked)
    written = [(int(row["made_from"]), old[int(row["made_from"])], str(row["text"])) for row in made.rows]
    return from_model(task.form, rows, written, made.why, model_text(options.paraphraser))


def rows_asked(options: EvidenceOptions, rows: Sequence[Row], base: Path, most: int) -> list[int]:
    """The places of at most so many rows: those that the user says otherwise first, the others evenly, in their order.

    A file that cannot be read gives none here; `paraphrases` then says so.
    """
    try:
        said = {id for id, _ in _texts(options.paraphrases, base)} if options.paraphrases else set[str]()
    except DataError:
        said = set()
    own = [place for place, row in enumerate(rows) if row.id in said]
    others = [place for place, row in enumerate(rows) if row.id not in said]
    chosen = _evenly(own, most)
    return sorted(chosen + _evenly(others, most - len(chosen)))


def _evenly(places: list[int], most: int) -> list[int]:
    count = min(most, len(places))
    return [places[i * len(places) // count] for i in range(count)]


def _writer(
    name: str, base: Path, machine: Machine, budget: int, emit: Emit
) -> tuple[rules.Write, str, Callable[[str], str]]:
    """(what rewrites texts, what it is called, how it is asked): by the kind of the model."""
    source, makers = _source(name, base, emit), Makers(base, machine, budget, emit, MODEL)
    if source.kind == "decoder":
        return makers.write(name, "paraphrasing"), "paraphrase", in_other_words
    of_t5 = "t5" in str(read_config(source.folder).get("model_type"))  # these are told the task in front
    return makers.rewrite(name, "paraphrase: " if of_t5 else ""), "paraphrase", lambda text: text


def _source(name: str, base: Path, emit: Emit) -> Source:
    from luthier.models import resolve

    source = resolve(name, base=base, say=lambda text: emit(Phase(text)))
    if source.kind == "encoder":
        raise ModelError(
            f"it is {a_kind(source.kind)}, which writes nothing",
            where=f"{MODEL}: {name}",
            fix="name a chat model (a decoder) or an encoder-decoder that paraphrases",
        )
    return source


def _texts(name: str, base: Path) -> list[tuple[str, str]]:
    """(row id, text) of every row of the user's file; of several to one row, each."""
    try:
        loaded = load(name, TEXT, base=base)
    except DataError as error:
        raise DataError(error.found, where=f"{FILE}: {name}", fix=error.fix) from None
    if not loaded.rows:
        raise DataError("it holds no row with a text", where=f"{FILE}: {name}", fix="give each line an id and a text")
    again = {(fault.file, fault.line): fault.value for fault in loaded.faults if fault.code == "duplicate-id"}
    return [(again.get((row.file, row.line), row.id), str(row["text"])) for row in loaded.rows]


def with_whole_names(options: EvidenceOptions, base: Path) -> EvidenceOptions:
    """The block with whole paths for the files and the model that it names, so that it means the same in any folder."""
    return options.model_copy(
        update={
            "benchmarks": [absolute(name, base) for name in options.benchmarks],
            "paraphrases": absolute(options.paraphrases, base) if options.paraphrases else "",
            "paraphraser": whole_model(options.paraphraser, base) if options.paraphraser else "",
        }
    )
