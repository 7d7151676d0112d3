"""What a method is: which weights move, what is inserted for them, and how the result is saved and loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from luthier.config import Section
from luthier.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from luthier.engine.heads import HeadSpec
    from luthier.models import Source

    class Build(Protocol):
        """The task's own way from a source to its stock model; `settings` go to transformers.

        With `fresh` the head may start untrained, otherwise every weight must be in the source.
        """

        def __call__(self, source: Source, fresh: bool, /, **settings: Any) -> nn.Module: ...


EVERY_KIND = frozenset({"encoder", "decoder", "encoder-decoder"})


class Method(ABC):
    """A method with its settings. It knows heads and backbones, never a task."""

    name: ClassVar[str]
    Options: ClassVar[type[Section]]
    kinds: ClassVar[frozenset[str]] = EVERY_KIND
    trains: ClassVar[bool] = True
    changes_backbone: ClassVar[bool] = True  # the base model's own computations, not only what goes in or comes out
    bytes_a_weight: ClassVar[int] = 5  # of the base model in fp32; 4, and what is trained has gradients and averages
    needs_base: ClassVar[bool] = False  # what it saves is no use without the base model
    own_head: ClassVar[bool] = False  # it puts its own head on features, so a language model needs no asking
    library: ClassVar[str] = "transformers"  # what a model card says `model/` loads with
    called: ClassVar[Mapping[str, str]] = {}  # in tables, where it is not "tuned" and "untuned": these -> words

    def __init__(self, options: Any) -> None:
        self.options = options

    @property
    def offset(self) -> int:
        """Positions it puts in front of the input, for which the model must have room."""
        return 0

    @abstractmethod
    def learning_rate(self, width: int) -> float:
        """What `learning_rate: auto` stands for in a backbone of this width (its hidden size)."""

    def loading(self, head: HeadSpec) -> dict[str, Any]:
        """What the base model is loaded with beside the task's settings. ModelError where this machine cannot."""
        return {}

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

    def merge(self, model: nn.Module) -> nn.Module:
        """The tuned model as its stock class with weights of the stock shapes. ModelError where there is no such."""
        raise ModelError(
            f"what {self.name} adds is no part of the stock class, so it cannot be merged into the weights",
            where="method",
            fix="use model/ by the lines in its README.md, or tune with method: lora or full",
        )

    @abstractmethod
    def card_code(self, auto_class: str, head: HeadSpec) -> str:
        """Lines of a model card that define `tokenizer`, `model` and `predict(inputs)`, without luthier.

        `predict` gives what the head gives: logits, or of a class without a head the last hidden states.
        """


_LOGITS = "def predict(inputs):\n    return model(**inputs).logits\n"
_SPANS = (
    "def predict(inputs):\n    out = model(**inputs)\n    return torch.stack([out.start_logits, out.end_logits], -1)\n"
)
_STATES = "def predict(inputs):\n    return model(**inputs).last_hidden_state\n"
_OTHERS = {"AutoModelForQuestionAnswering": _SPANS, "AutoModel": _STATES}
_SIZED = ("AutoModelForSequenceClassification", "AutoModelForTokenClassification")


def stock_predict(auto_class: str) -> str:
    """What a model card's `predict` is for a stock class."""
    return _OTHERS.get(auto_class, _LOGITS)


def stock_base(auto_class: str, outputs: int) -> str:
    """The line of a model card that loads the base model, its head as wide as the tuned one's."""
    size = f", num_labels={outputs}" if auto_class in _SIZED else ""
    return f"base = {auto_class}.from_pretrained(BASE{size})\n"


def learned(model: nn.Module) -> dict[str, Any]:
    """Name -> tensor of what training changes: trainable parameters, and a head's own measures."""
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    state = {name: p.detach() for name, p in model.named_parameters() if name in names}
    state |= {name: b for name, b in model.named_buffers() if name.startswith("head.")}
    return state


def refuse_unfit(held: set[str], known: set[str], place: Path) -> None:
    """ModelError naming the first weight that `place` holds and the model has no place for, or the other way."""
    odd = sorted(held ^ known)
    if odd:
        raise ModelError(
            f"{len(odd)} weights do not fit the model, the first is {odd[0]}",
            where=str(place),
            fix="use it with the base model and the settings that it was trained with",
        )


def refuse_left_over(model: nn.Module, folder: Path, unused: str = "") -> None:
    """ModelError if the weights in `folder` hold a tensor that `model`, which has all it needs, has no place for.

    A module named `unused` may be in the weights or not.
    """
    from luthier.models.weights import read_tensors, weight_files

    state = model.state_dict()
    held, known = (
        {name for name in names if unused not in name.split(".")}
        for names in (read_tensors(weight_files(folder)), state)
    )
    places = {state[name].data_ptr() for name in held & known}
    # What is tied is held once. Any other gap comes from names that transformers changed on the way: then nothing
    # can be said.
    gaps = {name for name in known - held if state[name].data_ptr() not in places}
    odd = sorted(held - known)
    if odd and not gaps:
        raise ModelError(
            f"{len(odd)} weights do not fit the model, the first is {odd[0]}",
            where=str(folder),
            fix="copy the whole model folder again from where it was trained",
        )
