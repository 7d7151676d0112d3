"""Language models as the loss sees them: hidden states where a label is, the output head on those alone.

A stock model runs its output head on every position and keeps rows x length x vocabulary. Here the stock forward is
run as it is - through peft's wrappers, soft prompts and gradient checkpointing - but its last module, the output
embedding, hands over what it is given instead of computing. What the model would have done after it (a bias, a scale,
a cap) is read from its config and held against the stock logits once, on a few random tokens; where it cannot be
matched the stock logits are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from luthier.errors import ModelError

from ..batches import Batch
from ..device import Machine, give_back_memory
from ..inference import model_inputs
from .decoder_layer import use_fast_layers
from .frozen_weights import keep_frozen_in_bf16
from .token_loss import Output, output_loss, output_losses

NO_LABEL = -100
_PLACE = "_luthier_language"  # the attribute of a model that holds its Reader


@dataclass
class Reader:
    """How a language model is read: found once a model by `reader`, and kept with it."""

    base: nn.Module  # the stock model, out of its wrappers
    kind: str  # decoder, encoder-decoder or encoder
    head: nn.Module | None  # the output embedding; None: the stock logits are used
    scale: float = 1.0
    cap: float | None = None
    unpadded: bool = False  # padding at the right changes nothing: attention needs no mask for it

    @property
    def shifted(self) -> bool:
        """Whether position i answers for the label at i + 1."""
        return self.kind == "decoder"

    @property
    def output(self) -> Output:
        linear = _plain(self.head)
        assert linear is not None
        extra = getattr(self.base, "final_logits_bias", None)
        extra = extra[0] if isinstance(extra, Tensor) else None
        return Output(linear.weight, linear.bias, extra, self.scale, self.cap)


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """The loss of the batch's labels: `labels` rows x length (-100: none), `loss_weight` likewise or absent.

    A decoder's position i answers for the label at i + 1, any other model's for its own. With gradients: the weighted
    sum of token losses, 0-d. Without: rows x 2, the weighted sum and the sum of weights of each row, or of each
    document where the batch packs several into a row (`documents`, rows x length). fp32.
    """
    read = reader(model)
    labels = batch["labels"]
    if not torch.is_grad_enabled() and bool((labels == NO_LABEL).all()):
        return torch.zeros(_owner_count(batch), 2, device=labels.device)
    inputs = model_inputs(batch)
    if read.unpadded or "position_ids" in inputs:
        # transformers keeps packed documents apart by their positions, but not where it is given a mask.
        inputs.pop("attention_mask", None)
    states = _states(model, read, inputs)
    length = labels.shape[1]
    states = states[:, states.shape[1] - length :]  # without a soft prompt's positions
    if read.shifted:
        labels = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=NO_LABEL)
    flat = labels.reshape(-1)
    places = (flat != NO_LABEL).nonzero()[:, 0]
    targets = flat[places]
    chosen = states.reshape(-1, states.shape[-1]).index_select(0, places)
    weights = _weights(batch, read.shifted)[places]
    if torch.is_grad_enabled():
        return _sum(read, chosen, targets, weights)
    losses = _each(read, chosen, targets)
    owners = _owners(batch, read.shifted)[places]
    out = torch.zeros(_owner_count(batch), 2, device=states.device)
    return out.index_add_(0, owners, torch.stack([losses * weights, weights], 1))


def label_weights(labels: Any, weights: Any, shifted: bool) -> float:
    """How much one example counts: the weight of its labels, the first of a decoder left out."""
    kept = labels != NO_LABEL
    if shifted:
        kept = kept[1:]
        weights = None if weights is None else weights[1:]
    return float(kept.sum() if weights is None else weights[kept].sum())


def _weights(batch: Batch, shifted: bool) -> Tensor:
    labels = batch["labels"]
    weights = batch.get("loss_weight")
    if weights is None:
        return torch.ones(labels.numel(), device=labels.device)
    weights = weights.float()
    if shifted:
        weights = torch.nn.functional.pad(weights[:, 1:], (0, 1))
    return weights.reshape(-1)


def _owner_count(batch: Batch) -> int:
    return int(batch["documents"].max()) + 1 if "documents" in batch else len(batch["labels"])


def _owners(batch: Batch, shifted: bool) -> Tensor:
    """The row, or the document, that each position's label belongs to."""
    documents = batch.get("documents")
    if documents is None:
        rows, length = batch["labels"].shape
        return torch.arange(rows, device=batch["labels"].device).repeat_interleave(length)
    if shifted:
        documents = torch.nn.functional.pad(documents[:, 1:], (0, 1))
    return documents.reshape(-1)


