"""Texts as vectors, so that like texts lie near one another: search, likeness, grouping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from luthier.records import Answer, Form, Row, Table

from .base import Task, TaskOptions
from .retrieval import folder as embedding_folder
from .retrieval.baselines import RETRIEVAL_RIVALS, SCORED_RIVALS, retrieval_rival, scored_rival
from .retrieval.rows import PAIRS, PARTS, SCORED, TRIPLETS, asked_form, scores_of, text_ids, texts_of
from .retrieval.scores import (
    Collection,
    centred_ranks,
    query_weights,
    rank,
    rank_correlation,
    rank_counts,
)

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.batches import Batch, Examples
    from luthier.engine.heads import HeadSpec
    from luthier.models import Source


class EmbeddingOptions(TaskOptions):
    """Settings of embedding."""

    name: Literal["embedding"] = "embedding"
    loss: Literal["in-batch", "triplet", "cosine"] = Setting(
        "in-batch",
        description="in-batch: find an anchor's positive among all texts of the step (multiple negatives ranking, "
        "InfoNCE); triplet: positive nearer than negative; cosine: scored pairs",
    )
    scale: float = Setting(
        20.0, gt=0, le=1000, description="in-batch: cosines are multiplied by this (one over the temperature)"
    )
    margin: float = Setting(0.3, gt=0, le=2, description="triplet: how much nearer, in cosine")
    pooling: Literal["mean", "cls", "last"] = Setting(
        "mean", description="a text's vector: the mean of its tokens', the first one's, or the last one's"
    )
    normalize: bool = Setting(True, description="give vectors of length 1; likeness is the cosine either way")
    query_prefix: str = Setting("", description="written in front of every anchor, as some models expect")
    passage_prefix: str = Setting("", description="written in front of every positive and negative")


class Embedding(Task):
    name = "embedding"
    title = "Text embedding"
    pipeline_tag = "sentence-similarity"
    Options = EmbeddingOptions
    kinds = frozenset({"encoder", "decoder"})
    form = PAIRS
    primary = "mrr"
    auto_class = "AutoModel"
    chooses = False
    parts = PARTS
    exact = True

    def __init__(self, options: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, state)
        self.scored = options.loss == "cosine"
        self.couples = options.loss == "in-batch"
        self.primary = "spearman" if self.scored else "mrr"
        self.form = {"in-batch": PAIRS, "triplet": TRIPLETS, "cosine": SCORED}[options.loss]
        self.judges = not self.scored
        self.rivals = SCORED_RIVALS if self.scored else RETRIEVAL_RIVALS

    def asked(self, names: Iterable[str] = ()) -> Form:
        return asked_form(names)

    # Model

    def prepare(self, tokenizer: PreTrainedTokenizerBase, source: Source) -> PreTrainedTokenizerBase:
        self.state["width"] = source.hidden_size or 0
        return tokenizer

    def learn(self, rows: Sequence[Row]) -> None:
        """The range of the scores, where they are no cosines yet."""
        if self.scored:
            scores = [float(row["score"]) for row in rows]
            low, high = min(scores), max(scores)
            self.state["range"] = [low, high] if high > low and (low < -1 or high > 1) else [0.0, 1.0]

    @property
    def _range(self) -> tuple[float, float]:
        """Of the scores: what a cosine of 0 and of 1 stands for."""
        low, high = self.state.get("range", (0.0, 1.0))
        return low, high

    def head(self) -> HeadSpec:
        """There is none. A method that keeps the backbone as it is puts one vector in place of another."""
        from luthier.engine.heads import HeadSpec

        return HeadSpec(
            *((), self.state.get("width", 0)),
            pooled=True,
            peft_type="FEATURE_EXTRACTION",
            pooling=self.options.pooling,
            residual=True,
        )

    def build(self, source: Source, settings: Mapping[str, Any], *, fresh: bool = True) -> nn.Module:
        from transformers import AutoModel

        from luthier.models import load_pretrained

        self.state.setdefault("width", source.hidden_size or 0)
        # A pooler, where the class has one, is not used: vectors come from the last hidden states.
        return load_pretrained(source, AutoModel, head=("pooler",) if fresh else (), **settings)

    def finish(self, folder: Path, source: Source) -> None:
        embedding_folder.finish(folder, self.options, self.state["width"])

    # Rows

    def _texts(self, row: Row) -> dict[str, str]:
        return texts_of(row, self.form.target, self.options.query_prefix, self.options.passage_prefix)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Examples:
        from luthier.engine.batches import Examples

        texts = [self._texts(row) for row in rows]
        parts = [part for part in PARTS if any(part in some for some in texts)]
        columns: dict[str, Any] = {}
        lengths = np.zeros(len(rows), dtype=np.int64)
        for part in parts:
            for start in range(0, len(rows), 1000):
                encoded = tokenizer(
                    [some.get(part, "") for some in texts[start : start + 1000]],
                    truncation=True,
                    max_length=self.options.max_length,
                    return_attention_mask=False,
                )
                for name, values in encoded.items():
                    columns.setdefault(part + name, []).extend(np.asarray(v, dtype=np.int32) for v in values)
            lengths += [len(ids) for ids in columns[f"{part}input_ids"]]
        padding: dict[str, float] = {f"{part}input_ids": tokenizer.pad_token_id or 0 for part in parts}
        padding |= {f"{part}token_type_ids": 0 for part in parts}
        if all(self.form.target in row.fields for row in rows):
            columns |= scores_of(rows, *self._range) if self.scored else text_ids(rows)
            padding["right_ids"] = 0
        return Examples(columns, padding, np.arange(len(rows)), lengths, limit=self.options.max_length)

    def lengths(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Tokens of each row's longest text, nothing cut."""
        out: list[int] = []
        for start in range(0, len(rows), 1000):
            texts = [list(self._texts(row).values()) for row in rows[start : start + 1000]]
            flat = [text for some in texts for text in some]
            ids = iter(tokenizer(flat, truncation=False, return_attention_mask=False, verbose=False)["input_ids"])
            out += [max(len(next(ids)) for _ in some) for some in texts]
        return out

    # Loss

    def weights(self, examples: Examples) -> np.ndarray:
        return np.ones(len(examples))

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Vectors, rows x texts x width in fp32: anchor, positive, negative, as many as the batch has."""
        import torch
        from torch.nn.functional import normalize

        from luthier.engine.inference import model_inputs, vectors_of

        parts = [part for part in PARTS if f"{part}input_ids" in batch or f"{part}hidden" in batch]
        vectors = torch.stack([vectors_of(model, model_inputs(batch, part), self.options.pooling) for part in parts], 1)
        return normalize(vectors, dim=-1) if self.options.normalize else vectors

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """`logits`: vectors, rows x texts x width."""
        from torch.nn.functional import cosine_similarity

        anchors, positives = logits[:, 0], logits[:, 1]
        if self.options.loss == "in-batch":
            return self._in_batch(logits, batch)
        nearness = cosine_similarity(anchors, positives)
        if self.options.loss == "cosine":
            return (nearness - batch["score"]).square().sum()
        margin = self.options.margin - nearness + cosine_similarity(anchors, logits[:, 2])
        return margin.clamp(min=0).sum()

    def _in_batch(self, vectors: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of each anchor's own positive among all positives and negatives of the step (Henderson et al.
        2017, arxiv.org/abs/1705.00652; van den Oord et al. 2018, arxiv.org/abs/1807.03748).

        A text that is right for an anchor by any row of the data is never taken for wrong.
        """
        import torch
        from torch.nn.functional import cross_entropy, normalize

        unit = normalize(vectors, dim=-1)
        candidates, ids = unit[:, 1], batch["positive_id"]
        if "negative_id" in batch:
            candidates, ids = torch.cat([candidates, unit[:, 2]]), torch.cat([ids, batch["negative_id"]])
        left_out = (batch["right_ids"][:, :, None] == ids).any(1) | (ids == 0)  # 0: the row has no negative
        left_out.fill_diagonal_(False)  # each row's own positive stands at its own number
        nearness = (self.options.scale * unit[:, 0] @ candidates.T).masked_fill(left_out, -torch.inf)
        return cross_entropy(nearness, torch.arange(len(unit), device=unit.device), reduction="sum")

    def rival(
        self,
        name: str,
        train: Sequence[Row],
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        plain: Callable[[], list[Answer]],
    ) -> list[Answer]:
        return (scored_rival if self.scored else retrieval_rival)(name, train, rows)

    # Answers

    def reduce(self, logits: Tensor, batch: Batch) -> list[Any]:
        return list(logits.float().cpu().numpy())

    def answers(self, rows: Sequence[Row], examples: Examples, reduced: Sequence[Any]) -> list[Answer]:
        """Of rows without their target a vector. Else what is scored: the text found first among all of these rows,
        or the likeness of the two texts on the scale of the scores.
        """
        if not rows:
            return []
        if not all(self.form.target in row.fields for row in rows):
            return [Answer([round(float(x), 6) for x in vectors[0]], 1.0) for vectors in reduced]
        unit = np.stack([v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12) for v in reduced])
        if self.scored:
            low, high = self._range
            return [Answer(float(low + (high - low) * x), 1.0) for x in (unit[:, 0] * unit[:, 1]).sum(-1)]
        kept = Collection.of(rows)
        place = {name: i for i, name in enumerate(PARTS.values())}
        pool = np.stack([unit[r, place[name]] for r, name in kept.candidates])
        asked = unit[kept.queries, 0]
        found = rank(kept, lambda start, end: asked[start:end] @ pool.T, self.options.scale)
        return kept.answers(rows, found)

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Scored pairs: `rank_counts`. Else 1, reciprocal rank, recall, each over the rows that share the anchor."""
        if self.scored:
            return rank_counts([float(a.prediction) for a in answers], [float(row["score"]) for row in rows])
        values = [(1.0, a.detail["reciprocal_rank"], a.detail["recall_at_10"]) for a in answers]
        return query_weights(rows)[:, None] * np.array(values, dtype=np.float64).reshape(-1, 3)

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        if self.scored:
            return {"spearman": rank_correlation(sums)}
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"mrr": sums[..., 1] / sums[..., 0], "recall_at_10": sums[..., 2] / sums[..., 0]}

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """One over the rank of the first right text; of scored pairs 1 less how far the two ranks lie apart."""
        if self.scored:
            given = centred_ranks([float(a.prediction) for a in answers])
            return 1 - np.abs(given - centred_ranks([float(row["score"]) for row in rows]))
        return np.array([float(a.detail["reciprocal_rank"]) for a in answers])

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> np.ndarray:
        """Whether a right text stood first; of scored pairs whether the rank is off by less than a quarter."""
        return self.quality(rows, answers) > (0.75 if self.scored else 0.999)

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Table]:
        if self.scored or not rows:
            return []
        weights, ranks = query_weights(rows), 1 / self.quality(rows, answers)
        edges = (
            (0, 1, "1"),
            (1, 3, "2 to 3"),
            (3, 10, "4 to 10"),
            (10, 100, "11 to 100"),
            (100, np.inf, "over 100"),
        )
        shares = [
            (name, float(weights[(ranks > low + 1e-9) & (ranks <= high + 1e-9)].sum() / weights.sum()))
            for low, high, name in edges
        ]
        cells = tuple((name, round(share, 4)) for name, share in shares)
        caption = f"{round(weights.sum()):,} distinct anchors among {len(Collection.of(rows).candidates):,} texts."
        return [Table("Where the first right text stands", ("rank", "share of anchors"), cells, caption, plot="bars")]

    def card_code(self) -> str:
        pick = {"mean": "states.mean(0)", "cls": "states[0]", "last": "states[-1]"}[self.options.pooling]
        unit = "    vector = vector / vector.norm()\n" if self.options.normalize else ""
        front = f"{self.options.query_prefix!r} + " if self.options.query_prefix else ""
        other = (
            f"# In front of a text that is searched: {self.options.passage_prefix!r}\n"
            if self.options.passage_prefix
            else ""
        )
        return (
            f"{other}def answer(anchor):\n"
            f"    inputs = tokenizer({front}anchor, truncation=True, "
            f'max_length={self.options.max_length}, return_tensors="pt")\n'
            "    with torch.no_grad():\n"
            "        states = predict(inputs)[0]  # tokens x width, or one vector\n"
            '    states = states.view(-1, states.shape[-1])[-inputs["input_ids"].shape[1] :]\n'
            f"    vector = {pick}\n"
            f"{unit}"
            "    return vector.tolist()\n"
        )
