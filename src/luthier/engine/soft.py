"""Soft prompts by peft: its wrappers with the places of tokens put right, and a proof that they fit a class."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from .probe import LENGTH, difference, probe_inputs, probed

CLOSE = 1e-3  # two ways to the same numbers in fp32, over the numbers' size


class _Placed:
    """Keeps what peft drops: the positions of tokens.

    A batch that is padded on the left, as in writing, is right only with them.
    """

    def _adjust_prompt_learning_kwargs(
        self, peft_config: Any, *, kwargs: dict[str, Any], remove_token_type_ids: bool = True
    ) -> None:
        positions = kwargs.get("position_ids")
        if positions is not None:
            own = positions + peft_config.num_virtual_tokens
            past = kwargs.get("past_key_values")
            begins = past is None or not past.get_seq_length()
            if begins and "PREFIX" not in peft_config.peft_type:
                front = torch.arange(peft_config.num_virtual_tokens, device=own.device)
                own = torch.cat([front.expand(len(own), -1), own], 1)
            kwargs["position_ids"] = own
        if remove_token_type_ids:
            kwargs.pop("token_type_ids", None)


@cache
def _placed(stock: type[PeftModel]) -> type[PeftModel]:
    return type(f"Placed{stock.__name__}", (_Placed, stock), {})


def wrap(model: nn.Module, config: Any) -> PeftModel:
    """The stock model behind the soft prompt that peft's `config` describes; only the prompt and the head train."""
    tuned = _placed(MODEL_TYPE_TO_PEFT_MODEL_MAPPING[config.task_type])(model, config)
    # peft knows a head by the end of its name, and takes the prompt's own "mlp_head" for a head called "head".
    for parent in list(tuned.prompt_encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ModulesToSaveWrapper):
                setattr(parent, name, child.original_module.requires_grad_(True))
    return tuned


def shape_of(config: Any) -> dict[str, int]:
    """Layers, heads and width of the keys that a prefix stands for: the decoder's, where there is one.

    Read here, since peft takes a model's width for the width of its keys, and an encoder's layers for a decoder's.
    """
    layers = config.num_hidden_layers
    heads = config.num_attention_heads
    if config.is_encoder_decoder:
        layers = getattr(config, "decoder_layers", None) or getattr(config, "num_decoder_layers", None) or layers
        heads = getattr(config, "decoder_attention_heads", None) or heads
    each = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    heads = getattr(config, "num_key_value_heads", None) or heads
    return {"num_layers": layers, "num_attention_heads": heads, "token_dim": heads * each}


def begin(model: nn.Module, count: int) -> Tensor:
    """What a prefix of `count` tokens begins with: the keys and values of words drawn from the vocabulary.

    A prefix that begins as real words' activations learns from fewer rows (Li and Liang 2021,
    arxiv.org/abs/2101.00190).
    """
    ids = torch.randint(int(model.config.vocab_size), (count,))  # type: ignore[union-attr,arg-type]
    return prefix_of_words(model, ids.to(next(model.parameters()).device))


@torch.no_grad()
def prefix_of_words(model: nn.Module, ids: Tensor) -> Tensor:
    """Tokens x (layers x 2 x heads x width): the keys and values that the stock model itself makes of these tokens.

    TypeError from a class that takes none from before the text.
    """
    kept: Any = DynamicCache()
    inputs = {"input_ids": ids[None], "past_key_values": kept}
    if model.config.is_encoder_decoder:  # type: ignore[union-attr]
        inputs |= {
            "decoder_input_ids": ids[None],
            "past_key_values": EncoderDecoderCache(kept, DynamicCache()),
        }
    was = model.training
    getattr(model, "base_model", model).eval()(**inputs, use_cache=True)
    model.train(was)
    if not kept.layers:
        raise TypeError("it takes no keys and values from before the text")
    pairs = [state for layer in kept.layers for state in (layer.keys, layer.values)]
    # 2 layers x 1 x heads x tokens x width, as peft lays a token's row out.
    return torch.stack(pairs).squeeze(1).permute(2, 0, 1, 3).flatten(1)


def prompt_effect(tuned: PeftModel) -> float:
    """The largest change that the soft prompt makes in what the model gives."""
    return difference(probed(tuned), probed(tuned.get_base_model()))


def misfit(tuned: PeftModel) -> str:
    """What is wrong with the soft prompt in this model, measured on a few tokens; "" if nothing is.

    The prompt must change what the model gives; a padded row must give what it gives alone; and where a prompt stands
    among word embeddings, the model must make of those what it makes of the tokens they belong to.
    """
    stock = tuned.get_base_model()
    plain, given = probed(stock), probed(tuned)
    if not _differ(given, plain):
        return "it leaves what the model gives as it was"
    if "PREFIX" not in tuned.active_peft_config.peft_type:
        ids = probe_inputs(stock)["input_ids"]
        embedded = probed(stock, input_ids=None, inputs_embeds=tuned.word_embeddings(ids))
        if _differ(embedded, plain):
            return "its class does something to word embeddings that a prompt among them goes without"
    if _differ(_last_of_padded(tuned), given):
        return "a row that is padded gives other numbers than the row alone"
    return ""


def _last_of_padded(tuned: PeftModel) -> Tensor:
    """What the model gives for the probe's row in a batch with a row of twice its length."""
    ids = probe_inputs(tuned)["input_ids"]
    both = torch.stack([torch.cat([ids[0], ids[0]]), torch.cat([ids[0], ids[0]])])
    mask = torch.ones_like(both)
    mask[1, LENGTH:] = 0
    inputs = {"input_ids": both, "attention_mask": mask}
    if tuned.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids.expand(2, -1)
        return probed(tuned, **inputs)[1:]
    out = probed(tuned, **inputs)[1:]
    return out[:, -2 * LENGTH : -LENGTH] if out.ndim == 3 else out


def _differ(a: Tensor, b: Tensor) -> bool:
    return difference(a, b) > CLOSE * max(1e-6, float(b.abs().max()))
