"""How much memory a run will hold at its peak, in parts, before its model is loaded; and what would lower it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.evidence.report.content import memory_text

from .activations import BESIDE, Piece, kept
from .shapes import Shape

if TYPE_CHECKING:
    from luthier.engine.batches import Examples

LATER = {
    "transformers.modeling_utils": 130_000_000,
    "sklearn": 105_000_000,
    "matplotlib.figure": 28_000_000,
    "peft": 10_000_000,
}
"""Modules that a run imports after the forecast, with the memory each brings: measured with the tested versions."""

KERNELS = 85_000_000
"""What libraries hold once they compute: their code, read in when it is first run, and their own work space. An
encoder-decoder in bf16 meets many pairs of lengths, and oneDNN makes and keeps kernels for each: twice as much.
"""

PIECES = 1.2
"""Working memory over what is in use at once: tensors of changing sizes leave gaps that the next ones do not fill."""

UPDATED = 1.6
"""The same where peft's low-rank updates stand in stock layers: twice as many tensors, most of them short-lived."""

SURE = 1.1
"""The forecast may be too low by this factor: only what leaves so much room is said to fit."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of every training example: all of it, and of an encoder-decoder the part that is written."""

    whole: np.ndarray
    target: np.ndarray | None = None
    labels: float = 0.0  # tokens with a label, as a share
    limit: int = 0

    @classmethod
    def of(cls, examples: Examples) -> Lengths:
        written = examples.columns.get("decoder_input_ids")
        target = None if written is None else np.array([len(one) for one in written])
        labels = examples.columns.get("labels")
        share = 0.0
        if labels is not None and len(labels) and np.ndim(labels[0]) == 1:
            some = [np.asarray(one) for one in labels[:500]]
            share = sum(int((one != -100).sum()) for one in some) / max(1, int(examples.lengths[:500].sum()))
        return cls(np.asarray(examples.lengths), target, share, examples.limit)

    def largest(self, batch_size: int, token_budget: int, *, packed: int = 0, front: int = 0) -> Piece:
        """The micro-batch with the most tokens that these examples can make, `front` virtual tokens before each row.

        `packed`: rows are filled up to so many tokens.
        """
        if packed:
            rows = max(1, min(batch_size, token_budget // packed))
            return Piece(rows, packed + front, 0, round(rows * packed * self.labels))
        lengths, counts = np.unique(self.whole, return_counts=True)
        rows = np.minimum(
            np.minimum(np.maximum(1, token_budget // np.maximum(lengths, 1)), batch_size), counts.cumsum()
        )
        best = int((rows * _padded(lengths)).argmax())
        whole, count = int(lengths[best]), int(rows[best])
        if self.target is None:
            return Piece(count, int(_padded(whole)) + front, 0, round(count * whole * self.labels))
        near = self.whole == lengths[best]
        target = int(self.target[near].max())
        source = int((self.whole - self.target)[near].max())
        return Piece(count, int(_padded(source)) + front, int(_padded(target)), round(count * whole * self.labels))


def _padded(length: Any) -> Any:
    from luthier.engine.batches import ROUND

    return -(-length // ROUND) * ROUND


@dataclass(frozen=True)
class Plan:
    """What of a recipe decides how much memory its run takes."""

    method: str
    options: Mapping[str, Any]
    batch_size: int
    token_budget: int
    bf16: bool
    gradient_checkpointing: bool
    writes: bool  # the loss is that of words: logits as wide as the vocabulary
    outputs: int  # of the head
    pooled: bool = True
    packed: int = 0  # tokens of a packed row
    remembers: bool = False  # elastic weights: another two numbers a trained weight


@dataclass(frozen=True)
class Forecast:
    """Bytes at the peak, in parts."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    data: int
    program: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def as_json(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}

    def says(self) -> str:
        """In words: "1.9 GB: weights 91 MB, gradients 91 MB, ..."."""
        parts = ", ".join(f"{name} {memory_text(size)}" for name, size in asdict(self).items() if size)
        return f"{memory_text(self.total)}: {parts}"


def forecast(shape: Shape, plan: Plan, lengths: Lengths, program: int, data: int) -> Forecast:
    """`program` and `data`: bytes of the libraries, before they compute, and of the rows with what was made of them."""
    packed = min(plan.packed, plan.token_budget)
    piece = lengths.largest(plan.batch_size, plan.token_budget, packed=packed, front=_front(plan))
    trained = trained_weights(shape, plan)
    weights = _resident(shape, plan) + 4 * _added(shape, plan)
    working = max(
        _training(shape, plan, piece, trained) if trained and plan.method != "frozen" else 0,
        _answering(shape, plan, piece),
        4 * shape.parameters - weights - 12 * trained,  # weights are read as float32 before they are made shorter
    )
    kernels = KERNELS * (2 if plan.bf16 and shape.decoder_layers else 1)
    return Forecast(
        weights=weights,
        gradients=4 * trained,
        optimizer=(16 if plan.remembers else 8) * trained,
        activations=round((UPDATED if plan.method == "lora" and not _joined(shape, plan) else PIECES) * working),
        data=data + _features(shape, plan, lengths),
        program=program + kernels,
    )


def later() -> int:
    """Bytes that libraries will bring which are not imported yet."""
    return sum(size for name, size in LATER.items() if name not in sys.modules)


def _joined(shape: Shape, plan: Plan) -> bool:
    """Whether low-rank updates are computed within the layers' own products: decoder_layer.py."""
    return plan.bf16 and shape.fast and shape.family == "llama"


def _features(shape: Shape, plan: Plan, lengths: Lengths) -> int:
    """What is kept in place of tokens where the backbone is frozen: a vector a text, or a token."""
    if plan.method != "frozen":
        return 0
    if plan.pooled:
        return 4 * shape.width * len(lengths.whole)
    return (2 if plan.bf16 else 4) * shape.width * int(lengths.whole.sum())


def trained_weights(shape: Shape, plan: Plan) -> int:
    """How many numbers training changes."""
    o = plan.options
    if plan.method == "few-shot":
        return 0
    if plan.method == "full" and not o.get("unfreeze_last"):
        return shape.parameters + shape.width * plan.outputs
    if plan.method == "full":
        return shape.last_layers(o["unfreeze_last"]) + shape.width * plan.outputs
    return _added(shape, plan)


def _added(shape: Shape, plan: Plan) -> int:
    """Numbers that a method puts beside a model's own; all of them are trained."""
    o, layers = plan.options, shape.layers + shape.decoder_layers
    head = shape.width * plan.outputs
    if plan.method == "frozen":
        return (shape.width + plan.outputs) * o["hidden"] if o.get("hidden") else head
    if plan.outputs and shape.family == "encoder" and plan.pooled and plan.method != "full":
        head += shape.width**2  # a pooler, or the first of a head's two layers
    if plan.method == "lora":
        return head + shape.low_rank(o["rank"], () if o["target"] == "all-linear" else o["target"])
    if plan.method == "adapter":
        size = o.get("bottleneck") or max(8, shape.width // o["reduction_factor"])
        places = 2 if o["places"] == "houlsby" else 1
        return head + layers * places * (2 * size + 1) * shape.width
    if plan.method == "soft-prompt":
        each = shape.width if shape.decoder_layers or o["kind"] in ("prompt", "p-tuning") else 2 * layers * shape.width
        return head + o["num_virtual_tokens"] * each
    return 0


def _resident(shape: Shape, plan: Plan) -> int:
    """Bytes of the model's own weights: float32, or bf16 where a method leaves bf16 numbers alone."""
    apart = plan.method in ("lora", "adapter", "soft-prompt", "few-shot")
    return shape.parameters * (2 if apart and plan.bf16 and shape.low else 4)


def _front(plan: Plan) -> int:
    return plan.options["num_virtual_tokens"] if plan.method == "soft-prompt" else 0


def _training(shape: Shape, plan: Plan, piece: Piece, trained: int) -> float:
    """What a step holds at once: what all layers keep, what one layer's backward pass makes, and the head's part."""
    o, layers = plan.options, shape.layers + shape.decoder_layers
    plain = plan.method in ("adapter", "soft-prompt")
    every, one = kept(shape, piece, plan.bf16, plain=plain, still=plain)
    if plan.method == "lora":
        updates = shape.updates(() if o["target"] == "all-linear" else o["target"])
        one += (more := piece.tokens * updates * o["rank"] * (2 if plan.bf16 else 4))
        every += more * layers
    if plan.method == "adapter":
        one += (more := piece.tokens * shape.width * (2 if plan.bf16 else 4) * (2 if o["places"] == "houlsby" else 1))
        every += more * layers
    if plan.method == "full" and o.get("unfreeze_last"):
        every *= min(1.0, o["unfreeze_last"] / layers)
    if plan.gradient_checkpointing:
        every = piece.tokens * shape.width * 4 * layers + one
    short = 2 * shape.in_layers if plan.bf16 and _resident(shape, plan) == 4 * shape.parameters else 0
    table = 4 * shape.vocabulary * shape.width if plan.method == "full" and not o.get("unfreeze_last") else 0
    whole = piece.rows >= plan.batch_size
    held = every + one + short + piece.tokens * shape.width * BESIDE + _words(shape, plan, piece, table)
    # A step in one piece has no gradients yet when it holds most, and gives back layers as it makes them.
    return held - min(4 * trained, every / 2) if whole else held + table


def _words(shape: Shape, plan: Plan, piece: Piece, table: int) -> float:
    """A language model's loss: logits of some positions at a time, and the output embedding's gradient."""
    if not plan.writes:
        return 0.0
    from luthier.engine.language.token_loss import LOGITS_HELD

    positions = min(max(1, LOGITS_HELD["cpu"] // shape.vocabulary), max(64, piece.labels))
    short = 2 * shape.vocabulary * (positions + shape.width) if plan.bf16 else 0
    return 4 * positions * shape.vocabulary + short + table + 8 * piece.labels * shape.width


def _answering(shape: Shape, plan: Plan, piece: Piece) -> float:
    """A pass without gradients holds one layer's tensors; one that writes, its keys and values besides."""
    rows = max(1, plan.token_budget // max(1, piece.length + piece.target))
    whole = replace(piece, rows=rows)
    _, one = kept(shape, whole, plan.bf16)
    cache = 2 * shape.groups * shape.head_width * whole.tokens * (shape.layers + shape.decoder_layers)
    cache *= (2 if plan.bf16 else 4) * plan.writes
    return one + cache + _words(shape, plan, replace(whole, labels=round(whole.tokens * 0.5)), 0)


@dataclass(frozen=True)
class Remedy:
    """A change to the recipe and what the run would then hold. `same`: it changes neither result nor steps."""

    change: Mapping[str, Any]  # key.path -> value, as `--set` takes them
    total: int
    same: bool
    cost: str = ""

    @property
    def text(self) -> str:
        said = " and ".join(f"{key}: {str(value).lower()}" for key, value in self.change.items())
        return f"{said} (about {memory_text(self.total)}{f'; {self.cost}' if self.cost else ''})"

    def as_json(self) -> dict[str, Any]:
        return {"change": dict(self.change), "total": self.total, "same": self.same, "cost": self.cost}


@dataclass(frozen=True)
class Outlook:
    """A forecast with all that it was made from, so that it can be asked what would be otherwise."""

    shape: Shape
    plan: Plan
    lengths: Lengths
    program: int
    data: int

    @property
    def forecast(self) -> Forecast:
        return self.under(self.plan)

    def under(self, plan: Plan, shape: Shape | None = None, lengths: Lengths | None = None) -> Forecast:
        return forecast(shape or self.shape, plan, lengths or self.lengths, self.program, self.data)

    def fitted(self, limit: int) -> Plan | None:
        """The plan with as large a token budget as fits under `limit`, and gradient checkpointing where that is not
        enough; None where it fits as it is, and where neither helps the plan that takes least.
        """
        if self.forecast.total * SURE <= limit:
            return None
        plans = list(self._budgets(self.plan))
        if self.plan.method != "few-shot" and not self.plan.gradient_checkpointing:
            plans += self._budgets(replace(self.plan, gradient_checkpointing=True))
        fitting = (plan for plan in plans if self.under(plan).total * SURE <= limit)
        return next(fitting, min(plans, key=lambda plan: self.under(plan).total))

    def _budgets(self, plan: Plan) -> Iterator[Plan]:
        """The plan with its own budget, half of it and so on, down to one row at a time."""
        least = int(self.lengths.whole.max())
        budget = plan.token_budget
        while budget > least:
            yield replace(plan, token_budget=budget)
            budget //= 2
        yield replace(plan, token_budget=min(least, plan.token_budget))

    def remedies(self, limit: int = 0) -> list[Remedy]:
        """The three best ways to take less, those that fit under `limit` (0: half of what is taken now) first."""
        now = self.forecast.total
        limit = limit or now // 2
        found = [one for one in self._ways(limit) if one.total < now]
        found.sort(key=lambda one: one.total * SURE > limit)  # stable: what costs least comes first
        return found[:3]

    def _ways(self, limit: int) -> Iterator[Remedy]:
        """All of them, by what they cost: nothing but time, what is read, then what is learned."""
        plan = self.plan
        smaller = list(self._budgets(plan))
        smaller = smaller[1:] or smaller
        fits = [one for one in smaller if self.under(one).total * SURE <= limit]
        small = (fits or smaller[-1:])[0]
        budget = {"train.token_budget": small.token_budget}
        yield Remedy(budget, self.under(small).total, True)
        if plan.method not in ("few-shot", "frozen") and not plan.gradient_checkpointing:
            again = replace(plan, gradient_checkpointing=True)
            yield Remedy({"train.gradient_checkpointing": True}, self.under(again).total, True, "slower")
            both = replace(small, gradient_checkpointing=True)
            yield Remedy({**budget, "train.gradient_checkpointing": True}, self.under(both).total, True, "slower")
        if plan.method == "full":
            from luthier.methods import METHODS

            options = METHODS["lora"].Options().model_dump()
            lora = replace(small, method="lora", options=options)
            yield Remedy({"method": "lora", **budget}, self.under(lora).total, False, "other weights are trained")
        half = int(self.lengths.whole.max()) // 2
        cut = replace(self.lengths, whole=np.minimum(self.lengths.whole, half), target=None)
        short = replace(small, token_budget=min(small.token_budget, half))
        yield Remedy({"task.max_length": half}, self.under(short, lengths=cut).total, False, "longer texts are cut")
        tensors = dict(list(self.shape.tensors.items())[::2])
        less = replace(self.shape, layers=max(1, self.shape.layers // 2), tensors=tensors)
        yield Remedy(
            {"model": "one of half the size"}, self.under(small, less).total, False, "luthier models list shows sizes"
        )
        fewer = replace(self, plan=small, data=self.data // 2).forecast
        yield Remedy({"data.train": "half as many rows"}, fewer.total, False)
