"""What a folder needs beside weights and tokenizer to be loaded by sentence-transformers.

modules.json names the steps (https://sbert.net/docs/package_reference/sentence_transformer/models.html), each with its
settings in a folder of its own, under the names that every release since 2.0 reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.files import read_json, write_json

_MODULE = "sentence_transformers.models."
_LINEAR, _RELU = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.ReLU"
_POOLINGS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}
# What transformers cannot put into a model by itself: prompts in front of the input, and adapters of our own.
_PROMPTS = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING")


def finish(folder: Path, options: Any, width: int) -> bool:
    """Write modules.json and its company; whether sentence-transformers can load this folder at all.

    A model whose parts it does not know gets none of them: it would load, and give the vectors of the base model.
    `options` are those of the embedding task; `width` is that of the backbone.
    """
    if not loadable(folder):
        return False
    steps = [("Transformer", ""), ("Pooling", "1_Pooling")]
    pooling = {"word_embedding_dimension": width, **dict.fromkeys(_POOLINGS.values(), False)}
    pooling |= {"pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}
    _settings(folder / "1_Pooling", pooling | {_POOLINGS[options.pooling]: True})
    if (folder / "head.safetensors").is_file():
        steps += [("Dense", path) for path in _dense(folder, width)]
    if options.normalize:
        steps.append(("Normalize", f"{len(steps)}_Normalize"))
    modules = [{"idx": i, "name": str(i), "path": path, "type": _MODULE + kind} for i, (kind, path) in enumerate(steps)]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": options.max_length, "do_lower_case": False})
    company = {
        "model_type": "SentenceTransformer",
        "prompts": {"query": options.query_prefix, "document": options.passage_prefix},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    write_json(folder / "config_sentence_transformers.json", company)
    return True


def loadable(folder: Path) -> bool:
    """Whether sentence-transformers has a step for everything that makes this model."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        return read_json(adapter).get("peft_type") not in _PROMPTS
    return (folder / "config.json").is_file() and not (folder / "adapter.safetensors").is_file()


def _settings(folder: Path, settings: dict[str, Any]) -> None:
    folder.mkdir()
    write_json(folder / "config.json", settings)


def _dense(folder: Path, width: int) -> list[str]:
    """The head of head.safetensors as one or two layers; the folders that hold them.

    The head adds what it makes of standardised features to the features. A linear layer takes standardising and
    adding into itself; a hidden layer carries the features along, x = relu(x) - relu(-x).
    """
    import torch
    from safetensors.torch import load_file

    head = load_file(folder / "head.safetensors")
    own = torch.eye(width)
    first, last = ("layers.0", "layers.3") if "layers.3.weight" in head else ("layers.1", "")
    weight = head[f"{first}.weight"] / head["std"]
    bias = head[f"{first}.bias"] - weight @ head["mean"]
    if not last:
        return [_layer(folder / "2_Dense", weight + own, bias, _LINEAR)]
    up = _layer(folder / "2_Dense", torch.cat([weight, own, -own]), torch.cat([bias, torch.zeros(2 * width)]), _RELU)
    down = torch.cat([head[f"{last}.weight"], own, -own], 1)
    return [up, _layer(folder / "3_Dense", down, head[f"{last}.bias"], _LINEAR)]


def _layer(folder: Path, weight: Any, bias: Any, activation: str) -> str:
    """One Dense step, `weight` out x in; the name of its folder."""
    from safetensors.torch import save_file

    out, width = weight.shape
    sizes = {"in_features": width, "out_features": out}
    _settings(folder, {**sizes, "bias": True, "activation_function": activation})
    layer = {"linear.weight": weight.contiguous(), "linear.bias": bias.contiguous()}
    save_file(layer, folder / "model.safetensors", metadata={"format": "pt"})
    return folder.name
