"""The loss of language models against stock logits and PyTorch's own cross-entropy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from luthier.engine.language import token_loss
from luthier.engine.language.model import NO_LABEL, keeps_documents_apart, packed_isolation, reader, token_losses
from luthier.errors import ModelError

KINDS = {
    **dict.fromkeys(tiny.DECODERS, "decoder"),
    **dict.fromkeys(tiny.ENCODER_DECODERS, "encoder-decoder"),
    **dict.fromkeys(tiny.ARCHITECTURES, "encoder"),
}
ROWS, LENGTH = 3, 14


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("language")
    return {name: tiny.save_model(place / name, name, language_head=True) for name in KINDS}


def load(folder: Path, **settings: Any) -> Any:
    import transformers as hf

    kind = KINDS[folder.name]
    auto = {"decoder": hf.AutoModelForCausalLM, "encoder": hf.AutoModelForMaskedLM}
    return auto.get(kind, hf.AutoModelForSeq2SeqLM).from_pretrained(folder, dtype=torch.float32, **settings).eval()


def batch_for(model: Any, kind: str, rows: int = ROWS, length: int = LENGTH, seed: int = 1) -> dict[str, Any]:
    """Rows of several lengths, labels at half of the tokens, and their weights."""
    draw = torch.Generator().manual_seed(seed)
    words = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(8, words, (rows, length), generator=draw)
    lengths = torch.arange(length, length - rows, -1)
    mask = (torch.arange(length) < lengths[:, None]).long()
    labels = torch.where((torch.rand(rows, length, generator=draw) < 0.5) & (mask == 1), ids, NO_LABEL)
    batch = {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}
    if kind == "encoder-decoder":
        shorter = length - 3
        batch["labels"] = labels[:, :shorter].contiguous()
        batch["decoder_input_ids"] = torch.randint(8, words, (rows, shorter), generator=draw)
    batch["loss_weight"] = torch.rand(batch["labels"].shape, generator=draw)
    return batch


def expected(model: Any, batch: dict[str, Any], kind: str, front: int = 0) -> torch.Tensor:
    """rows x length weighted losses from stock logits, the `front` positions of a soft prompt left out."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids") if name in batch}
    logits = model(**inputs).logits.float()[:, front:]
    labels, weights = batch["labels"], batch["loss_weight"]
    if kind == "decoder":
        logits, labels, weights = logits[:, :-1], labels[:, 1:], weights[:, 1:]
    losses = cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=NO_LABEL)
    return losses * weights


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_same_gradients(got: dict[str, torch.Tensor], due: dict[str, torch.Tensor]) -> None:
    assert got.keys() == due.keys() and due
    for name, grad in due.items():
        assert torch.allclose(got[name], grad, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("name", KINDS)
def test_equals_the_stock_loss_and_its_gradients(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of two positions; tied embeddings get the gradient of both their uses."""
    model, kind = load(folders[name]), KINDS[name]
    monkeypatch.setitem(token_loss.LOGITS_HELD, "cpu", 2 * model.config.vocab_size)
    batch = batch_for(model, kind)
    assert reader(model).head is not None and reader(model).kind == kind
    due = expected(model, batch, kind)
    due.sum().backward()
    wanted = gradients(model)
    loss = token_losses(model, batch)
    loss.backward()
    assert loss.ndim == 0 and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(due.sum().item(), rel=1e-5)
    assert_same_gradients(gradients(model), wanted)
    with torch.no_grad():
        rows = token_losses(model, batch)
    labels, weights = batch["labels"], batch["loss_weight"]
    kept = (labels != NO_LABEL)[:, 1:] if kind == "decoder" else labels != NO_LABEL
    weights = weights[:, 1:] if kind == "decoder" else weights
    assert torch.allclose(rows[:, 0], due.sum(1), rtol=1e-5)
    assert torch.allclose(rows[:, 1], (weights * kept).sum(1))


class Largest(TorchDispatchMode):
    """The most elements of any tensor that is made inside."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, torch.Tensor):
                self.most = max(self.most, value.numel())
        return out


@pytest.mark.parametrize("grad", [True, False])
def test_never_holds_the_logits_of_all_positions(tmp_path: Path, grad: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny.save_model(tmp_path / "llama", "llama", vocab_size=8000))
    monkeypatch.setitem(token_loss.LOGITS_HELD, "cpu", 8 * 8000)
    batch = batch_for(model, "decoder", rows=8, length=64)
    reader(model)
    with Largest() as seen, torch.set_grad_enabled(grad):
        token_losses(model, batch)
    assert seen.most <= 8000 * 32  # the embedding itself; the logits would be 8 x 64 x 8000
    with Largest() as seen, torch.set_grad_enabled(grad):
        model(input_ids=batch["input_ids"])
    assert seen.most >= 8 * 64 * 8000


def test_a_frozen_head_gets_no_gradient(folders: dict[str, Path]) -> None:
    model = load(folders["llama"], tie_word_embeddings=False)
    model.lm_head.weight.requires_grad_(False)
    token_losses(model, batch_for(model, "decoder")).backward()
    assert model.lm_head.weight.grad is None
    assert model.model.layers[0].mlp.up_proj.weight.grad is not None


SHAPED = {
    "Gemma2": {"final_logit_softcapping": 0.5, "head_dim": 16, "query_pre_attn_scalar": 16},
    "Cohere": {"logit_scale": 0.0625},
    "Granite": {"logits_scaling": 8.0},
}


@pytest.mark.parametrize("family", SHAPED)
def test_finds_what_comes_after_the_head(family: str) -> None:
    """A cap, a factor, a divisor: found in the config and held against the stock logits."""
    import transformers as hf

    torch.manual_seed(0)
    shape = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.3}
    config = getattr(hf, f"{family}Config")(**shape, **SHAPED[family], pad_token_id=0)
    model = hf.AutoModelForCausalLM.from_config(config).eval()
    batch = batch_for(model, "decoder")
    found = reader(model)
    assert found.head is not None and (found.scale, found.cap) != (1.0, None)
    due = expected(model, batch, "decoder").sum()
    due.backward()
    wanted = gradients(model)
    loss = token_losses(model, batch)
    loss.backward()
    assert loss.item() == pytest.approx(due.item(), rel=1e-5)
    assert_same_gradients(gradients(model), wanted)


def test_falls_back_to_the_stock_logits(folders: dict[str, Path]) -> None:
    model = load(folders["llama"])
    model.register_forward_hook(lambda module, args, out: out.__class__(logits=out.logits.sin()))
    batch = batch_for(model, "decoder")
    assert reader(model).head is None
    due = expected(model, batch, "decoder")
    assert token_losses(model, batch).item() == pytest.approx(due.sum().item(), rel=1e-5)
    with torch.no_grad():
        assert torch.allclose(token_losses(model, batch)[:, 0], due.sum(1), rtol=1e-5)


def wrapped(model: Any, way: str, kind: str) -> Any:
    import peft

    word = "CAUSAL_LM" if kind == "decoder" else "SEQ_2_SEQ_LM"
    torch.manual_seed(3)
    config: dict[str, Any] = {
        "lora": lambda: peft.LoraConfig(task_type=word, r=4, target_modules="all-linear", init_lora_weights=False),
        "prompt": lambda: peft.PromptTuningConfig(task_type=word, num_virtual_tokens=5),
        "p-tuning": lambda: peft.PromptEncoderConfig(task_type=word, num_virtual_tokens=5, encoder_hidden_size=32),
        "prefix": lambda: peft.PrefixTuningConfig(task_type=word, num_virtual_tokens=5),
    }
    return peft.get_peft_model(model, config[way]()).eval()


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bart"])
@pytest.mark.parametrize("way", ["lora", "prompt", "p-tuning", "prefix"])
def test_through_the_wrappers_of_peft(folders: dict[str, Path], name: str, way: str) -> None:
    kind, base = KINDS[name], load(folders[name])
    batch = batch_for(base, kind)
    alone = token_losses(base, batch).item()
    model = wrapped(base, way, kind)
    front = 5 if kind == "decoder" and way in ("prompt", "p-tuning") else 0
    due = expected(model, batch, kind, front).sum()
    due.backward()
    wanted = gradients(model)
    loss = token_losses(model, batch)
    loss.backward()
    assert reader(model).head is not None
    assert loss.item() == pytest.approx(due.item(), rel=1e-5)
    assert abs(loss.item() - alone) > 1e-3, "the method has no effect"
    assert_same_gradients(gradients(model), wanted)


def test_with_gradient_checkpointing(folders: dict[str, Path]) -> None:
    model = load(folders["llama"])
    batch = batch_for(model, "decoder")
    token_losses(model, batch).backward()
    wanted = gradients(model)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    token_losses(model, batch).backward()
    assert_same_gradients(gradients(model), wanted)


def test_the_model_is_left_as_it_was(folders: dict[str, Path]) -> None:
    model = load(folders["bart"]).train()
    model.model.encoder.eval()
    modes = [module.training for module in model.modules()]
    batch = batch_for(model, "encoder-decoder")
    token_losses(model, batch)
    assert [module.training for module in model.modules()] == modes
    assert "forward" not in vars(model.lm_head)
    logits = model(input_ids=batch["input_ids"], decoder_input_ids=batch["decoder_input_ids"]).logits
    assert logits.shape[-1] == model.config.vocab_size


def test_no_labels_no_work(folders: dict[str, Path]) -> None:
    model = load(folders["gpt2"])
    batch = batch_for(model, "decoder")
    batch["labels"] = torch.full_like(batch["labels"], NO_LABEL)
    loss = token_losses(model, batch)
    loss.backward()
    assert loss.item() == 0 and float(model.transformer.wte.weight.grad.abs().sum()) == 0
    with torch.no_grad():
        assert token_losses(model, batch).tolist() == [[0, 0]] * ROWS


def test_bf16_is_nearer_to_fp32_than_the_stock_loss(tmp_path: Path) -> None:
    """Large logits, each rounded to 8 bits: the target's own is computed exactly, so the error averages out."""
    model = load(tiny.save_model(tmp_path / "llama", "llama", initializer_range=0.5, vocab_size=2000))
    batch = batch_for(model, "decoder", rows=8, length=60)
    batch["loss_weight"] = torch.ones_like(batch["loss_weight"])
    torch.manual_seed(0)
    states, targets = torch.randn(400, 32), torch.randint(2000, (400,))
    output = token_loss.Output(torch.randn(2000, 32) / 2)
    due = cross_entropy(states @ output.weight.t(), targets, reduction="none")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        ours = token_loss.output_losses(states, targets, output)
        stock = cross_entropy(torch.nn.functional.linear(states, output.weight).float(), targets, reduction="none")
    assert (ours - due).abs().mean() < (stock - due).abs().mean() / 1.5
    assert abs((ours - due).mean()) < 0.002 and ours.min() >= 0
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half = token_losses(model, batch).sum(0)
    with torch.no_grad():
        whole = token_losses(model, batch).sum(0)
    assert (half[0] / half[1]).item() == pytest.approx((whole[0] / whole[1]).item(), rel=0.01)


def test_packed_documents_are_apart_or_refused(folders: dict[str, Path]) -> None:
    import transformers as hf

    for name in tiny.DECODERS:
        assert keeps_documents_apart(load(folders[name])), name
        packed_isolation(load(folders[name]))
    assert not keeps_documents_apart(load(folders["t5"]))
    prompted = wrapped(load(folders["llama"]), "prompt", "decoder")
    config = hf.MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=0)
    recurrent = hf.AutoModelForCausalLM.from_config(config).eval()
    for model in (prompted, recurrent):
        with pytest.raises(ModelError, match="would see each other"):
            packed_isolation(model)


def test_right_padding_needs_no_mask(folders: dict[str, Path]) -> None:
    """So that attention takes its fast way; measured, because not every model is so."""
    model = load(folders["llama"])
    assert reader(model).unpadded
    batch = batch_for(model, "decoder")
    with torch.no_grad():
        masked = expected(model, batch, "decoder").sum(1).numpy()
        assert np.allclose(token_losses(model, batch)[:, 0].numpy(), masked, rtol=1e-5)
