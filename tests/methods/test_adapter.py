"""Bottleneck adapters: where they go in each family, what trains, what is saved, and that it comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from method_cells import SEQUENCE, bytes_of, given, loaded, make, saved, tuned
from safetensors.torch import load_file, save_file
from torch import nn

import architectures
from luthier.engine.bottleneck import bottlenecks, output_projections, without_bottlenecks
from luthier.errors import ModelError

# Adapters of each place in a model of two layers, or of two and as many (T5) or three (BART) in the decoder.
COUNTS = {**dict.fromkeys(architectures.CONFIGS, (2, 4)), "albert": (1, 2), "t5": (4, 10)}
COUNTS |= {"bart": (5, 13), "marian": (5, 13)}


def auto_class(name: str) -> str:
    return SEQUENCE if name in architectures.ENCODERS else architectures.language(name)


@pytest.mark.parametrize("name", COUNTS)
def test_each_family_gets_one_behind_every_output_projection(name: str) -> None:
    model = architectures.stock(name, auto_class(name))
    behind_both = output_projections(model, "houlsby")
    assert (len(output_projections(model, "pfeiffer")), len(behind_both)) == COUNTS[name]
    assert len(set(behind_both)) == len(behind_both)
    head = architectures.head(auto_class(name))
    assert not [place for place in behind_both if set(place.split(".")) & {*head.modules, "pooler"}]


@pytest.mark.parametrize("name", ["bert", "modernbert", "gpt2", "llama", "t5", "bart"])
@pytest.mark.parametrize("places", ["pfeiffer", "houlsby"])
def test_it_starts_as_the_base_learns_and_comes_back(name: str, places: str, tmp_path: Path) -> None:
    method, batch = make("adapter", places=places, bottleneck=6), architectures.rows(name)
    base = architectures.stock(name, auto_class(name))
    fresh = method.apply(architectures.stock(name, auto_class(name)), architectures.head(auto_class(name)))
    with torch.no_grad():
        assert torch.equal(given(fresh, batch), given(base, batch)), "the identity, until it is trained"
    model = tuned(method, name, auto_class(name))
    folder = saved(method, model, tmp_path / "model")
    again = loaded(method, folder, name, auto_class(name))
    with torch.no_grad():
        assert torch.equal(given(again, batch), given(model, batch))
        assert float((given(again, batch) - given(base, batch)).abs().max()) > 0.01
        with without_bottlenecks(again):
            assert float((given(again, batch) - given(model, batch)).abs().max()) > 0.01


def test_only_adapters_and_head_train_and_the_graph_begins_at_the_first_adapter() -> None:
    model = tuned(make("adapter"), "bert", SEQUENCE)
    for name, parameter in model.named_parameters():
        trains = ".adapter." in name or "classifier" in name or "pooler" in name
        assert parameter.requires_grad == trains, name
        assert (parameter.grad is not None) == trains, name
    seen: dict[str, bool] = {}
    for place in ("embeddings", "encoder.layer.0.attention", "encoder.layer.0.output.dense"):
        model.bert.get_submodule(place).register_forward_hook(
            lambda module, inputs, out, place=place: seen.update(
                {place: (out if isinstance(out, torch.Tensor) else out[0]).requires_grad}
            )
        )
    given(model, architectures.rows("bert"))
    assert seen == {
        "embeddings": False,
        "encoder.layer.0.attention": False,
        "encoder.layer.0.output.dense": True,
    }


def test_sizes_follow_the_width_or_the_number_given() -> None:
    for options, size in (({}, 8), ({"reduction_factor": 2}, 16), ({"bottleneck": 5}, 5)):
        model = make("adapter", **options).apply(architectures.stock("bert", SEQUENCE), architectures.head(SEQUENCE))
        assert {adapter.down.out_features for adapter in bottlenecks(model)} == {size}
    assert make("adapter").options.size(768) == 48


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_activation_and_dropout_are_those_that_were_asked_for(activation: str) -> None:
    model = make("adapter", activation=activation, dropout=0.5).apply(
        architectures.stock("bert", "AutoModel"), architectures.head("AutoModel")
    )
    adapter = bottlenecks(model)[0]
    nn.init.normal_(adapter.up.weight)
    x = torch.randn(2, 3, architectures.WIDTH)
    made = getattr(nn.functional, activation)(x @ adapter.down.weight.T)
    assert torch.allclose(adapter.eval()(x), x + made @ adapter.up.weight.T, atol=1e-6)
    assert not torch.equal(adapter.train()(x), adapter(x))


def test_the_folder_says_what_it_needs_and_holds_nothing_of_the_base(tmp_path: Path) -> None:
    method = make("adapter", places="houlsby", activation="silu")
    folder = saved(method, tuned(method, "bert", SEQUENCE), tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter.json", "adapter.safetensors"]
    assert json.loads((folder / "adapter.json").read_text()) == {
        "base_model": "some-base",
        "bottleneck": 8,
        "places": "houlsby",
        "activation": "silu",
        "dropout": 0.0,
    }
    names = set(load_file(folder / "adapter.safetensors"))
    assert all(".adapter." in name or "classifier" in name or "pooler" in name for name in names)
    assert len(names) == 4 * 4 + 4


def test_a_weight_renamed_missing_extra_or_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    method = make("adapter")
    folder = saved(method, tuned(method, "bert", SEQUENCE), tmp_path / "model")
    right = load_file(folder / "adapter.safetensors")
    cases = 0
    for name in sorted(right):
        for changed in (
            {(f"{n}x" if n == name else n): t for n, t in right.items()},
            {n: t for n, t in right.items() if n != name},
            {n: (t[..., :-1].contiguous() if n == name else t) for n, t in right.items()},
        ):
            save_file(changed, folder / "adapter.safetensors")
            with pytest.raises(ModelError) as caught:
                loaded(method, folder, "bert", SEQUENCE)
            assert name in str(caught.value)
            cases += 1
    assert cases == 3 * 12
    save_file({**right, "nobody.asked": torch.zeros(2)}, folder / "adapter.safetensors")
    with pytest.raises(ModelError, match=r"nobody\.asked"):
        loaded(method, folder, "bert", SEQUENCE)


def test_one_that_was_trained_and_changes_nothing_is_refused(tmp_path: Path, monkeypatch) -> None:
    method = make("adapter")
    folder = saved(method, tuned(method, "bert", SEQUENCE), tmp_path / "model")
    monkeypatch.setattr("luthier.engine.bottleneck._adapt", lambda projection, inputs, output: output)
    with pytest.raises(ModelError, match="changes nothing"):
        loaded(method, folder, "bert", SEQUENCE)


def test_a_class_without_known_places_is_refused_by_its_name() -> None:
    model = architectures.stock("bert", SEQUENCE)
    for layer in model.bert.encoder.layer:
        layer.output.renamed = layer.output.dense
        del layer.output.dense
    with pytest.raises(ModelError) as caught:
        make("adapter").apply(model, architectures.head(SEQUENCE))
    assert caught.value.where == "BertForSequenceClassification"
    assert "no output projection" in str(caught.value)


@pytest.mark.parametrize("places", ["pfeiffer", "houlsby"])
def test_faster_layers_do_not_pass_an_adapter_by(places: str) -> None:
    """On a CPU in bf16 the layers of some decoders are computed in one go: those with adapters must not be."""
    from luthier.engine.language.decoder_layer import use_fast_layers

    causal, batch = "AutoModelForCausalLM", {**architectures.rows("llama"), "use_cache": False}
    assert use_fast_layers(architectures.stock("llama", causal)) == 2, "or this proves nothing"
    model = make("adapter", places=places).apply(architectures.stock("llama", causal), architectures.head(causal))
    use_fast_layers(model)
    for adapter in bottlenecks(model):
        nn.init.normal_(adapter.up.weight)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        with_adapters = given(model, batch)
        with without_bottlenecks(model):
            assert float((given(model, batch) - with_adapters).abs().max()) > 0.1


def test_it_cannot_be_merged_and_says_so() -> None:
    method = make("adapter")
    with pytest.raises(ModelError, match="cannot be merged"):
        method.merge(tuned(method, "bert", SEQUENCE))


def test_a_masked_language_head_is_saved_without_its_tied_decoder(tmp_path: Path) -> None:
    method = make("adapter")
    folder = saved(method, tuned(method, "bert", "AutoModelForMaskedLM"), tmp_path / "model")
    held = load_file(folder / "adapter.safetensors")
    assert "cls.predictions.transform.dense.weight" in held
    assert not [name for name, t in held.items() if t.shape == (architectures.VOCABULARY, architectures.WIDTH)]
    assert bytes_of(folder) < 30_000
