"""What methods train of models of the usual sizes, counted on their shapes alone: no weight is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from method_cells import SEQUENCE, make

import architectures
from luthier.engine.heads import head_parameters
from luthier.engine.soft import shape_of

CAUSAL = "AutoModelForCausalLM"
MODELS: dict[str, tuple[Any, str]] = {
    "minilm": (
        transformers.BertConfig(
            vocab_size=30522,
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
        ),
        SEQUENCE,
    ),
    "smollm2-135m-instruct": (
        transformers.LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=1536,
            tie_word_embeddings=True,
        ),
        CAUSAL,
    ),
}


def shapes(name: str) -> Any:
    config, auto_class = MODELS[name]
    with torch.device("meta"):
        model = getattr(transformers, auto_class).from_config(config)
        model.tie_weights()
        return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("method", "options"),
    [("lora", {"rank": 16}), ("adapter", {}), ("adapter", {"places": "houlsby"})],
)
def test_lora_and_adapters_save_under_5_percent(name: str, method: str, options: dict[str, Any]) -> None:
    model = shapes(name)
    whole = sum(p.numel() for p in model.parameters())
    assert whole == {"minilm": 22_713_986, "smollm2-135m-instruct": 134_515_008}[name]
    with torch.device("meta"):
        tuned = make(method, **options).apply(model, architectures.head(MODELS[name][1]))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert 0 < trained < 0.05 * whole


@pytest.mark.parametrize("name", MODELS)
def test_soft_prompts_save_under_1_percent(name: str) -> None:
    config, auto_class = MODELS[name]
    model = shapes(name)
    whole = sum(p.numel() for p in model.parameters())
    head = sum(p.numel() for p in head_parameters(model, architectures.head(auto_class)).values())
    sizes, tokens = shape_of(config), make("soft-prompt").offset
    prefix = tokens * sizes["num_layers"] * 2 * sizes["token_dim"]
    assert tokens * config.hidden_size < prefix <= prefix + head < 0.01 * whole