def _sum(read: Reader, states: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    if not len(targets):
        return states.float().sum() * 0.0  # nothing to learn
    if read.head is None:
        losses = torch.nn.functional.cross_entropy(states.float(), targets, reduction="none")
        return (losses * weights).sum()
    return output_loss(states, targets, weights, read.output)


def _each(read: Reader, states: Tensor, targets: Tensor) -> Tensor:
    if read.head is None:
        return torch.nn.functional.cross_entropy(states.float(), targets, reduction="none")
    return output_losses(states, targets, read.output)


def _states(model: nn.Module, read: Reader, inputs: Batch) -> Tensor:
    """What the output head is given: rows x length x width; without a head to open, the stock logits."""
    settings: dict[str, Any] = {} if read.kind == "encoder" else {"use_cache": False}
    if read.head is None:
        return model(**inputs, **settings).logits
    with _opened(read.head) as caught:
        model(**inputs, **settings)
    return caught[-1]


@contextmanager
def _opened(head: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, the head keeps what it is given in the list, and answers with next to nothing."""
    caught: list[Tensor] = []

    def catch(states: Tensor, *others: Any, **more: Any) -> Tensor:
        caught.append(states)
        return states[:, :1, :1]

    own = vars(head).get("forward")
    head.forward = catch
    try:
        yield caught
    finally:
        if own is None:
            del head.forward
        else:
            head.forward = own


def reader(model: nn.Module) -> Reader:
    """How this model is read; found at the first call, by a pass over a few random tokens."""
    found = getattr(model, _PLACE, None)
    if not isinstance(found, Reader):
        found = _find(model)
        setattr(model, _PLACE, found)
    return found


def _find(model: nn.Module) -> Reader:
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    kind = _kind(base)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    with _at_rest(model):
        read = Reader(base, kind, head if _plain(head) is not None else None)
        batch = _probe(base, kind)
        stock = _stock_logits(model, kind, batch)
        if read.head is not None and not _match(model, read, batch, stock):
            read.head = None
        read.unpadded = kind == "decoder" and _bears_no_mask(model, batch, stock)
    return read


def _kind(base: Any) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if getattr(base.config, "is_encoder_decoder", False):
        return "encoder-decoder"
    return "encoder" if type(base).__name__ in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values() else "decoder"


def _plain(head: nn.Module | None) -> nn.Linear | None:
    """The linear layer that a head is; peft's copy of one that is trained whole stands for it."""
    copies = getattr(head, "modules_to_save", None)
    if copies is not None:
        active = getattr(head, "active_adapters", None) or ["default"]
        head = copies[active[0]]
    return head if isinstance(head, nn.Linear) and type(head).__module__.startswith("torch.nn") else None


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Inside: no dropout, no gradients, no autocast; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    device = _device(model)
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _probe(base: Any, kind: str) -> Batch:
    """Two rows of random tokens, none of them padding."""
    draw = torch.Generator().manual_seed(0)
    size = base.get_input_embeddings().weight.shape[0]
    ids = torch.randint(min(8, size - 1), size, (2, 12), generator=draw).to(_device(base))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if kind == "encoder-decoder":
        batch["decoder_input_ids"] = ids[:, :7].flip(1).contiguous()
    return batch


def _stock_logits(model: nn.Module, kind: str, batch: Batch) -> Tensor:
    settings = {} if kind == "encoder" else {"use_cache": False}
    return model(**batch, **settings).logits


def _match(model: nn.Module, read: Reader, batch: Batch, stock: Tensor) -> bool:
    """Find scale and cap in the config such that the opened head gives the stock logits; False if none does."""
    try:
        states = _states(model, read, batch).float()
    except (IndexError, RuntimeError, ValueError):  # the head was not called, or not with states alone
        return False
    config = read.base.config
    scales, caps = [1.0], [None]
    scales += [float(s) for s in [getattr(config, "logit_scale", None)] if isinstance(s, (int, float)) and s]
    scales += [1 / float(s) for s in [getattr(config, "logits_scaling", None)] if isinstance(s, (int, float)) and s]
    caps += [getattr(config, "final_logit_softcapping", None)]
    best = (float("inf"), 1.0, None)
    for scale in scales:
        for cap in caps:
            read.scale, read.cap = scale, cap
            logits = read.output.logits(states)
            if logits.shape == stock.shape:
                best = min(best, (float((logits - stock).abs().max()), scale, cap), key=lambda found: found[0])
    gap, read.scale, read.cap = best
    return gap <= _tolerance(stock)


def _bears_no_mask(model: nn.Module, batch: Batch, stock: Tensor) -> bool:
    """Whether a row's logits are the same with padding after it and no mask."""
    ids = torch.cat([batch["input_ids"], batch["input_ids"][:, :4]], 1)
    length = batch["input_ids"].shape[1]
    without = _stock_logits(model, "decoder", {"input_ids": ids})
    front = stock.shape[1] - length
    gap = float((without[:, front : front + length] - stock[:, front:]).abs().max())
    return gap <= _tolerance(stock)


def _tolerance(logits: Tensor) -> float:
    """How far logits may be from these and still be the same, but for rounding."""
    return (1e-4 if logits.dtype == torch.float32 else 2e-2) * (1 + float(logits.abs().max()))


def keeps_documents_apart(model: nn.Module) -> bool:
    """Whether documents packed into one row get the logits that they get alone: measured, on random tokens."""
    read = reader(model)
    if read.kind != "decoder":
        return False
    with _at_rest(model):
        ids = _probe(read.base, read.kind)["input_ids"].reshape(1, -1)
        cuts = (9, 4, 11)
        places = torch.cat([torch.arange(n) for n in cuts])[None].to(ids.device)
        together = _stock_logits(model, "decoder", {"input_ids": ids, "position_ids": places})
        together = together[0, together.shape[1] - ids.shape[1] :]
        for part, packed in zip(ids[0].split(cuts), together.split(cuts)):
            alone = _stock_logits(model, "decoder", {"input_ids": part[None]})[0, -len(part) :]
            if float((packed - alone).abs().max()) > _tolerance(alone):
                return False
    return True


def packed_isolation(model: nn.Module) -> None:
    """ModelError unless documents that are packed into one row cannot see each other in this model."""
    if not keeps_documents_apart(model):
        raise ModelError(
            "documents packed into one row would see each other in this model: its logits for a packed document "
            "are not those for the document alone",
            where=f"task.packing with {type(reader(model).base).__name__}",
            fix="task.packing: off",
        )


def prepare_language_model(model: nn.Module, machine: Machine, *, apart: bool) -> None:
    """Make a model fast on this machine, after the method is applied and the model is on its device.

    Nothing here changes what it computes, but for the order of roundings. `apart`: what is saved does not hold the
    weights that are not trained, so that they may be kept in bf16 (see frozen_weights.py). Harmless for any model.
    """
    if not machine.bf16:
        return
    if apart:
        keep_frozen_in_bf16(model)
    if machine.device == "cpu":
        use_fast_layers(model)
    give_back_memory()
