"""Layers computed our way give what the stock ones give, forward and back, and only where they may stand in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from luthier.engine.language import decoder_layer
from luthier.engine.language.decoder_layer import use_fast_layers

SHAPE = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
TAKEN = {
    "Llama": {"attention_bias": True, "mlp_bias": True},
    "Mistral": {"sliding_window": 4, "head_dim": 8},
    "Qwen2": {},
}
LEFT_ALONE = {
    "Gemma": {"head_dim": 8},  # another norm, another activation
    "Qwen3": {"head_dim": 8},  # normalises q and k
    "Granite": {"residual_multiplier": 0.5},
    "GPTNeoX": {"num_key_value_heads": 4},
}


def family(name: str, **settings: Any) -> Any:
    import transformers as hf

    torch.manual_seed(0)
    config = getattr(hf, f"{name}Config")(**{**SHAPE, **TAKEN.get(name, {}), **LEFT_ALONE.get(name, {}), **settings})
    model = hf.AutoModelForCausalLM.from_config(config).train()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms and biases are all alike at first
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def with_lora(model: Any, **settings: Any) -> Any:
    import peft

    torch.manual_seed(1)
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def outcome(model: Any, ids: Tensor, autocast: bool, **inputs: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradients of a loss that all of them are in."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(input_ids=ids, use_cache=False, **inputs).logits.float()
    (logits * torch.linspace(-1, 1, logits.numel()).view(logits.shape)).mean().backward()
    grads = {name: p.grad.float().clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return logits.detach(), grads


def off(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm().clamp(min=1e-6))


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps without any rounding to bf16: then they must be exact."""

    def exact(*parts: Any) -> Any:
        return decoder_layer._fast(*parts[:-1], torch.float32)

    original = decoder_layer._forward

    def forward(layer: Any, halves: Any, stock: Any, x: Tensor, attention_mask: Any = None, **more: Any) -> Any:
        return exact(halves, x, *more["position_embeddings"], attention_mask, None)

    assert original is not forward
    monkeypatch.setattr(decoder_layer, "_forward", forward)


WAYS: dict[str, Callable[[Any], Any]] = {"full": lambda model: model, "lora": with_lora}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TAKEN)
def test_exact_in_float32_forward_and_back(name: str, way: str, in_float32: None) -> None:
    ids = torch.randint(1, 90, (3, 11), generator=torch.Generator().manual_seed(2))
    model = WAYS[way](family(name))
    due, wanted = outcome(model, ids, autocast=False)
    assert use_fast_layers(model) == 2
    got, grads = outcome(model, ids, autocast=False)
    assert off(got, due) < 1e-5
    assert grads.keys() == wanted.keys() and len(grads) >= 21
    for key, grad in wanted.items():
        assert off(grads[key], grad) < 1e-4, key


@pytest.mark.parametrize("way", WAYS)
def test_in_bf16_no_further_from_the_truth_than_stock(way: str) -> None:
    ids = torch.randint(1, 90, (2, 150), generator=torch.Generator().manual_seed(2))
    model = WAYS[way](family("Llama", initializer_range=0.1))
    truth, true_grads = outcome(model, ids, autocast=False)
    stock, stock_grads = outcome(model, ids, autocast=True)
    assert use_fast_layers(model) == 2
    ours, our_grads = outcome(model, ids, autocast=True)
    assert not torch.equal(ours, stock), "the layers were not used"
    assert off(ours, truth) < 1.5 * off(stock, truth)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(input_ids=ids, use_cache=False).logits.float(), ours)
    joined, stocks, all_ours = (
        torch.cat([found[key].flatten() for key in true_grads]) for found in (true_grads, stock_grads, our_grads)
    )
    assert off(all_ours, joined) < 1.5 * off(stocks, joined)


def test_packed_documents_stay_apart() -> None:
    model = family("Llama")
    ids = torch.randint(1, 90, (1, 12))
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7]])
    stock, grads = outcome(model, ids, True, position_ids=places)
    use_fast_layers(model)
    ours, _ = outcome(model, ids, True, position_ids=places)
    other = ids.clone()
    other[0, :4] = 7
    moved, _ = outcome(model, other, True, position_ids=places)
    assert off(ours, stock) < 0.05 and grads
    assert torch.equal(ours[0, 4:], moved[0, 4:]) and not torch.equal(ours[0, :4], moved[0, :4])


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_a_layer_with_other_parts_keeps_its_own_forward(name: str) -> None:
    model = family(name)
    assert use_fast_layers(model) == 0
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_layer_that_only_looks_alike_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are there, but it adds half of what they give."""
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    stock = LlamaDecoderLayer.forward
    monkeypatch.setattr(LlamaDecoderLayer, "forward", lambda *some, **more: stock(*some, **more) * 0.5)
    assert use_fast_layers(family("Llama")) == 0


@pytest.mark.parametrize("way", WAYS)
def test_what_is_trained_is_what_is_used(way: str, in_float32: None) -> None:
    """Several steps of the optimizer in use: it changes tensors without counting their versions up."""
    ids = torch.randint(1, 90, (3, 11), generator=torch.Generator().manual_seed(2))
    losses: list[list[float]] = [[], []]
    for fast, found in enumerate(losses):
        model = WAYS[way](family("Llama"))
        if fast:
            assert use_fast_layers(model) == 2
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2, fused=True)
        for _ in range(4):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[0][3] < losses[0][0] - 0.1


CASES = ["float32", "cache", "dropout in the update", "switched off", "float mask"]


@pytest.mark.parametrize("case", CASES)
def test_everything_else_goes_the_stock_way(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_lora(family("Llama"), **({"lora_dropout": 0.5} if "dropout" in case else {}))
    assert use_fast_layers(model) == 2
    called: list[int] = []
    monkeypatch.setattr(decoder_layer, "_fast", lambda *some: called.append(1))
    ids = torch.randint(1, 90, (2, 6))
    inputs: dict[str, Any] = {"use_cache": case == "cache"}
    if case == "float mask":
        inputs["attention_mask"] = torch.zeros(2, 1, 6, 6)
    with torch.autocast("cpu", torch.bfloat16, case != "float32"):
        if case == "switched off":
            with model.disable_adapter():
                model(input_ids=ids, **inputs)
        else:
            model(input_ids=ids, **inputs)
    assert not called


def test_with_gradient_checkpointing(in_float32: None) -> None:
    ids = torch.randint(1, 90, (2, 9), generator=torch.Generator().manual_seed(2))
    model = with_lora(family("Llama"))
    due, wanted = outcome(model, ids, autocast=False)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert use_fast_layers(model) == 2
    got, grads = outcome(model, ids, autocast=False)
    assert off(got, due) < 1e-5 and grads.keys() == wanted.keys()
    assert all(off(grads[key], grad) < 1e-4 for key, grad in wanted.items())


def test_saved_adapters_are_those_of_the_stock_model(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = with_lora(family("Llama"))
    model.save_pretrained(tmp_path / "before")
    use_fast_layers(model)
    model.save_pretrained(tmp_path / "after")
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("before", "after"))
    assert before.keys() == after.keys() and len(before) == 28
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_tiny_llama_is_taken(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert use_fast_layers(AutoModelForCausalLM.from_pretrained(tiny.save_model(tmp_path / "llama", "llama"))) == 2
