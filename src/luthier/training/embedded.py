"""What is added to a model's input embeddings while it trains: noise, or the worst small change.

Rows are treated one by one and by their real length, so that neither padding nor the cut of a step into pieces
changes anything, and all randomness follows from torch's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from luthier.engine.batches import Batch
from luthier.errors import ModelError

from .adversarial import Adversarial
from .neftune import Neftune
from .options import TrainOptions
from .row_noise import RowNoise


class Addition(Protocol):
    def __call__(self, name: str, embedded: Tensor, real: Tensor) -> Tensor:
        """What is added to `embedded` (rows x length x width) of the batch's column `name`; `real`: rows x length."""
        ...


class Embedded:
    """Hooks on the input embeddings of a model; without additions there are none, and a pass is a plain pass."""

    def __init__(
        self,
        model: nn.Module,
        additions: Sequence[Addition],
        noise: RowNoise | None = None,
        adversary: Adversarial | None = None,
    ) -> None:
        self.additions, self.noise, self.adversary = additions, noise, adversary
        self.batch: Batch | None = None
        self.handles = [
            module.register_forward_hook(self._add, with_kwargs=True)
            for module in (_embeddings(model) if additions else ())
        ]

    @classmethod
    def of(cls, model: nn.Module, options: TrainOptions) -> Embedded:
        """As the options ask. ModelError where the model embeds nothing while it trains."""
        noise, additions, adversary = RowNoise(), list[Addition](), None
        if options.neftune_noise_alpha:
            additions.append(Neftune(options.neftune_noise_alpha, noise))
        if options.adversarial != "none":
            size, steps = options.adversarial_epsilon, options.adversarial_steps
            adversary = Adversarial(options.adversarial, size, steps, noise)
            additions.append(adversary)
        draws = options.neftune_noise_alpha or options.adversarial == "freelb"
        return cls(model, additions, noise if draws else None, adversary)

    @contextmanager
    def during(self, batch: Batch) -> Iterator[None]:
        """Inside, what is embedded belongs to `batch`; outside, nothing is added."""
        self.batch = batch
        if self.noise is not None:
            self.noise.begin(len(next(iter(batch.values()))))
        try:
            yield
        finally:
            self.batch = None

    def passes(self, run: Callable[[float], Tensor]) -> Tensor:
        """Every pass that one piece of a step needs; `run` makes one, with that share of its gradient, and gives its
        loss. The first one's loss: it is the one to be held against validation's.
        """
        return self.adversary.passes(run) if self.adversary is not None else run(1.0)

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _add(self, module: nn.Module, args: Any, kwargs: dict[str, Any], out: Tensor) -> Tensor:
        ids = args[0] if args else kwargs.get("input")
        if self.batch is None or ids is None or (name := self._column(self.batch, ids)) is None:
            return out
        mask = self.batch.get(f"{name.removesuffix('input_ids')}attention_mask")
        real = torch.ones(out.shape[:2], dtype=torch.bool, device=out.device) if mask is None else mask > 0
        for addition in self.additions:
            out = out + addition(name, out, real).to(out.dtype)
        return out

    @staticmethod
    def _column(batch: Batch, ids: Tensor) -> str | None:
        """Which column of the batch `ids` are: the very tensor, or, where a task changed some, one of its shape."""
        columns = {name: value for name, value in batch.items() if name.endswith("input_ids")}
        same = [name for name, value in columns.items() if value.data_ptr() == ids.data_ptr()]
        like = [name for name, value in columns.items() if value.shape == ids.shape]
        name = next(iter(same + like), None)
        return None if name is None or name.startswith("decoder_") else name


def _embeddings(model: nn.Module) -> list[nn.Module]:
    """Every module that embeds tokens: an encoder-decoder has several that share one matrix."""
    try:
        own = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        raise ModelError(
            "it embeds no tokens while it trains, so nothing can be added to their embeddings",
            where=type(model).__name__,
            fix="leave out train.neftune_noise_alpha and train.adversarial, or choose another method than frozen",
        ) from None
    shared: list[nn.Module] = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.weight is own.weight]
    return shared or [own]
