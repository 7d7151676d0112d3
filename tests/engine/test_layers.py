"""Where parameters lie, over a dozen families: embeddings first, layers counted through, norm and head last."""

from __future__ import annotations

import pytest
from torch import nn

import architectures
from luthier.engine.layers import layer_of, stacks
from luthier.errors import ModelError

# How many layers, a parameter before them, and what comes after them.
KNOWN = {
    "bert": (2, "bert.embeddings.LayerNorm.bias", {"bert.pooler", "classifier"}),
    "roberta": (2, "roberta.embeddings.position_embeddings.weight", {"classifier"}),
    "electra": (2, "electra.embeddings_project.weight", {"classifier"}),
    "albert": (1, "albert.encoder.embedding_hidden_mapping_in.weight", {"albert.pooler", "classifier"}),
    "distilbert": (
        2,
        "distilbert.embeddings.word_embeddings.weight",
        {"pre_classifier", "classifier"},
    ),
    "deberta": (2, "deberta.encoder.rel_embeddings.weight", {"pooler", "classifier"}),
    "deberta-v2": (2, "deberta.encoder.rel_embeddings.weight", {"pooler", "classifier"}),
    "mpnet": (2, "mpnet.encoder.relative_attention_bias.weight", {"classifier"}),
    "modernbert": (2, "model.embeddings.tok_embeddings.weight", {"model.final_norm", "head", "classifier"}),
    "gpt2": (2, "transformer.wpe.weight", {"transformer.ln_f"}),
    "llama": (2, "model.embed_tokens.weight", {"model.norm"}),
    "mistral": (2, "model.embed_tokens.weight", {"model.norm", "lm_head"}),
    "qwen2": (2, "model.embed_tokens.weight", {"model.norm", "lm_head"}),
    "t5": (4, "shared.weight", {"decoder.final_layer_norm"}),
    "bart": (5, "model.decoder.layernorm_embedding.weight", set()),
    "marian": (5, "model.shared.weight", set()),
}


def auto_class(name: str) -> str:
    sequence = "AutoModelForSequenceClassification"
    return sequence if name in architectures.ENCODERS else architectures.language(name)


def test_every_architecture_here_is_known() -> None:
    assert set(KNOWN) == set(architectures.CONFIGS)


@pytest.mark.parametrize("name", KNOWN)
def test_embeddings_are_0_layers_count_through_and_norm_and_head_are_last(name: str) -> None:
    layers, before, after = KNOWN[name]
    model = architectures.stock(name, auto_class(name))
    depth = layer_of(model)
    assert set(depth) == {parameter for parameter, _ in model.named_parameters()}
    assert depth[before] == 0
    counted = {d for parameter, d in depth.items() if any(parameter.startswith(s.name) for s in stacks(model))}
    assert counted == set(range(1, layers + 1))
    last = {parameter for parameter, d in depth.items() if d == layers + 1}
    assert all(any(parameter.startswith(f"{place}.") for place in after) for parameter in last)
    assert all(any(parameter.startswith(f"{place}.") for parameter in last) for place in after)


def test_an_encoder_decoder_counts_its_encoder_first() -> None:
    depth = layer_of(architectures.stock("t5", "AutoModelForSeq2SeqLM"))
    assert depth["encoder.block.1.layer.1.DenseReluDense.wo.weight"] == 2
    assert depth["encoder.final_layer_norm.weight"] == 2
    assert depth["decoder.block.0.layer.0.SelfAttention.q.weight"] == 3


@pytest.mark.parametrize("method", ["lora", "soft-prompt", "frozen"])
def test_wrapped_models_have_the_depths_of_the_stock_one(method: str) -> None:
    from luthier.methods import METHODS

    head = architectures.head("AutoModelForSequenceClassification")
    model = METHODS[method](METHODS[method].Options()).apply(
        architectures.stock("bert", "AutoModelForSequenceClassification"), head
    )
    depth = layer_of(model)
    assert {d for name, d in depth.items() if ".layer.1." in name} == {2}
    assert {d for name, d in depth.items() if "prompt_encoder" in name} <= {0}
    ends = [d for name, d in depth.items() if "classifier" in name or name.startswith("head.")]
    assert set(ends) == {3}


def test_a_model_without_a_list_of_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="0 lists were found"):
        layer_of(nn.Sequential(nn.Linear(2, 2)))
