"""Soft prompts by peft: every kind on every family it fits, positions and padding right, heads saved, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from method_cells import SEQUENCE, bytes_of, given, loaded, make, saved, tuned
from safetensors.torch import load_file, save_file

import architectures
from luthier.errors import ModelError

KINDS = ("prompt", "prefix", "p-tuning")
TASKS = (SEQUENCE, "AutoModelForTokenClassification", "AutoModelForQuestionAnswering", "AutoModel")
CELLS = [
    *((name, task, kind) for name in ("bert", "roberta") for task in TASKS for kind in KINDS),
    *((name, task, kind) for name in ("distilbert", "modernbert") for task in TASKS for kind in ("prompt", "p-tuning")),
    *((name, SEQUENCE, "prompt") for name in ("electra", "albert", "deberta", "deberta-v2", "mpnet")),
    *((name, "AutoModelForCausalLM", kind) for name in architectures.DECODERS for kind in KINDS),
    *((name, "AutoModelForSeq2SeqLM", kind) for name in ("t5", "bart") for kind in KINDS),
    ("marian", "AutoModelForSeq2SeqLM", "prefix"),
    ("bert", "AutoModelForMaskedLM", "prompt"),
]


@pytest.mark.parametrize(("name", "auto_class", "kind"), CELLS)
def test_it_learns_comes_back_and_bears_padding(name: str, auto_class: str, kind: str, tmp_path: Path) -> None:
    method, batch = make("soft-prompt", kind=kind, num_virtual_tokens=5), architectures.rows(name)
    model = tuned(method, name, auto_class)
    again = loaded(method, saved(method, model, tmp_path / "model"), name, auto_class)
    with torch.no_grad():
        states = given(model, batch)
        assert torch.allclose(given(again, batch), states, atol=2e-6)
        one = {key: value[1:2] for key, value in batch.items()}
        length = int(one["attention_mask"].sum())
        one |= {key: one[key][:, :length] for key in ("input_ids", "attention_mask")}
        alone, together = given(again, one), states[1:2]
        if alone.ndim == 3:
            together = together[:, : alone.shape[1]]
        assert torch.allclose(alone, together, atol=1e-5), "a padded row answers as it does alone"
        plain = given(architectures.stock(name, auto_class), batch)
        assert float((plain - states).abs().max()) > 0.01
    for parameter_name, parameter in model.named_parameters():
        trains = "prompt_encoder" in parameter_name or "modules_to_save" in parameter_name
        assert parameter.requires_grad == trains, parameter_name
        assert parameter.grad is None or trains, parameter_name


def test_all_kinds_and_families_are_among_them() -> None:
    assert len(CELLS) == 24 + 16 + 5 + 12 + 6 + 1 + 1
    assert {name for name, _, _ in CELLS} == set(architectures.CONFIGS)


@pytest.mark.parametrize("name", ["distilbert", "albert", "deberta-v2", "mpnet", "modernbert"])
def test_a_prefix_is_refused_by_classes_that_take_no_keys_and_values(name: str) -> None:
    with pytest.raises(ModelError, match="takes no keys and values") as caught:
        make("soft-prompt", kind="prefix").apply(architectures.stock(name, SEQUENCE), architectures.head(SEQUENCE))
    assert "method.kind: prompt" in caught.value.fix


@pytest.mark.parametrize("kind", ["prompt", "p-tuning"])
def test_a_class_that_scales_its_word_embeddings_is_not_silently_given_unscaled_ones(kind: str) -> None:
    seq2seq = "AutoModelForSeq2SeqLM"
    with pytest.raises(ModelError, match="does something to word embeddings") as caught:
        make("soft-prompt", kind=kind).apply(architectures.stock("marian", seq2seq), architectures.head(seq2seq))
    assert "method.kind: prefix" in caught.value.fix


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bart"])
def test_writing_is_the_same_in_any_company_and_as_the_forward_pass_says(name: str, kind: str) -> None:
    method = make("soft-prompt", kind=kind, num_virtual_tokens=5)
    auto_class = architectures.language(name)
    model = tuned(method, name, auto_class)
    rows = [[7, 8, 9, 10, 11, 12, 13], [20, 21, 22], [30, 31, 32, 33, 34]]
    together = write(model, name, rows)
    beams = write(model, name, rows, num_beams=3)
    for i, row in enumerate(rows):
        assert write(model, name, [row])[0] == together[i]
        assert write(model, name, [row], num_beams=3)[0] == beams[i]
    with torch.no_grad():
        row, said = rows[1], together[1]
        if name in architectures.ENCODER_DECODERS:
            out = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([said[:-1]]))
            assert out.logits[0].argmax(-1).tolist() == said[1:]
        else:
            out = model(input_ids=torch.tensor([row + said[:-1]]))
            assert out.logits[0, -len(said) :].argmax(-1).tolist() == said


def write(model, name: str, rows: list[list[int]], **settings) -> list[list[int]]:
    """Ten tokens after each row (decoders, padded on the left) or for it."""
    longest, pad = max(map(len, rows)), architectures.pad(name)
    left = name not in architectures.ENCODER_DECODERS
    fill = [[pad] * (longest - len(row)) for row in rows]
    ids = torch.tensor([[*gap, *row] if left else [*row, *gap] for row, gap in zip(rows, fill)])
    mask = torch.tensor(
        [[0] * len(g) + [1] * len(r) if left else [1] * len(r) + [0] * len(g) for r, g in zip(rows, fill)]
    )
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=10,
            min_new_tokens=10,
            do_sample=False,
            pad_token_id=pad,
            eos_token_id=None,
            **settings,
        )
    return out[:, longest:].tolist() if left else out.tolist()


def test_the_saved_prompt_is_small_and_without_the_network_that_made_it(tmp_path: Path) -> None:
    for kind, tensors in (("prompt", 1), ("prefix", 1), ("p-tuning", 1)):
        method = make("soft-prompt", kind=kind, num_virtual_tokens=5)
        model = tuned(method, "llama", "AutoModelForCausalLM")
        held = load_file(saved(method, model, tmp_path / kind) / "adapter_model.safetensors")
        assert set(held) == {"prompt_embeddings"}
        assert len(held) == tensors
        assert len(held["prompt_embeddings"]) == 5
        assert bytes_of(tmp_path / kind) < 4000


def test_a_network_may_make_a_prefix_and_only_what_it_made_is_kept(tmp_path: Path) -> None:
    method = make("soft-prompt", kind="prefix", num_virtual_tokens=3, encoder_hidden_size=7)
    model = tuned(method, "bert", "AutoModelForQuestionAnswering")
    assert model.prompt_encoder["default"].transform[0].out_features == 7
    folder = saved(method, model, tmp_path / "model")
    again = loaded(method, folder, "bert", "AutoModelForQuestionAnswering")
    batch = architectures.rows("bert")
    with torch.no_grad():
        assert torch.allclose(given(again, batch), given(model, batch), atol=2e-6)


def test_a_prompt_begins_as_words_and_a_prefix_as_their_keys_and_values() -> None:
    model = architectures.stock("bert", SEQUENCE)
    words = model.bert.embeddings.word_embeddings.weight
    prompt = make("soft-prompt", kind="prompt", num_virtual_tokens=6).apply(model, architectures.head(SEQUENCE))
    begun = prompt.prompt_encoder["default"].embedding.weight
    assert all(any(torch.equal(token, word) for word in words) for token in begun)
    # A prefix of words is what the same words in front of the text are to the tokens after them.
    from luthier.engine.soft import prefix_of_words, shape_of

    decoder = architectures.stock("llama", "AutoModelForCausalLM")
    front, text = torch.tensor([7, 8, 9]), torch.tensor([[20, 21, 22, 23]])
    with torch.no_grad():
        expected = decoder(input_ids=torch.cat([front[None], text], 1)).logits[:, 3:]
        tuned_model = make("soft-prompt", kind="prefix", num_virtual_tokens=3).apply(
            decoder, architectures.head("AutoModelForCausalLM")
        )
        tuned_model.prompt_encoder["default"].load_prompt_embeddings(prefix_of_words(decoder, front))
        assert torch.allclose(tuned_model(input_ids=text).logits, expected, atol=1e-5)
    assert shape_of(architectures.config("t5"))["token_dim"] == 4 * 12
    assert shape_of(architectures.config("bart"))["num_layers"] == 3
    assert shape_of(architectures.config("llama")) == {
        "num_layers": 2,
        "num_attention_heads": 2,
        "token_dim": 16,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_documents_packed_into_one_row_are_known_to_see_each_other(kind: str) -> None:
    """The second document would stand without the prompt, or behind the first: packing is left to other methods."""
    from luthier.engine.language.model import keeps_documents_apart

    causal = "AutoModelForCausalLM"
    plain = make("full").apply(architectures.stock("llama", causal), architectures.head(causal))
    prompted = make("soft-prompt", kind=kind, num_virtual_tokens=5).apply(
        architectures.stock("llama", causal), architectures.head(causal)
    )
    assert keeps_documents_apart(plain)
    assert not keeps_documents_apart(prompted)


def test_virtual_tokens_count_towards_what_the_model_reads() -> None:
    assert make("soft-prompt", num_virtual_tokens=9).offset == 9
    assert make("lora").offset == 0


AUTO = {
    "bert": "PREFIX_TUNING",
    "distilbert": "PROMPT_TUNING",
    "t5": "PROMPT_TUNING",
    "marian": "PREFIX_TUNING",
}


@pytest.mark.parametrize("name", AUTO)
def test_auto_is_a_prefix_before_a_stack_a_prompt_before_two_or_what_the_class_takes(name: str, tmp_path: Path) -> None:
    method, batch = make("soft-prompt", num_virtual_tokens=5), architectures.rows(name)
    auto_class = SEQUENCE if name in architectures.ENCODERS else architectures.language(name)
    model = tuned(method, name, auto_class)
    assert model.peft_config["default"].peft_type == AUTO[name]
    again = loaded(method, saved(method, model, tmp_path / "model"), name, auto_class)
    with torch.no_grad():
        assert torch.allclose(given(again, batch), given(model, batch), atol=2e-6)


@pytest.mark.parametrize("kind", ["prompt", "auto"])
def test_a_prompt_has_no_network(kind: str) -> None:
    with pytest.raises(ValueError, match=f"kind {kind} has no network"):
        make("soft-prompt", kind=kind, encoder_hidden_size=8)


def test_a_prefix_with_gradient_checkpointing_is_refused() -> None:
    model = architectures.stock("bert", SEQUENCE).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(ModelError, match="gradient checkpointing"):
        make("soft-prompt", kind="prefix").apply(model, architectures.head(SEQUENCE))


def test_a_weight_renamed_missing_or_extra_is_refused_by_name(tmp_path: Path) -> None:
    method = make("soft-prompt", num_virtual_tokens=4)
    folder = saved(method, tuned(method, "bert", SEQUENCE), tmp_path / "model")
    right = load_file(folder / "adapter_model.safetensors")
    assert sorted(right) == [
        "base_model.bert.pooler.dense.bias",
        "base_model.bert.pooler.dense.weight",
        "base_model.classifier.bias",
        "base_model.classifier.weight",
        "prompt_embeddings",
    ]
    for name in right:
        for changed in (
            {(f"{n}x" if n == name else n): t for n, t in right.items()},
            {n: t for n, t in right.items() if n != name},
            {**right, "nobody.asked": torch.zeros(2)},
        ):
            save_file(changed, folder / "adapter_model.safetensors")
            with pytest.raises(ModelError) as caught:
                loaded(method, folder, "bert", SEQUENCE)
            assert (name if "nobody.asked" not in changed else "nobody.asked") in str(caught.value)
