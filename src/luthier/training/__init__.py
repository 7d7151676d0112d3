"""The tuning loop: a generator of events, its optimizer, its checkpoints, its trackers.

The loop itself is imported at its first use, so that a recipe is read and refused without loading torch.
"""

from typing import TYPE_CHECKING, Any

from .events import Alarm, Event, Phase, Resumed, Saved, Saving, Scored, Started, Step, Stopped
from .options import TrainOptions

if TYPE_CHECKING:
    from .loop import Training, fit

__all__ = [
    "Alarm",
    "Event",
    "Phase",
    "Resumed",
    "Saved",
    "Saving",
    "Scored",
    "Started",
    "Step",
    "Stopped",
    "TrainOptions",
    "Training",
    "fit",
]


def __getattr__(name: str) -> Any:
    if name in ("Training", "fit"):
        from . import loop

        return getattr(loop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
