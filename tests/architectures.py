"""Random models of two layers of the families that methods must know, in memory: what a method does to their parts."""

from __future__ import annotations

from typing import Any

import torch

VOCABULARY = 60
WIDTH = 32
_BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
_LLAMA = {**_BERT, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
_BART = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
    "init_std": 0.2,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _BERT),
    "roberta": ("RobertaConfig", {**_BERT, "pad_token_id": 1}),
    "electra": ("ElectraConfig", {**_BERT, "embedding_size": 16}),
    "albert": ("AlbertConfig", {**_BERT, "embedding_size": 16}),
    "distilbert": (
        "DistilBertConfig",
        {
            "vocab_size": VOCABULARY,
            "dim": WIDTH,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 48,
            "max_position_embeddings": 64,
            "initializer_range": 0.2,
        },
    ),
    "deberta": ("DebertaConfig", {**_BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "deberta-v2": (
        "DebertaV2Config",
        {**_BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
    ),
    "mpnet": ("MPNetConfig", {**_BERT, "pad_token_id": 1}),
    "modernbert": (
        "ModernBertConfig",
        {**_BERT, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": WIDTH,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "initializer_range": 0.2,
        },
    ),
    "llama": ("LlamaConfig", {**_LLAMA, "tie_word_embeddings": True}),
    "mistral": ("MistralConfig", {**_LLAMA, "sliding_window": None}),
    "qwen2": ("Qwen2Config", {**_LLAMA, "tie_word_embeddings": False}),
    "t5": (
        "T5Config",
        {
            "vocab_size": VOCABULARY,
            "d_model": WIDTH,
            "d_kv": 12,  # of T5s after the first, heads x width is not the model's width
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "d_ff": 48,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
        },
    ),
    "bart": ("BartConfig", _BART),
    "marian": ("MarianConfig", {**_BART, "scale_embedding": True, "decoder_vocab_size": VOCABULARY}),
}
ENCODERS = (
    "bert",
    "roberta",
    "electra",
    "albert",
    "distilbert",
    "deberta",
    "deberta-v2",
    "mpnet",
    "modernbert",
)
DECODERS = ("gpt2", "llama", "mistral", "qwen2")
ENCODER_DECODERS = ("t5", "bart", "marian")
HEADS = {
    "AutoModelForSequenceClassification": (
        ("classifier", "score", "pre_classifier", "head"),
        3,
        True,
        "SEQ_CLS",
    ),
    "AutoModelForTokenClassification": (("classifier", "score", "head"), 3, False, "TOKEN_CLS"),
    "AutoModelForQuestionAnswering": (("qa_outputs",), 2, False, "QUESTION_ANS"),
    "AutoModel": ((), WIDTH, True, "FEATURE_EXTRACTION"),
    "AutoModelForCausalLM": ((), VOCABULARY, False, "CAUSAL_LM"),
    "AutoModelForSeq2SeqLM": ((), VOCABULARY, False, "SEQ_2_SEQ_LM"),
    "AutoModelForMaskedLM": (("cls.predictions", "lm_head", "head"), VOCABULARY, False, ""),
}


def config(name: str, **settings: Any) -> Any:
    import transformers

    kind, given = CONFIGS[name]
    return getattr(transformers, kind)(**{**given, **settings})


def stock(name: str, auto_class: str, seed: int = 0) -> Any:
    """A model in evaluation mode, without dropout."""
    import transformers

    still = {
        **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"), 0.0),
        **dict.fromkeys(("dropout_rate", "resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    }
    made = config(name)
    for key, value in still.items():
        if hasattr(made, key):
            setattr(made, key, value)
    if auto_class in ("AutoModelForSequenceClassification", "AutoModelForTokenClassification"):
        made.num_labels = 3
    torch.manual_seed(seed)
    return getattr(transformers, auto_class).from_config(made).eval()


def head(auto_class: str) -> Any:
    from luthier.engine.heads import HeadSpec

    return HeadSpec(*HEADS[auto_class])


def language(name: str) -> str:
    return "AutoModelForSeq2SeqLM" if name in ENCODER_DECODERS else "AutoModelForCausalLM"


def rows(name: str, lengths: tuple[int, ...] = (9, 6, 4), seed: int = 1) -> dict[str, torch.Tensor]:
    """A batch of random tokens, padded on the right."""
    torch.manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(5, VOCABULARY, (len(lengths), longest))
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    batch = {"input_ids": ids * mask + (1 - mask) * pad(name), "attention_mask": mask}
    if name in ENCODER_DECODERS:
        batch["decoder_input_ids"] = torch.randint(5, VOCABULARY, (len(lengths), 5))
    return batch


def pad(name: str) -> int:
    return int(CONFIGS[name][1].get("pad_token_id", 0) or 0)
