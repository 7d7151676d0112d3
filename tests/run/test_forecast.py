"""What a run is forecast to hold: the count behind it, what would lower it, and recipes that are made to fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import luthier
import tiny
from luthier.engine.attention import use_cpu_attention
from luthier.engine.device import Machine, available_memory, resident_memory
from luthier.engine.dropout import use_cheap_dropout
from luthier.engine.language.model import prepare_language_model, token_losses
from luthier.errors import ModelError, is_out_of_memory
from luthier.files import read_log, write_json
from luthier.methods import METHODS
from luthier.models import inspect, load_pretrained
from luthier.run.activations import Piece, kept
from luthier.run.fitting import held_against, why_it_died
from luthier.run.forecast import SURE, Lengths, Outlook, Plan, trained_weights
from luthier.run.shapes import shape_of
from luthier.runs import RunFolder
from luthier.training import Step

ROWS, LENGTH, TARGET = 4, 48, 32
SIZES = {
    "bert": ("hidden_size", "num_hidden_layers", "intermediate_size"),
    "llama": ("hidden_size", "num_hidden_layers", "intermediate_size"),
    "gpt2": ("n_embd", "n_layer", "n_inner"),
    "t5": ("d_model", "num_layers", "d_ff"),
}


def saved(folder: Path, architecture: str, layers: int) -> Path:
    """A model whose layers are its weight: 64 wide, so that little hangs on anything else."""
    settings: dict[str, Any] = dict(zip(SIZES[architecture], (64, layers, 160)))
    settings |= {"bert": {"attention_probs_dropout_prob": 0.0}, "gpt2": {"attn_pdrop": 0.0}}.get(architecture, {})
    if architecture == "t5":
        settings |= {"num_decoder_layers": layers, "d_kv": 32, "dropout_rate": 0.1}
    return tiny.save_model(folder / f"{architecture}-{layers}", architecture, **settings)


def counted(folder: Path, bf16: bool) -> int:
    """Bytes of all tensors but weights that a training pass keeps."""
    import transformers

    kind = shape_of(folder).kind
    name = {"encoder": "AutoModelForSequenceClassification", "decoder": "AutoModelForCausalLM"}
    auto = getattr(transformers, name.get(kind, "AutoModelForSeq2SeqLM"))
    model = load_pretrained(inspect(folder), auto, head=("classifier", "pooler"))
    use_cheap_dropout(model)
    if bf16:
        use_cpu_attention(model)
    machine = Machine("cpu", "bfloat16" if bf16 else "float32", "a processor", 1)
    prepare_language_model(model, machine, apart=False)
    model.train()
    ids = torch.randint(5, 60, (ROWS, LENGTH))
    mask = torch.ones_like(ids)
    mask[0, 40:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    if kind == "decoder":
        batch["labels"] = ids
    if kind == "encoder-decoder":
        batch |= {"decoder_input_ids": ids[:, :TARGET], "labels": ids[:, :TARGET]}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held.setdefault(storage.data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), machine.autocast():
        if kind == "encoder":
            model(**batch).logits.sum()
        else:
            token_losses(model, batch)
    lengths = {ROWS * LENGTH, ROWS * TARGET, LENGTH, TARGET, ROWS}
    return sum(t.untyped_storage().nbytes() for t in held.values() if lengths & set(t.shape[:2]) or t.ndim > 2)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", SIZES)
def test_a_layer_keeps_what_the_table_says(tmp_path: Path, architecture: str, bf16: bool) -> None:
    few, more = (saved(tmp_path, architecture, layers) for layers in (1, 3))
    real = (counted(more, bf16) - counted(few, bf16)) / 2
    shape = shape_of(few)
    piece = Piece(ROWS, LENGTH, TARGET if shape.decoder_layers else 0)
    said, _ = kept(shape, piece, bf16)
    assert said == pytest.approx(real, rel=0.1)
    assert said != pytest.approx(real * 1.25, rel=0.1), "the twin: a quarter more"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("shapes"), "bert", 3)


def plan(method: str = "full", **more: Any) -> Plan:
    options = METHODS[method].Options().model_dump()
    given: dict[str, Any] = {
        "method": method,
        "options": options,
        "batch_size": 16,
        "token_budget": 4096,
        "bf16": False,
        "gradient_checkpointing": False,
        "writes": False,
        "outputs": 2,
    }
    return Plan(**given | more)


@pytest.mark.parametrize("method", ["full", "lora", "adapter", "soft-prompt"])
def test_trained_weights_are_counted_without_a_model(bert: Path, method: str) -> None:
    """Beside the real ones: a new pooler and the head's biases are all that may be amiss."""
    from transformers import AutoModelForSequenceClassification

    from luthier.engine.heads import HeadSpec

    head = HeadSpec(("classifier",), 2, True, "SEQ_CLS")
    model = load_pretrained(inspect(bert), AutoModelForSequenceClassification, head=head.trained)
    tuned = METHODS[method](METHODS[method].Options()).apply(model, head)
    real = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert trained_weights(shape_of(bert), plan(method)) == pytest.approx(real, abs=64 * 64 + 256)


