"""LoRA by peft: where updates go in each family, what is saved, merging, and the sentences of what cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from method_cells import SEQUENCE, bytes_of, given, loaded, make, saved, tuned
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

import architectures
from luthier.errors import ModelError, RunError


def auto_class(name: str) -> str:
    return SEQUENCE if name in architectures.ENCODERS else architectures.language(name)


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "llama", "qwen2", "t5", "bart"])
def test_updates_go_into_the_backbone_alone_and_come_back(name: str, tmp_path: Path) -> None:
    method, batch = make("lora", rank=4), architectures.rows(name)
    model = tuned(method, name, auto_class(name))
    places = {n for n, module in model.named_modules() if isinstance(module, LoraLayer)}
    assert len(places) >= 2 * (4 if name == "gpt2" else 6)
    assert not [n for n in places if any(word in n for word in ("lm_head", "classifier", "pooler", "shared"))]
    base = architectures.stock(name, auto_class(name))
    again = loaded(method, saved(method, model, tmp_path / "model"), name, auto_class(name))
    with torch.no_grad():
        assert torch.equal(given(again, batch), given(model, batch))
        assert float((given(again, batch) - given(base, batch)).abs().max()) > 0.01


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True, "alpha": 4}])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_merged_it_is_the_stock_class_and_answers_the_same(name: str, options: dict) -> None:
    method = make("lora", rank=4, **options)
    model = tuned(method, name, auto_class(name))
    batches = [architectures.rows(name, seed=seed) for seed in range(10)]
    with torch.no_grad():
        before = torch.cat([given(model, batch) for batch in batches])
        merged = method.merge(model)
        assert type(merged).__name__ == type(architectures.stock(name, auto_class(name))).__name__
        assert {n.split(".")[-1] for n, _ in merged.named_parameters()} <= {"weight", "bias"}
        after = torch.cat([given(merged, batch) for batch in batches])
    assert float((before - after).abs().max()) <= 1e-4
    assert torch.equal(before.argmax(-1), after.argmax(-1))


def test_a_base_held_in_bf16_is_merged_in_fp32() -> None:
    from luthier.engine.language.frozen_weights import keep_frozen_in_bf16

    causal, batch = "AutoModelForCausalLM", architectures.rows("llama")
    stock = architectures.stock("llama", causal)
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.copy_(parameter.bfloat16())
    method = make("lora", rank=4)
    model = method.apply(stock, architectures.head(causal)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    assert keep_frozen_in_bf16(model) > 0
    with torch.no_grad():
        before = given(model, batch)
        merged = method.merge(model)
        assert {p.dtype for p in merged.parameters()} == {torch.float32}
        assert float((given(merged, batch) - before).abs().max()) <= 1e-4


def test_nothing_frozen_gets_a_gradient_and_the_graph_begins_at_the_first_update() -> None:
    model = tuned(make("lora", rank=4), "bert", SEQUENCE)
    for name, parameter in model.named_parameters():
        trains = "lora_" in name or "modules_to_save" in name
        assert parameter.requires_grad == trains, name
        assert (parameter.grad is not None) == trains, name
    seen = []
    model.base_model.model.bert.embeddings.register_forward_hook(
        lambda module, inputs, out: seen.append(out.requires_grad)
    )
    given(model, architectures.rows("bert"))
    assert seen == [False]


def test_scaling_follows_rank_or_its_root() -> None:
    for options, scale in (
        ({"alpha": 8, "rank": 4}, 2.0),
        ({"alpha": 8, "rank": 4, "use_rslora": True}, 4.0),
    ):
        model = make("lora", **options).apply(architectures.stock("bert", "AutoModel"), architectures.head("AutoModel"))
        layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        assert {layer.scaling["default"] for layer in layers} == {scale}


def test_modules_are_trained_whole_saved_and_come_back(tmp_path: Path) -> None:
    method, batch = make("lora", rank=4, modules=["LayerNorm"]), architectures.rows("bert")
    model = tuned(method, "bert", SEQUENCE)
    folder = saved(method, model, tmp_path / "model")
    norms = [n for n in load_file(folder / "adapter_model.safetensors") if "LayerNorm" in n]
    assert len(norms) == 2 * 5
    with torch.no_grad():
        assert torch.equal(given(loaded(method, folder, "bert", SEQUENCE), batch), given(model, batch))


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        ("bert", "Nope", "matches no module"),
        ("bert", "intermediate", "holds layers that get an update"),
        ("llama", "embed_tokens", "tied to another weight"),
    ],
)
def test_modules_that_cannot_be_trained_whole_are_refused(name: str, module: str, said: str) -> None:
    model = architectures.stock(name, auto_class(name))
    with pytest.raises(ModelError, match=said) as caught:
        make("lora", modules=[module]).apply(model, architectures.head(auto_class(name)))
    assert "norm" in caught.value.fix.lower()


def test_tied_weights_are_not_saved(tmp_path: Path) -> None:
    for name, kind in (("bert", "AutoModelForMaskedLM"), ("llama", "AutoModelForCausalLM")):
        method = make("lora", rank=2)
        folder = saved(method, tuned(method, name, kind), tmp_path / name)
        held = load_file(folder / "adapter_model.safetensors")
        whole = (architectures.VOCABULARY, architectures.WIDTH)
        assert not [n for n, t in held.items() if tuple(t.shape) == whole], name
        assert bytes_of(folder) < 40_000
        if name == "bert":
            assert [n for n in held if n.endswith("cls.predictions.transform.dense.weight")]


def test_names_are_written_in_one_order(tmp_path: Path) -> None:
    """peft keeps them in sets, whose order differs from process to process."""
    method = make("lora", rank=2)
    folder = saved(method, tuned(method, "bert", SEQUENCE), tmp_path / "model")
    told = json.loads((folder / "adapter_config.json").read_text())
    assert len(told["target_modules"]) >= 6
    for name in ("target_modules", "modules_to_save"):
        assert told[name] == sorted(told[name])


def test_a_weight_renamed_missing_or_extra_is_refused_by_name(tmp_path: Path) -> None:
    method = make("lora", rank=2, target=["query"])
    folder = saved(method, tuned(method, "bert", SEQUENCE), tmp_path / "model")
    right = load_file(folder / "adapter_model.safetensors")
    cases = 0
    for name in sorted(right):
        for changed in (
            {(f"{n}x" if n == name else n): t for n, t in right.items()},
            {n: t for n, t in right.items() if n != name},
        ):
            save_file(changed, folder / "adapter_model.safetensors")
            with pytest.raises(ModelError) as caught:
                loaded(method, folder, "bert", SEQUENCE)
            assert name.removesuffix(".weight") in str(caught.value)
            cases += 1
    assert cases == 2 * 8
    save_file({**right, "nobody.asked": torch.zeros(2)}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"nobody\.asked"):
        loaded(method, folder, "bert", SEQUENCE)


def test_one_that_was_trained_and_changes_nothing_is_refused(tmp_path: Path) -> None:
    method = make("lora", rank=2)
    folder = saved(method, tuned(method, "bert", SEQUENCE), tmp_path / "model")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 0}))
    with pytest.raises(ModelError, match="changes nothing"):
        loaded(method, folder, "bert", SEQUENCE)


def test_one_that_was_never_trained_loads_as_the_base(tmp_path: Path) -> None:
    method, batch = make("lora", rank=2), architectures.rows("bert")
    fresh = method.apply(architectures.stock("bert", SEQUENCE), architectures.head(SEQUENCE)).eval()
    again = loaded(method, saved(method, fresh, tmp_path / "model"), "bert", SEQUENCE)
    with torch.no_grad():
        assert torch.equal(given(again, batch), given(architectures.stock("bert", SEQUENCE), batch))


def test_4_bits_are_refused_where_there_is_no_gpu_or_no_bitsandbytes(monkeypatch) -> None:
    import importlib.util

    head, method = architectures.head(SEQUENCE), make("lora", quantization="4bit")
    assert make("lora").loading(head) == {}
    there = {"bitsandbytes": False, "gpu": False}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: SimpleNamespace() if there["bitsandbytes"] else None
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there["gpu"])
    for state, said, fix in (
        ((False, False), "no bitsandbytes and no NVIDIA GPU", "quantization: none"),
        ((True, False), "no NVIDIA GPU", "quantization: none"),
        ((False, True), "no bitsandbytes", "pip install bitsandbytes"),
    ):
        there["bitsandbytes"], there["gpu"] = state
        with pytest.raises(ModelError) as caught:
            method.loading(head)
        assert said in str(caught.value)
        assert fix in caught.value.fix


def test_4_bits_ask_for_nf4_keep_the_head_whole_and_cannot_be_merged(monkeypatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(__version__="0.49"))
    method = make("lora", quantization="4bit")
    given_to = method.loading(architectures.head(SEQUENCE))
    assert given_to["device_map"] == {"": 0}
    config = given_to["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    assert config.bnb_4bit_use_double_quant
    assert {"classifier", "pooler"} <= set(config.llm_int8_skip_modules)
    with pytest.raises(ModelError, match="4 bits"):
        method.merge(architectures.stock("bert", SEQUENCE))


HOSTILE = [
    {"target_modules": "(([a-z]+)+[.]?)+!"},
    {"peft_type": "XLORA"},
    {"r": "16"},
    {"r": 10**9},
    {"modules_to_save": [3]},
]


@pytest.mark.parametrize("changes", HOSTILE)
def test_settings_that_luthier_did_not_write_are_refused(changes: dict, tmp_path: Path) -> None:
    """An adapter is someone's file: a pattern in place of names could compute for ever."""
    method = make("lora", rank=4)
    folder = saved(method, tuned(method, "bert", SEQUENCE), tmp_path / "model")
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**told, **changes}))
    with pytest.raises(RunError, match="it is damaged") as caught:
        loaded(method, folder, "bert", SEQUENCE)
    assert caught.value.where.endswith("adapter_config.json")


def test_settings_that_would_import_a_module_are_not_taken(tmp_path: Path) -> None:
    method, batch = make("lora", rank=4), architectures.rows("bert")
    model = tuned(method, "bert", SEQUENCE)
    folder = saved(method, model, tmp_path / "model")
    told = json.loads((folder / "adapter_config.json").read_text())
    changes = {"megatron_config": {"a": 1}, "megatron_core": "antigravity", "layer_replication": [[0, 10**6]]}
    (folder / "adapter_config.json").write_text(json.dumps({**told, **changes}))
    with torch.no_grad():
        assert torch.equal(given(loaded(method, folder, "bert", SEQUENCE), batch), given(model, batch))
    assert "antigravity" not in sys.modules
