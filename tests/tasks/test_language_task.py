"""What language tasks share: weights, losses by row, answers written out, and scores from sums."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import tiny
from luthier.engine.batches import Examples
from luthier.engine.device import Machine
from luthier.engine.inference import run
from luthier.engine.language.packing import Packed
from luthier.errors import ModelError
from luthier.records import Answer, Field, Form, Row
from luthier.tasks.base import Work
from luthier.tasks.language import LanguageOptions, LanguageTask

MACHINE = Machine("cpu", "float32", "test", 1)


class Echo(LanguageTask):
    """Plain text after a prompt."""

    class Options(LanguageOptions):
        name: Literal["echo"] = "echo"

    name: ClassVar[str] = "echo"
    kinds = frozenset({"decoder"})
    form = Form((Field("prompt", "text", "what is asked"), Field("answer", "text", "what is said")), "answer")
    primary = "loss"
    auto_class = "AutoModelForCausalLM"

    def encode(self, rows: Sequence[Row], tokenizer: Any) -> Examples:
        ids, labels, notes = [], [], []
        for row in rows:
            prompt = tokenizer(row["prompt"])["input_ids"]
            answer = [*tokenizer(" " + row.get("answer", ""))["input_ids"], tokenizer.eos_token_id]
            answer = answer if "answer" in row.fields else []
            ids.append(np.array(prompt + answer, np.int32))
            labels.append(np.array([-100] * len(prompt) + answer, np.int64))
            notes.append(np.array(prompt))
        lengths = np.array([len(i) for i in ids])
        padding = {"input_ids": 0, "labels": -100}
        return Examples({"input_ids": ids, "labels": labels}, padding, np.arange(len(rows)), lengths, notes)

    def card_code(self) -> str:
        return ""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    folder = tiny.save_model(tmp_path_factory.mktemp("task") / "llama", "llama")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def rows(count: int) -> list[Row]:
    return [Row(str(i), {"prompt": f, "answer": a}) for i, (f, a, _, _) in enumerate(tiny.facts(count))]


def task(**options: Any) -> Echo:
    return Echo(Echo.Options(**options))


@dataclass
class Written:
    text: str
    ids: Sequence[int]
    ended: bool
    log_probability: float
    without_repeats_of: int = 0


def echoes(monkeypatch: pytest.MonkeyPatch, said: Any) -> list[dict[str, Any]]:
    """A writer that says `said(prompt)`; what it was asked with."""
    asked: list[dict[str, Any]] = []

    def write(model: Any, tokenizer: Any, prompts: Sequence[np.ndarray], **settings: Any) -> list[Written]:
        asked.append({"prompts": prompts, **settings})
        return [Written(said(tokenizer.decode(p)), [1, 2], True, 2 * float(np.log(0.5))) for p in prompts]

    monkeypatch.setattr("luthier.engine.writing.circles.write", write)
    monkeypatch.setitem(sys.modules, "luthier.engine.writing.generation", SimpleNamespace(write=write))
    return asked


def answered(subject: Echo, given: list[Row], model: Any) -> tuple[Examples, list[Answer]]:
    examples = subject.encode(given, tiny.chat_bpe())
    reduced: list[Any] = [None] * len(examples)
    for indices, batch, out in run(model, examples, MACHINE, 200, forward=subject.forward):
        for place, value in zip(indices, subject.reduce(out, batch)):
            reduced[place] = value
    return examples, subject.answers(given, examples, reduced)


def test_loss_and_perplexity_are_those_of_the_answers_tokens(model: Any) -> None:
    given, subject = rows(7), task()
    examples, answers = answered(subject, given, model)
    total, count = 0.0, 0
    for ids, labels in zip(examples.columns["input_ids"], examples.columns["labels"]):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(np.array([ids], dtype=np.int64))).logits[0, :-1]
        total += float(cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum"))
        count += int((labels != -100).sum())
    scores = subject.score(given, answers)
    assert subject.weights(examples).sum() == count
    assert scores["loss"] == pytest.approx(total / count, rel=1e-5)
    assert scores["perplexity"] == pytest.approx(np.exp(total / count), rel=1e-4)
    assert set(scores) == {"loss", "perplexity"}  # nothing was written out
    batch = examples.batch(range(7))
    loss = subject.loss(subject.forward(model, batch), batch)
    assert loss.requires_grad and loss.item() == pytest.approx(total, rel=1e-5)


def test_weights_of_labels_count(model: Any) -> None:
    subject = task()
    examples = subject.encode(rows(3), tiny.chat_bpe())
    plain = subject.weights(examples)
    halves = [np.full(len(i), 0.5, np.float32) for i in examples.columns["input_ids"]]
    examples.columns["loss_weight"] = halves
    examples.padding = {**examples.padding, "loss_weight": 0.0}
    assert np.allclose(subject.weights(examples), plain / 2)
    batch = examples.batch(range(3))
    whole = {name: value for name, value in batch.items() if name != "loss_weight"}
    assert subject.forward(model, batch).item() == pytest.approx(subject.forward(model, whole).item() / 2)


def test_answers_are_written_for_some_labelled_rows_and_all_others(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [*rows(9), Row("x", {"prompt": "where does anna live ?"})]
    subject = task(score_rows=3, max_new_tokens=7, num_beams=2)
    examples, answers = answered(subject, given, model)
    asked = echoes(monkeypatch, lambda prompt: given[0]["answer"])
    work = Work(given, examples, model, tiny.chat_bpe(), MACHINE, 200)
    done = subject.respond(work, answers)
    written = [i for i, answer in enumerate(done) if "ended" in answer.detail]
    assert written == [0, 4, 8, 9]  # spread over the file, and the one that nobody labelled
    assert asked[0]["max_new_tokens"] == 7 and asked[0]["num_beams"] == 2
    assert [tuple(p) for p in asked[0]["prompts"]] == [tuple(examples.notes[i]) for i in written]
    assert done[0].confidence == pytest.approx(0.5) and done[0].detail["nll"] == answers[0].detail["nll"]
    scores = subject.score(given[:9], done[:9])
    assert scores["ended"] == 1 and scores["exact_match"] == pytest.approx(1 / 3)
    assert 0 < scores["rouge_l"] <= 1 and 0 < scores["bleu"] <= 100
    assert subject.correct(given[:9], done[:9]).sum() == 1


def test_sums_of_counts_give_the_scores_of_any_set(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given, subject = rows(8), task()
    examples, answers = answered(subject, given, model)
    echoes(monkeypatch, lambda prompt: "in paris with a cat .")
    done = subject.respond(Work(given, examples, model, tiny.chat_bpe(), MACHINE, 200), answers)
    counts = subject.counts(given, done)
    half = subject.scores(counts[:4].sum(0))
    assert {k: float(v) for k, v in half.items()} == pytest.approx(subject.score(given[:4], done[:4]))
    stacked = subject.scores(np.stack([counts[:4].sum(0), counts.sum(0)]))
    assert stacked["loss"].shape == (2,) and float(stacked["rouge_l"][0]) == pytest.approx(float(half["rouge_l"]))
    quality = subject.quality(given, done)
    assert quality.mean() == pytest.approx(float(stacked["rouge_l"][1]))
    assert np.isnan(subject.scores(np.zeros(counts.shape[1]))["loss"])


def test_tables_show_losses_by_length_and_answers(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given, subject = rows(6), task()
    examples, answers = answered(subject, given, model)
    assert subject.samples(given, answers, {}) == []
    echoes(monkeypatch, lambda prompt: "so " * 500)
    done = subject.respond(Work(given, examples, model, tiny.chat_bpe(), MACHINE, 200), answers)
    bands, endings = subject.tables(given, done)
    assert sum(row[1] for row in bands.rows) == 6
    assert endings.rows == (("by themselves", 6),)
    mixed = [
        replace(answer, detail={**answer.detail, "ended": i > 0, "without_repeats_of": 8 if i > 3 else 0})
        for i, answer in enumerate(done)
    ]
    assert subject.tables(given, mixed)[1].rows == (
        ("by themselves", 3),
        ("once no 8 tokens might stand twice", 2),
        ("cut off at 128 tokens", 1),
    )
    other = [replace(answer, prediction=f"untuned {i}") for i, answer in enumerate(done)]
    beside = {"untuned": {row.id: answer for row, answer in zip(given, other)}, "prompted": {given[4].id: done[0]}}
    (shown,) = subject.samples(given, done, beside, "mine")
    assert shown.header == ("row", "given", "expected", "mine", "untuned", "prompted")
    assert shown.rows[0][0] == given[4].id and [row[5] != "" for row in shown.rows] == [True] + [False] * 5
    (shown,) = subject.samples(given, done, {"untuned": beside["untuned"]})
    assert shown.rows[0][1] == given[0]["prompt"] and 300 < len(shown.rows[0][3]) < 500
    assert [row[4] for row in shown.rows] == [f"untuned {i}" for i in range(6)]


def test_packing_is_as_asked(model: Any) -> None:
    draw = np.random.default_rng(0)
    ids = [draw.integers(3, 90, n).astype(np.int32) for n in (5, 80, 9, 60, 7, 4, 6)]
    lengths = np.array([len(i) for i in ids])
    columns = {"input_ids": ids, "labels": [i.astype(np.int64) for i in ids]}
    examples = Examples(columns, {"input_ids": 0, "labels": -100}, np.arange(7), lengths)
    kinds = {way: type(task(packing=way).arrange(examples, model, 7, 4096)) for way in ("on", "off", "auto")}
    assert kinds == {"on": Packed, "off": Examples, "auto": Packed}
    like = examples.only(np.array([0, 2, 4, 5, 6]))
    like.lengths[:] = 9
    assert type(task().arrange(like, model, 5, 4096)) is Examples


def test_packing_is_refused_where_documents_would_see_each_other() -> None:
    from transformers import AutoModelForCausalLM, MambaConfig

    config = MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, state_size=4, pad_token_id=0)
    recurrent = AutoModelForCausalLM.from_config(config).eval()
    ids = [np.arange(3, 3 + n) for n in (5, 50, 9)]
    columns = {"input_ids": ids, "labels": ids}
    examples = Examples(columns, {"input_ids": 0, "labels": -100}, np.arange(3), np.array([5, 50, 9]))
    with pytest.raises(ModelError, match="packing"):
        task(packing="on").arrange(examples, recurrent, 3, 4096)
    assert type(task(packing="auto").arrange(examples, recurrent, 3, 4096)) is Examples


def test_builds_the_stock_class_with_its_own_head(tmp_path: Path) -> None:
    from luthier.models import resolve

    source = resolve(str(tiny.save_model(tmp_path / "gpt2", "gpt2")))
    made = task().build(source, {})
    assert type(made).__name__ == "GPT2LMHeadModel" and task().head().peft_type == "CAUSAL_LM"
