"""Base models worth knowing, one or two a family, with what their model cards say (read 2026-11).

Nothing here is fetched: it is what `luthier models suggest` names beside the catalogue and this disk. Parameters are
those of the whole model, `languages` its cards' ("many" for multilingual ones), `max_length` in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """One model of the hub."""

    name: str
    family: str
    kind: str
    parameters: int
    licence: str
    languages: tuple[str, ...]
    max_length: int | None


_EN, _MANY, _M = ("en",), ("many",), 1_000_000

FAMILIES: tuple[Known, ...] = (
    Known("distilbert/distilbert-base-uncased", "BERT", "encoder", 67 * _M, "apache-2.0", _EN, 512),
    Known("google-bert/bert-base-uncased", "BERT", "encoder", 110 * _M, "apache-2.0", _EN, 512),
    Known("google-bert/bert-base-multilingual-cased", "BERT", "encoder", 179 * _M, "apache-2.0", _MANY, 512),
    Known("FacebookAI/roberta-base", "RoBERTa", "encoder", 125 * _M, "mit", _EN, 512),
    Known("FacebookAI/xlm-roberta-base", "RoBERTa", "encoder", 279 * _M, "mit", _MANY, 512),
    Known("microsoft/deberta-v3-small", "DeBERTa", "encoder", 141 * _M, "mit", _EN, 512),
    Known("microsoft/deberta-v3-base", "DeBERTa", "encoder", 184 * _M, "mit", _EN, 512),
    Known("microsoft/mdeberta-v3-base", "DeBERTa", "encoder", 279 * _M, "mit", _MANY, 512),
    Known("answerdotai/ModernBERT-base", "ModernBERT", "encoder", 150 * _M, "apache-2.0", _EN, 8192),
    Known("google-t5/t5-small", "T5", "encoder-decoder", 61 * _M, "apache-2.0", ("en", "fr", "de", "ro"), None),
    Known("google/flan-t5-base", "T5", "encoder-decoder", 248 * _M, "apache-2.0", _MANY, None),
    Known("facebook/bart-base", "BART", "encoder-decoder", 139 * _M, "apache-2.0", _EN, 1024),
    Known("openai-community/gpt2", "GPT-2", "decoder", 124 * _M, "mit", _EN, 1024),
    Known("HuggingFaceTB/SmolLM2-360M-Instruct", "LLaMA", "decoder", 362 * _M, "apache-2.0", _EN, 8192),
    Known("Qwen/Qwen2.5-0.5B-Instruct", "Qwen", "decoder", 494 * _M, "apache-2.0", _MANY, 32768),
    Known("Qwen/Qwen3-0.6B", "Qwen", "decoder", 596 * _M, "apache-2.0", _MANY, 40960),
    Known("meta-llama/Llama-3.2-1B-Instruct", "LLaMA", "decoder", 1236 * _M, "llama3.2", _MANY, 131072),
)
