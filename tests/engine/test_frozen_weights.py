"""Frozen weights in bf16: the same numbers, half the memory, and nothing that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from luthier.engine.language.frozen_weights import keep_frozen_in_bf16

KINDS = {"llama": "CausalLM", "gpt2": "CausalLM", "t5": "Seq2SeqLM", "bart": "Seq2SeqLM", "bert": "MaskedLM"}


def in_bf16_numbers(folder: Path) -> Any:
    """A model whose float32 weights are bf16 numbers, as those that were published in bf16 are."""
    import transformers as hf

    auto = getattr(hf, f"AutoModelFor{KINDS[folder.name]}")
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model.requires_grad_(False)


def logits(model: Any, name: str, autocast: bool) -> torch.Tensor:
    ids = torch.arange(8, 20).view(2, 6)
    more = {"decoder_input_ids": ids.flip(1)} if KINDS[name] == "Seq2SeqLM" else {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return model(input_ids=ids, **more).logits


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_the_model_answers_as_before(tmp_path: Path, name: str, autocast: bool) -> None:
    model = in_bf16_numbers(tiny.save_model(tmp_path / name, name, language_head=True))
    before = logits(model, name, autocast)
    kept = keep_frozen_in_bf16(model)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert kept > 0.4 * matrices  # BART multiplies its embeddings: those are left alone
    after = logits(model, name, autocast)
    assert after.dtype == before.dtype
    assert torch.allclose(after, before, rtol=0, atol=0 if not autocast else 1e-6)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    model = in_bf16_numbers(tiny.save_model(tmp_path / "llama", "llama"))
    keep_frozen_in_bf16(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert model.model.embed_tokens(torch.tensor([3])).dtype == torch.float32


def test_what_is_trained_or_would_be_rounded_is_left_alone(tmp_path: Path) -> None:
    model = in_bf16_numbers(tiny.save_model(tmp_path / "llama", "llama"))
    first, second = model.model.layers[0].mlp, model.model.layers[1].mlp
    first.up_proj.weight.requires_grad_(True)
    second.up_proj.weight[0, 0] = 1 + 2**-12
    keep_frozen_in_bf16(model)
    assert {first.up_proj.weight.dtype, second.up_proj.weight.dtype} == {torch.float32}
    assert {first.down_proj.weight.dtype, second.down_proj.weight.dtype} == {torch.bfloat16}
    assert model.model.norm.weight.dtype == torch.float32


def test_a_tied_embedding_that_is_trained_keeps_its_head(tmp_path: Path) -> None:
    model = in_bf16_numbers(tiny.save_model(tmp_path / "llama", "llama"))
    model.model.embed_tokens.weight.requires_grad_(True)
    keep_frozen_in_bf16(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.dtype == torch.float32


def test_low_rank_updates_train_as_before(tmp_path: Path) -> None:
    import peft

    from luthier.engine.language.model import token_losses

    found = []
    for short in (False, True):
        model = in_bf16_numbers(tiny.save_model(tmp_path / "llama", "llama"))
        torch.manual_seed(0)
        config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        model = peft.get_peft_model(model, config)
        assert not short or keep_frozen_in_bf16(model)
        ids = torch.arange(8, 28).view(2, 10)
        loss = token_losses(model, {"input_ids": ids, "labels": ids})
        loss.backward()
        found.append((loss.item(), [p.grad for p in model.parameters() if p.grad is not None]))
    (loss, grads), (again, same) = found
    assert again == pytest.approx(loss, rel=1e-6) and len(grads) == len(same) == 28
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(grads, same))
