"""TensorBoard, MLflow and Weights & Biases, through accelerate. One that fails costs its numbers, never the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier.secrets import without_secrets

from .events import Event, Scored, Step

log = logging.getLogger(__name__)


class Trackers:
    """Reads the loop's events and logs their numbers. `folder` is the run's."""

    def __init__(self, names: Sequence[str], folder: Path, recipe: Mapping[str, Any], *, cpu: bool) -> None:
        from accelerate import Accelerator

        self.accelerator = accelerator = Accelerator(cpu=cpu, log_with=list(names), project_dir=str(folder))
        self.broken = False
        self._guard(lambda: accelerator.init_trackers("luthier", config=_flat(recipe)))

    def hear(self, event: Event) -> None:
        if isinstance(event, Step):
            values = {"train/loss": event.loss, "train/learning_rate": event.learning_rate}
            values["train/gradient_norm"] = event.gradient_norm
            values["train/rows_per_second"] = event.examples / max(event.seconds, 1e-9)
            self._guard(lambda: self.accelerator.log(values, step=event.step))
        elif isinstance(event, Scored):
            scores = {f"validation/{name}": value for name, value in event.scores.items()}
            self._guard(lambda: self.accelerator.log({"validation/loss": event.loss, **scores}, step=event.step))

    def close(self) -> None:
        """Not `end_training`, which would part the ranks as well."""
        for tracker in self.accelerator.trackers:
            self._guard(tracker.finish)

    def _guard(self, call: Any) -> None:
        if self.broken:
            return
        try:
            call()
        except Exception as error:  # whatever a tracking service does, training goes on
            self.broken = True
            said = without_secrets(str(error))
            log.warning("tracking stopped (%s); the run goes on, its numbers are in events.jsonl", said)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a/b: value` with plain values, which every tracker takes."""
    out: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            out |= _flat(item, f"{prefix}{key}/")
        else:
            out[prefix + key] = item if isinstance(item, (int, float, str, bool)) else str(item)
    return out
