"""Where in a stock architecture a parameter lies: in the embeddings, in which layer, or in what follows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from luthier.errors import ModelError

# Parts of a name that mean "before the layers", wherever the class keeps them.
_BEFORE = ("embed", "relative_attention_bias", "prompt_encoder")
_BEFORE_WHOLE = frozenset({"wte", "wpe", "shared"})


@dataclass(frozen=True)
class Stack:
    """Transformer layers that follow each other: `name` is the path of their list, `first` the depth of the first."""

    name: str
    layers: nn.ModuleList
    first: int


def stacks(model: nn.Module) -> list[Stack]:
    """The model's layers in the order they are passed: one stack, or the encoder's and the decoder's.

    They are found by their form, so that wrapped models have them too: the outermost lists of modules of one class.
    ModelError where that does not give one or two lists.
    """
    found: list[Stack] = []
    depth = 1
    for name, layers in _outermost_lists(model):
        found.append(Stack(name, layers, depth))
        depth += len(layers)
    if not 1 <= len(found) <= 2:
        raise ModelError(
            f"its class does not show its layers as one list ({len(found)} lists were found)",
            where=type(model).__name__,
            fix="tune all layers alike: leave out method.unfreeze_last and layer-wise learning rates",
        )
    return found


def _outermost_lists(model: nn.Module) -> Iterator[tuple[str, nn.ModuleList]]:
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(inside) or not isinstance(module, nn.ModuleList) or not len(module):
            continue
        one_class = len({type(child) for child in module}) == 1
        if one_class and any(True for _ in module[0].children()):
            inside = (*inside, f"{name}.")
            yield name, module


def layer_of(model: nn.Module) -> dict[str, int]:
    """Parameter name -> depth: 0 in the embeddings, i in the i-th layer (from 1), last in the final norm and the head.

    An encoder-decoder's layers are counted through, the encoder's first. An output embedding that is tied to the
    input embedding counts as that. ModelError where the layers cannot be found.
    """
    found = stacks(model)
    last = found[-1].first + len(found[-1].layers)
    output = output_embedding(model)
    written = getattr(output, "weight", None)
    if written is getattr(_asked(model, "get_input_embeddings"), "weight", None):
        written = None
    out: dict[str, int] = {}
    depth = 0
    for name, parameter in model.named_parameters():
        stack = next((s for s in found if name.startswith(f"{s.name}.")), None)
        if stack is not None:
            index = int(name[len(stack.name) + 1 :].split(".", 1)[0])
            depth = out[name] = stack.first + index
        elif _before(name) and parameter is not written:
            out[name] = 0
        else:
            # Between two stacks it belongs to the layer before it, after the last one to the head.
            out[name] = last if depth == last - 1 else depth
    return out


def _before(name: str) -> bool:
    parts = name.split(".")
    return any(word in part for part in parts for word in _BEFORE) or bool(_BEFORE_WHOLE & set(parts))


def output_embedding(model: nn.Module) -> nn.Module | None:
    """The layer that turns hidden states into scores of the vocabulary, tied to the input embedding or not."""
    return _asked(model, "get_output_embeddings")


def _asked(model: nn.Module, name: str) -> nn.Module | None:
    """What `model.name()` gives, or None: some classes have the method and nothing to give."""
    try:
        return getattr(model, name)()
    except (AttributeError, NotImplementedError):
        return None
