"""What kind of model a config.json describes - encoder, decoder or encoder-decoder - and whether it is safe.

The common architectures are known by name, so that most models are judged without importing torch; for any
other, transformers' own mappings decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelError, did_you_mean

Kind = Literal["encoder", "decoder", "encoder-decoder"]

_ENCODERS = (
    "albert bert big_bird camembert convbert data2vec-text deberta deberta-v2 distilbert electra ernie "
    "esm eurobert flaubert fnet funnel ibert layoutlm longformer luke megatron-bert mobilebert modernbert "
    "mpnet mra nystromformer nomic_bert rembert roberta roberta-prelayernorm roc_bert roformer "
    "squeezebert xlm xlm-roberta xlm-roberta-xl xmod yoso"
)
_DECODERS = (
    "bloom codegen cohere cohere2 deepseek_v2 deepseek_v3 exaone4 falcon gemma gemma2 gemma3_text glm "
    "glm4 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss gptj granite granitemoe helium llama mamba mamba2 "
    "ministral mistral mixtral mpt nemotron olmo olmo2 olmo3 opt persimmon phi phi3 phimoe qwen2 "
    "qwen2_moe qwen3 qwen3_moe seed_oss smollm3 stablelm starcoder2 xglm"
)
_BOTH = (
    "bart bigbird_pegasus blenderbot blenderbot-small led longt5 m2m_100 marian mbart mt5 mvp pegasus "
    "pegasus_x plbart prophetnet switch_transformers t5 t5gemma umt5"
)
TYPES: dict[str, Kind] = {
    **dict.fromkeys(_ENCODERS.split(), "encoder"),
    **dict.fromkeys(_DECODERS.split(), "decoder"),
    **dict.fromkeys(_BOTH.split(), "encoder-decoder"),
}

_MAX_CONFIG = 4_000_000
# Keys of a config.json that make transformers fetch code, or weights from elsewhere.
_REACHES_OUT = ("transformers_weights", "fusion_config", "kernel_config", "custom_generate")
_MAX_LAYERS = 2_000


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as plain JSON; ModelError where it is missing, damaged, too large, or reaches out."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > _MAX_CONFIG:
            raise ValueError(f"it is larger than {_MAX_CONFIG:,} bytes")
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
    except FileNotFoundError:
        raise ModelError(
            "this folder holds no model (no config.json)",
            where=str(folder),
            fix="name the folder that transformers' save_pretrained wrote, or a run folder of luthier",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"this config cannot be read ({str(error)[:160]})", where=str(path), fix="fetch the model again"
        ) from None
    _refuse_reaching_out(config, path)
    return config


def kind_of(config: Mapping[str, Any], where: str) -> Kind:
    """The model's kind; torch is imported only for a type that is not among the common ones.

    Raises ModelError for a type that transformers does not know, that exists only as repository code, or that
    is not a text model.
    """
    return quick_kind(config, where) or _ask_transformers(config, str(config["model_type"]), where)


def quick_kind(config: Mapping[str, Any], where: str) -> Kind | None:
    """The kind of a common type, None for any other; ModelError where the config cannot be a text model's."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise ModelError(
            'config.json has no "model_type", so nothing says what this model is',
            where=where,
            fix="use a model whose config.json transformers wrote",
        )
    senses = [key for key in ("vision_config", "audio_config") if isinstance(config.get(key), Mapping)]
    if senses:
        raise ModelError(
            f"{model_type} is a model of text and {senses[0].removesuffix('_config')}, not of text alone",
            where=where,
            fix="luthier models list",
        )
    kind = TYPES.get(model_type)
    return "decoder" if kind == "encoder" and config.get("is_decoder") is True else kind


def architecture_of(config: Mapping[str, Any]) -> str:
    """The class that wrote the weights ("BertModel"), or "" where the config does not say."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _ask_transformers(config: Mapping[str, Any], model_type: str, where: str) -> Kind:
    import transformers as hf

    if model_type not in hf.CONFIG_MAPPING:
        if config.get("auto_map"):
            raise ModelError(
                f'its architecture "{model_type}" exists only as Python code in its repository (auto_map), '
                f"and luthier never runs a repository's code",
                where=where,
                fix="choose a model that transformers itself knows: luthier models list",
            )
        raise ModelError(
            f'transformers {hf.__version__} does not know the model_type "{model_type}". '
            + did_you_mean(model_type, TYPES).partition("Known:")[0].strip(),
            where=where,
            fix="a newer transformers may know it: pip install -U transformers",
        )
    known = hf.CONFIG_MAPPING[model_type]
    if known in hf.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return "encoder-decoder"
    if config.get("is_encoder_decoder") is not True:  # true here: speech or images to text
        if known in hf.MODEL_FOR_MASKED_LM_MAPPING and config.get("is_decoder") is not True:
            return "encoder"
        if known in hf.MODEL_FOR_CAUSAL_LM_MAPPING:
            return "decoder"
        if known in hf.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            return "encoder"
    raise ModelError(
        f'"{model_type}" is not a text model that luthier can tune (encoder, decoder or encoder-decoder)',
        where=where,
        fix="luthier models list",
    )


def _refuse_reaching_out(config: Mapping[str, Any], path: Path) -> None:
    for key, value in _items(config):
        if key in _REACHES_OUT and value:
            raise ModelError(
                f'its key "{key}" would load code or weights from elsewhere',
                where=str(path),
                fix="do not use this model; or, if you trust it, delete that key",
            )
        if key.endswith(("attn_implementation", "experts_implementation")) and "/" in json.dumps(value):
            raise ModelError(
                f'its key "{key}" names a hub repository whose code would be run',
                where=str(path),
                fix="delete that key; luthier never runs a repository's code",
            )
        if key == "num_hidden_layers" and isinstance(value, int) and value > _MAX_LAYERS:
            raise ModelError(f"it claims {value:,} layers", where=str(path), fix="fetch the model again")
    quantised = config.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
        how = f" ({method})" if method else ""
        raise ModelError(
            f"its weights are quantised{how}, and quantised weights cannot be tuned",
            where=str(path),
            fix="use the unquantised model it was made from",
        )


def _items(tree: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > 8:
        return
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield str(key), value
            yield from _items(value, depth + 1)
    elif isinstance(tree, list):
        for value in tree:
            yield from _items(value, depth + 1)


def a_kind(kind: str) -> str:
    """A kind of model in a sentence: "an encoder", "a decoder"."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
