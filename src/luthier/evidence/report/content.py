"""What a report and a model card are made of: plain values, put together by whoever ran the training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from ...records import Fault, Finding, Table
from ..robustness import Robustness
from ..scores.calibration import Calibration
from ..scores.score import TUNED, Evaluation
from ..scores.slices import Slices
from ..verdict import Verdict
from .rows import Chosen


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model that was tuned. `hub_id` and `sha256` name the base beyond doubt ("" where there is none).

    `library` is who loads the result (transformers, peft); parameters are counts.
    """

    name: str
    kind: str = "encoder"
    hub_id: str = ""
    sha256: str = ""
    license: str = ""
    library: str = "transformers"
    parameters: int = 0
    trained_parameters: int = 0


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file the rows came from."""

    name: str
    format: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FaultCount:
    """How often the check found one kind of fault; `example` is the message of the first."""

    code: str
    severity: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token lengths of one kind of text; `truncated` is how many rows were cut or split into windows."""

    name: str
    median: int
    p95: int
    longest: int
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The data behind a run.

    `rows`: split -> rows. `labels`: split -> label -> rows (empty where there are none). `moves`: rows that a
    split handed to another, in words. `notes`: anything else worth a sentence. `tables`: what was
    looked at beyond faults.
    """

    rows: Mapping[str, int]
    files: Sequence[SourceFile] = ()
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    faults: Sequence[FaultCount] = ()
    moves: Sequence[str] = ()
    lengths: Sequence[Lengths] = ()
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything the report shows.

    `date` is ISO 8601. `curve` holds dicts of step, epoch, train_loss, validation_loss, validation_score, the last
    turned so that more is better.
    `baseline_names`: score.BASELINES -> words, and "tuned" where that is called otherwise. `environment`: what ->
    value. `seconds` is training's wall time, `peak_memory` bytes (0: not measured), `forecast_memory` what was
    forecast of them (0: nothing). `findings` are all of the run, the verdict's own included or not.
    """

    run: str
    task: str
    method: str
    date: str
    model: ModelFacts
    evaluation: Evaluation
    verdict: Verdict
    primary: str
    data: DataFacts
    baseline_names: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    tables: Sequence[Table] = ()
    curve: Sequence[Mapping[str, Any]] = ()
    kept_step: int | None = None
    watched: str = ""  # the score of the curve, where it is not the primary one
    calibration: Calibration | None = None
    robustness: Robustness | None = None
    slices: Slices | None = None
    chosen: Chosen | None = None
    recipe: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory: int = 0
    forecast_memory: int = 0
    trained: bool = True  # any weight at all
    title: str = ""  # of the task, in words

    @property
    def tuned(self) -> str:
        """What the run's own model is called beside its baselines."""
        return self.baseline_names.get("tuned", TUNED)

    @property
    def all_findings(self) -> list[Finding]:
        """Every finding once, blockers first, then warnings, then notes."""
        once = {finding.id: finding for finding in (*self.verdict.findings, *self.findings)}
        rank = {"blocker": 0, "warning": 1, "note": 2}
        return sorted(once.values(), key=lambda finding: rank[finding.severity])


_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str, longest: int) -> str:
    """`text` without control characters and half surrogates, cut at `longest` code points."""
    shown = text if len(text) <= longest else text[: longest - 2] + " …"
    return _UNPRINTABLE.sub("\ufffd", shown)


def count_faults(faults: Iterable[Fault]) -> list[FaultCount]:
    """Faults by code, errors first, then by how many."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.code, []).append(fault)
    counts = [FaultCount(code, some[0].severity, len(some), some[0].message) for code, some in kinds.items()]
    rank = {"error": 0, "warning": 1, "note": 2}
    return sorted(counts, key=lambda count: (rank.get(count.severity, 3), -count.count, count.code))


def count_text(number: int) -> str:
    """A number of parameters in words: "22.7 M"."""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def model_text(name: str) -> str:
    """A model's name for a title: of a folder its last part."""
    return (PurePath(name).name or name) if name.startswith(("/", "~", ".")) or "\\" in name else name


def memory_text(size: int) -> str:
    """Bytes in words: "1.7 GB", "430 MB"; "" for 0."""
    if not size:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def time_text(seconds: float) -> str:
    """Seconds in words: "48 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
