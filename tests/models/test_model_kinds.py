"""What a config.json says about a model: kinds told apart, and what is not a text model refused."""

from __future__ import annotations

import pytest

from luthier.errors import ModelError
from luthier.models.kinds import TYPES, kind_of, quick_kind

KINDS = [
    ({"model_type": "bert", "architectures": ["BertModel"]}, "encoder"),
    ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "encoder"),
    ({"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True}, "decoder"),
    ({"model_type": "roberta"}, "encoder"),
    ({"model_type": "xlm-roberta"}, "encoder"),
    ({"model_type": "distilbert"}, "encoder"),
    ({"model_type": "deberta-v2"}, "encoder"),
    ({"model_type": "modernbert"}, "encoder"),
    ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "decoder"),
    ({"model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification"]}, "decoder"),
    ({"model_type": "llama"}, "decoder"),
    ({"model_type": "qwen2"}, "decoder"),
    ({"model_type": "phi3", "auto_map": {"AutoModel": "modeling_phi3.Phi3"}}, "decoder"),
    ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-decoder"),
    ({"model_type": "bart", "architectures": ["BartModel"]}, "encoder-decoder"),
    ({"model_type": "marian"}, "encoder-decoder"),
    # Not among the common names: transformers' own mappings decide.
    ({"model_type": "tapas"}, "encoder"),
    ({"model_type": "bert-generation", "is_decoder": True}, "decoder"),
    ({"model_type": "biogpt"}, "decoder"),
    ({"model_type": "fsmt", "is_encoder_decoder": True}, "encoder-decoder"),
]
REFUSED = [
    ({}, "model_type"),
    ({"model_type": 7}, "model_type"),
    ({"model_type": "wav2vec2"}, "not a text model"),
    ({"model_type": "whisper", "is_encoder_decoder": True}, "not a text model"),
    ({"model_type": "vit"}, "not a text model"),
    ({"model_type": "qwen2_vl", "vision_config": {}}, "text and vision"),
    ({"model_type": "my-own", "auto_map": {"AutoModel": "modeling.My"}}, "never runs a repository's code"),
    ({"model_type": "berd"}, 'does not know the model_type "berd". Did you mean "bert"?'),
]


@pytest.mark.parametrize("config, kind", KINDS, ids=[f"{c['model_type']}-{k}" for c, k in KINDS])
def test_kind(config: dict, kind: str) -> None:
    assert kind_of(config, "here") == kind


@pytest.mark.parametrize("config, sentence", REFUSED)
def test_refused_with_a_sentence(config: dict, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        kind_of(config, "here")
    assert sentence in str(caught.value)


def test_common_names_agree_with_transformers() -> None:
    import transformers as hf

    mappings = {
        "encoder": (hf.MODEL_FOR_MASKED_LM_MAPPING, hf.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING),
        "decoder": (hf.MODEL_FOR_CAUSAL_LM_MAPPING,),
        "encoder-decoder": (hf.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,),
    }
    known = {name: kind for name, kind in TYPES.items() if name in hf.CONFIG_MAPPING}
    wrong = [n for n, kind in known.items() if not any(hf.CONFIG_MAPPING[n] in m for m in mappings[kind])]
    assert len(known) >= 80 and not wrong


def test_quick_kind_leaves_rare_types_open() -> None:
    assert quick_kind({"model_type": "bert"}, "") == "encoder"
    assert quick_kind({"model_type": "tapas"}, "") is None
