"""Bytes that a pass through a model keeps for the backward pass, counted from what each kind of layer keeps.

What autograd holds of a layer is a fixed list of tensors: inputs of norms, of linear layers and of activation
functions, masks of dropout, queries, keys and values, attention probabilities. The table has their bytes a token, by
what their size hangs on; tests/run/test_forecast.py counts them in real models.
"""

from __future__ import annotations

from dataclasses import dataclass

from .shapes import Shape


@dataclass(frozen=True)
class Piece:
    """The largest micro-batch: rows x `length` tokens, and `target` more a row that an encoder-decoder writes."""

    rows: int
    length: int
    target: int = 0
    labels: int = 0  # tokens that a language model's loss is taken on

    @property
    def tokens(self) -> int:
        return self.rows * (self.length + self.target)


@dataclass(frozen=True)
class Layer:
    """Bytes that one layer keeps of a token, by unit of size.

    `wide`: of the hidden width. `query`, `key`: of all heads' width together, of queries and of keys. `inner`: of the
    feed-forward width. `scores`: of each head and position looked at. `mask`: of each position looked at, where rows
    are padded. `inputs`, `inner_inputs`: the part of `wide` and `inner` that only the gradients of weights need.
    `seen_wide`, `seen_key`: what a decoder's look at the encoder keeps of each token there; `across` of each head and
    position there.
    """

    wide: float
    inner: float
    query: float = 0
    key: float = 0
    scores: float = 0
    mask: float = 0
    inputs: float = 0
    inner_inputs: float = 0
    seen_wide: float = 0
    seen_key: float = 0
    across: float = 0


LAYERS: dict[tuple[str, bool], Layer] = {
    # float32: both norms' inputs and outputs, masks, q k v and what attention gives; bf16: the same, cast once a use.
    ("encoder", False): Layer(wide=40, inner=8, mask=4, inputs=8, inner_inputs=4),
    ("encoder", True): Layer(wide=28, inner=4, scores=2, inputs=10, inner_inputs=2),
    ("llama", False): Layer(wide=24, inner=16, query=8, key=8, inputs=12, inner_inputs=4),
    ("llama", True): Layer(wide=18, inner=8, query=4, key=4, scores=2, inputs=10, inner_inputs=2),
    # decoder_layer.py: the two inputs, q k v, what attention gives, gate and up together.
    ("fast", True): Layer(wide=8, inner=4, query=4, key=4, scores=2),
    # GPT-2's gelu is written out in four steps that each keep their input.
    ("decoder", False): Layer(wide=40, inner=20, inputs=8, inner_inputs=4),
    ("decoder", True): Layer(wide=24, inner=10, scores=2, inputs=6, inner_inputs=2),
    # T5 adds its positions to the scores, which only the plain way of attention can: float32, thrice.
    ("t5", False): Layer(wide=36, inner=12, query=4, key=8, scores=12, inputs=12, inner_inputs=4),
    ("t5", True): Layer(wide=30, inner=6, query=4, key=8, scores=12, inputs=10, inner_inputs=2),
    ("bart", False): Layer(wide=40, inner=8, mask=4, inputs=8, inner_inputs=4),
    ("bart", True): Layer(wide=28, inner=4, scores=2, inputs=10, inner_inputs=2),
}
WRITERS: dict[tuple[str, bool], Layer] = {
    ("t5", False): Layer(
        wide=56, inner=12, query=8, key=8, scores=12, inputs=20, inner_inputs=4, seen_key=8, across=12
    ),
    ("t5", True): Layer(
        wide=44, inner=6, query=8, key=8, scores=12, inputs=14, inner_inputs=2, seen_wide=4, seen_key=8, across=12
    ),
    ("bart", False): Layer(wide=60, inner=8, mask=4, inputs=12, inner_inputs=4, seen_key=8),
    ("bart", True): Layer(wide=40, inner=4, scores=2, inputs=12, inner_inputs=2, seen_wide=4, seen_key=4),
}
"""Of an encoder-decoder, the layers that write."""

BLOCK = 128  # queries whose scores are computed together where attention is causal: engine/attention.py
BESIDE = 8  # bytes a token and unit of width kept outside the layers: embeddings and the last norm, float32


def kept(shape: Shape, piece: Piece, bf16: bool, *, plain: bool = False, still: bool = False) -> tuple[float, float]:
    """(bytes all layers keep of `piece`, bytes the widest single layer keeps).

    `plain`: something stands in the layers, so that they are computed the stock way. `still`: no linear layer's weight
    gets a gradient, not even one of a low-rank update beside it.
    """
    name = "fast" if bf16 and shape.fast and shape.family == "llama" and not plain else shape.family
    one = _layer(LAYERS[name, bf16], shape, piece.rows, piece.length, still)
    if not piece.target:
        return one * shape.layers, one
    read = one
    kind = WRITERS[shape.family, bf16]
    seen = piece.rows * piece.length * (kind.seen_wide * shape.width + kind.seen_key * shape.heads * shape.head_width)
    across = piece.rows * piece.target * piece.length * kind.across * shape.heads
    write = _layer(kind, shape, piece.rows, piece.target, still) + seen + across
    return read * shape.layers + write * shape.decoder_layers, max(read, write)


def _layer(kind: Layer, shape: Shape, rows: int, length: int, still: bool) -> float:
    causal = shape.kind == "decoder" and length > BLOCK
    looked_at = (length + BLOCK) / 2 if causal else length
    token = (
        (kind.wide - kind.inputs * still) * shape.width
        + kind.query * shape.heads * shape.head_width
        + kind.key * shape.groups * shape.head_width
        + (kind.inner - kind.inner_inputs * still) * shape.inner
        + kind.scores * shape.heads * looked_at
        + kind.mask * length
    )
    return rows * length * token
