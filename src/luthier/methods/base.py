"""What a method is: which weights move, what is inserted for them, and how the result is saved and loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from luthier.config import Section
from luthier.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    Build = Callable[[Source, bool], nn.Module]


class Method(ABC):
    """A method with its settings. It knows heads and backbones, never a task.

    `build` (in `load`) is the task's own: a source to its stock model. With False every weight must be in the
    source; with True the head may start untrained.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Section]]
    kinds: ClassVar[frozenset[str]]
    trains: ClassVar[bool] = True
    needs_base: ClassVar[bool] = False  # what it saves is no use without the base model
    offset: ClassVar[int] = 0  # positions it puts in front of the input, which answers must subtract

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def learning_rate(self, width: int) -> float:
        """What `learning_rate: auto` stands for in a backbone of this width (its hidden size)."""

    @abstractmethod
    def apply(self, model: nn.Module, head: HeadSpec) -> nn.Module:
        """The model with this method's parts in it and everything else frozen. ModelError if it touches nothing."""

    @abstractmethod
    def save(self, model: nn.Module, folder: Path, base: str) -> None:
        """Write what a process without luthier needs: safetensors and JSON. `base` names the base model."""

    @abstractmethod
    def load(self, folder: Path, base: Source | None, head: HeadSpec, build: Build) -> nn.Module:
        """The model that `save` wrote, in evaluation mode. Any weight missing or left over is an error.

        `base` is the model it was tuned from, given if the method `needs_base`.
        """

    @abstractmethod
    def card_code(self, auto_class: str, outputs: int) -> str:
        """Lines of a model card that define `tokenizer`, `model` and `predict(inputs) -> logits`, without luthier."""


_LOGITS = "def predict(inputs):\n    return model(**inputs).logits\n"
_SPANS = (
    "def predict(inputs):\n"
    "    out = model(**inputs)\n"
    "    return torch.stack([out.start_logits, out.end_logits], -1)\n"
)
STOCK_PREDICT = {"AutoModelForSequenceClassification": _LOGITS, "AutoModelForQuestionAnswering": _SPANS}
"""What a model card's `predict` is for a stock class."""


def learned(model: nn.Module) -> dict[str, Any]:
    """Name -> tensor of what training changes: trainable parameters, and a head's own measures."""
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    state = {name: p.detach() for name, p in model.named_parameters() if name in names}
    state |= {name: b for name, b in model.named_buffers() if name.startswith("head.")}
    return state


def refuse_left_over(model: nn.Module, folder: Path, unused: str = "") -> None:
    """ModelError if the weights in `folder` hold a tensor that `model`, which has all it needs, has no place for.

    A module named `unused` may be in the weights or not.
    """
    from luthier.models.weights import read_tensors, weight_files

    held, known = (
        {name for name in names if unused not in name.split(".")}
        for names in (read_tensors(weight_files(folder)), model.state_dict())
    )
    odd = sorted(held - known)
    # Tensors that transformers ties or renames on the way leave gaps, and then nothing can be said.
    if odd and known <= held:
        raise ModelError(
            f"{len(odd)} weights do not fit the model, the first is {odd[0]}",
            where=str(folder),
            fix="copy the whole model folder again from where it was trained",
        )
