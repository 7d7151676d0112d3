"""What happens in a run, as values. The terminal, events.jsonl, trackers and the report all read the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `logged` says whether it belongs in events.jsonl."""

    name: ClassVar[str] = "event"
    logged: ClassVar[bool] = True

    def as_json(self) -> dict[str, Any]:
        return {"event": self.name, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Phase(Event):
    """Progress of work that is not training: `done` of `total` (0: unknown) `unit`s."""

    name: ClassVar[str] = "phase"
    logged: ClassVar[bool] = False
    what: str
    done: int = 0
    total: int = 0
    unit: str = "rows"


@dataclass(frozen=True, slots=True)
class Started(Event):
    """Training begins or goes on: how much there is to do."""

    name: ClassVar[str] = "start"
    step: int
    steps: int
    examples: int
    trained_parameters: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Step(Event):
    """One optimizer step. `loss` is the mean over the step's examples, `seconds` its wall time."""

    name: ClassVar[str] = "step"
    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    examples: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Scored(Event):
    """The validation rows were scored. `train_loss` is the mean since the last scoring.

    `score` is the one of `scores` that chooses among checkpoints, `key` its name, turned so that more is better.
    """

    name: ClassVar[str] = "scored"
    step: int
    epoch: float
    loss: float
    train_loss: float
    score: float
    best: bool
    key: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Saving(Event):
    """A checkpoint of `step` is about to be written: what was logged until now must not be lost before it is."""

    name: ClassVar[str] = "saving"
    logged: ClassVar[bool] = False
    step: int


@dataclass(frozen=True, slots=True)
class Saved(Event):
    name: ClassVar[str] = "saved"
    step: int
    path: str


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """A run goes on from a checkpoint; `from_step` 0: from the beginning."""

    name: ClassVar[str] = "resumed"
    from_step: int
    step: int


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """Training is over, by its end or before it; `reason`: finished, early-stopping or signal."""

    name: ClassVar[str] = "stopped"
    step: int
    reason: str
    best_step: int
    best_score: float | None
