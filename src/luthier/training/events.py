"""What happens in a run, as values. The terminal, events.jsonl, trackers and the report all read the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
class Memory(Event):
    """How much memory the run will hold at its peak, in bytes: `forecast` by part and in `total`.

    `available` is what it may hold (0: not known), `changed` what was set in the recipe so that it fits, and
    `remedies` what would lower the peak, the best first; none where the run fits.
    """

    name: ClassVar[str] = "memory"
    forecast: Mapping[str, int]
    available: int
    fits: bool
    changed: Mapping[str, Any] = field(default_factory=dict)
    remedies: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Trials(Event):
    """The recipe's model is about to be trained again, so many times, which takes `times` its training, `seconds` (0:
    not known).
    """

    name: ClassVar[str] = "trials"
    logged: ClassVar[bool] = False
    count: int
    times: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Started(Event):
    """Training begins or goes on: how much there is to do.

    `tokens` are those of all steps to come, `eval_steps` how many steps lie between scorings (0: none is made).
    """

    name: ClassVar[str] = "start"
    step: int
    steps: int
    examples: int
    trained_parameters: int
    parameters: int
    tokens: int = 0
    eval_steps: int = 0


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
    """A checkpoint of `step` is about to be written: what was logged until now is forced to the disk first."""

    name: ClassVar[str] = "saving"
    logged: ClassVar[bool] = False
    step: int


@dataclass(frozen=True, slots=True)
class Alarm(Event):
    """Something is wrong with the training: its kind (see `luthier.training.alarms`), what was found, what to do.

    `rows` are the ids of the rows of that step; `stops`: the run ends here, with an error that says the same.
    """

    name: ClassVar[str] = "alarm"
    step: int
    kind: str
    found: str
    rows: tuple[str, ...]
    fix: str
    stops: bool = False

    @property
    def told(self) -> str:
        """What was found, at which step, with the first of the rows."""
        shown = ", ".join(self.rows[:8]) + (f" and {len(self.rows) - 8} more" if len(self.rows) > 8 else "")
        rows = f"training rows {shown}" if self.rows else ""
        place = ", ".join(part for part in (f"step {self.step:,}" if self.step else "", rows) if part)
        return f"{self.found} ({place})" if place else self.found


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
