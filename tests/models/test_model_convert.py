"""GGUF to a plain folder: the tensors, the tokenizer and the chat template come through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from luthier.errors import ModelError
from luthier.models import get, load_pretrained, load_tokenizer, resolve

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of the rotary halves of a query or key projection."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(model: torch.nn.Module, tokens: list[str], path: Path) -> None:
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(5)
    writer.add_pad_token_id(7)
    writer.add_chat_template(TEMPLATE)
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    state = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(theirs)
            weight = permuted(weight, heads) if heads else weight
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_becomes_a_plain_folder(
    llama: Path, tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16)
    tokens = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]
    write_gguf(original, tokens, tmp_path / "My Tiny.gguf")
    capfd.readouterr()
    said: list[str] = []
    folder = get(str(tmp_path / "My Tiny.gguf"), say=said.append)
    assert capfd.readouterr() == ("", "") and "its name is my-tiny" in said[0]
    assert folder == cache / "models" / "my-tiny" == get(str(tmp_path / "My Tiny.gguf")) and len(said) == 1
    source = resolve("my-tiny")
    assert source.kind == "decoder" and source.parameters == original.num_parameters()
    model = load_pretrained(source, AutoModelForCausalLM, dtype=torch.bfloat16)
    assert all(torch.equal(model.state_dict()[n], t) for n, t in original.state_dict().items())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids = torch.tensor([[1, 5, 9, 200, 33]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, original(ids).logits)
    model.save_pretrained(tmp_path / "again")  # a model read from GGUF directly would refuse
    tokenizer = load_tokenizer(source)
    text = "Zwei Worte, the ü 😀 ."
    assert tokenizer(text)["input_ids"] == load_tokenizer(resolve(str(llama)))(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text and tokenizer.model_max_length == 64
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 5, 7)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<user>hi"


def test_not_a_gguf(tmp_path: Path, cache: Path) -> None:
    broken = {
        "missing.gguf": "no such file",
        "text.gguf": "not a GGUF file",
        "torn.gguf": "cannot read this GGUF",
    }
    (tmp_path / "text.gguf").write_text("hello, this is text and nothing else")
    (tmp_path / "torn.gguf").write_bytes(b"GGUF\3\0\0\0" + b"\0" * 40)
    for name, sentence in broken.items():
        with pytest.raises(ModelError, match=sentence):
            get(str(tmp_path / name), say=lambda _: None)
    assert not [p for p in cache.rglob("*") if p.suffix != ".lock" and p.is_file()]


def test_another_file_of_the_same_name_replaces_nothing(cache: Path, tmp_path: Path) -> None:
    (cache / "models" / "x").mkdir(parents=True)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match='already holds another model called "x"'):
        get(str(tmp_path / "x.gguf"))