def outlook(folder: Path, method: str = "full", **more: Any) -> Outlook:
    lengths = Lengths(np.arange(16, 256, 2))
    return Outlook(shape_of(folder), plan(method, **more), lengths, 500_000_000, 10_000_000)


@pytest.mark.parametrize("method", METHODS)
def test_three_remedies_each_with_its_estimate(bert: Path, method: str) -> None:
    seen = outlook(bert, method)
    found = seen.remedies()
    assert len(found) == 3
    assert all(one.total < seen.forecast.total and "about" in one.text for one in found)
    first = found[0]
    assert first.same and set(first.change) == {"train.token_budget"}, "what changes nothing comes first"
    fits = seen.remedies(limit=int(found[-1].total * SURE) + 1)
    assert fits[0].total * SURE <= found[-1].total * SURE + 1, "what fits comes before what does not"


def test_a_plan_is_fitted_by_its_budget_first(bert: Path) -> None:
    seen = outlook(bert)
    assert seen.fitted(int(seen.forecast.total * SURE) + 1) is None
    smaller = seen.fitted(int(seen.forecast.total * SURE) - 2_000_000)
    assert smaller is not None and smaller.token_budget < 4096 and not smaller.gradient_checkpointing
    assert smaller == replace(seen.plan, token_budget=smaller.token_budget), "nothing else"
    least = seen.fitted(1)
    assert least is not None and least.token_budget >= 254, "one row at a time, and no less"
    _, told = held_against(seen, 1_000, may_change=False)
    assert not told.fits and not told.changed and len(told.remedies) == 3


def test_the_largest_piece_is_one_that_can_be_made() -> None:
    lengths = Lengths(np.array([10, 10, 10, 100, 250]), limit=256)
    assert lengths.largest(8, 512) == Piece(2, 256), "the longest is padded to 256, and two of it fit"
    assert lengths.largest(1, 512) == Piece(1, 256)
    assert lengths.largest(8, 30).rows == 1, "a row above the budget goes alone"
    both = Lengths(np.array([30, 60]), np.array([10, 20])).largest(4, 60)
    assert both == Piece(1, 48, 32)


def test_train_fit_auto_lowers_the_budget_and_changes_no_step(recipe: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The same steps on the same rows; the losses differ by rounding."""
    plain, fitted = tmp_path / "plain", tmp_path / "fitted"
    steps: dict[str, list[Step]] = {"plain": [], "fitted": []}

    def listen(name: str) -> Any:
        return lambda event: steps[name].append(event) if isinstance(event, Step) else None

    luthier.train(recipe(dropout=0.0), out=plain, listen=listen("plain"))
    monkeypatch.setattr("luthier.engine.device.available_memory", lambda processes: 200_000_000)
    run = luthier.train(recipe(dropout=0.0, fit="auto"), out=fitted, listen=listen("fitted"))
    told = next(event for event in read_log(fitted / "events.jsonl") if event["event"] == "memory")
    assert told["changed"]["train.token_budget"] < 4096 and not told["fits"], "200 MB are too few for any run"
    assert run.recipe.train.token_budget == told["changed"]["train.token_budget"], "recipe.yaml repeats the run"
    assert run.recipe.train.batch_size == 16
    assert len(steps["plain"]) == len(steps["fitted"]) > 3
    for one, other in zip(steps["plain"], steps["fitted"]):
        assert (one.examples, one.tokens) == (other.examples, other.tokens)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)


def test_a_run_that_was_killed_is_told_that_memory_may_be_why(tmp_path: Path, bert: Path) -> None:
    folder = RunFolder(tmp_path)
    _, told = held_against(outlook(bert), 400_000_000, may_change=False)
    write_json(folder.status_file, {"id": "x", "state": "running", "pid": 2**22 + 1, "pid_start": "0"})
    assert why_it_died(folder) == "", "nothing is known of its memory"
    folder.add_event(told.as_json())
    assert "forecast to need" in why_it_died(folder) and "1. train.token_budget" in why_it_died(folder)
    folder.add_event(told.as_json() | {"fits": True})
    assert why_it_died(folder) == "", "there was room"
    folder.add_event(told.as_json())
    folder.set_status("stopped")
    assert why_it_died(folder) == "", "it was stopped, and said so"


def errors() -> Iterator[BaseException]:
    yield MemoryError()
    yield RuntimeError("could not create a primitive")
    yield RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 bytes. Error code 12")
    yield torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    yield OSError(12, "Cannot allocate memory")
    try:
        try:
            raise MemoryError
        except MemoryError:
            raise ModelError("it cannot be loaded") from None
    except ModelError as error:
        yield error


@pytest.mark.parametrize("error", list(errors()), ids=repr)
def test_words_for_memory_that_ran_out(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes do not fit")) and not is_out_of_memory(None)


def test_what_is_available_is_more_than_what_is_held() -> None:
    assert 50_000_000 < resident_memory() < available_memory()
