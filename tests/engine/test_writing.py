"""What is written does not hang on the batches, on what prompts share, or on how the model was wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from luthier.engine.device import Machine
from luthier.engine.language.frozen_weights import keep_frozen_in_bf16
from luthier.engine.writing import choice, circles, generation, prompts
from luthier.engine.writing.answer_ends import answer_begin, find_stop_ids
from luthier.engine.writing.constrain import Passage
from luthier.engine.writing.generation import Written, choose, write
from luthier.models.quiet import quiet_transformers

FP32 = Machine("cpu", "float32", "test", 1)
BF16 = Machine("cpu", "bfloat16", "test", 1)
EVERY = ("llama", "gpt2", "t5", "bart")
WRAPS = ("plain", "lora", "prompt", "prefix", "p-tuning")


@cache
def parts(name: str) -> tuple[Any, Any]:
    """(config class and settings, tokenizer)"""
    config, tokenizer, auto_class = tiny._model_parts(name, {})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return (config, auto_class), tokenizer


def make(name: str, wrap: str = "plain") -> Any:
    import peft

    (config, auto_class), _ = parts(name)
    torch.manual_seed(0)
    with quiet_transformers():
        model = auto_class.from_config(config)
        kind = "SEQ_2_SEQ_LM" if config.is_encoder_decoder else "CAUSAL_LM"
        if wrap == "plain":
            return model.eval()
        if wrap == "lora":
            found = peft.LoraConfig(task_type=kind, r=4, target_modules="all-linear", init_lora_weights=False)
        elif wrap == "prefix":
            found = peft.PrefixTuningConfig(task_type=kind, num_virtual_tokens=3)
        elif wrap == "p-tuning":
            found = peft.PromptEncoderConfig(task_type=kind, num_virtual_tokens=3, encoder_hidden_size=8)
        else:
            found = peft.PromptTuningConfig(task_type=kind, num_virtual_tokens=3)
        return peft.get_peft_model(model, found).eval()


def ids_of(name: str, count: int = 12, seed: int = 0) -> list[np.ndarray]:
    """Prompts of unlike lengths; those of decoders begin with the same twenty tokens."""
    _, tokenizer = parts(name)
    draw = np.random.default_rng(seed)
    same = "the old house is big and lives in berlin . who keeps the cat ? " * 2 if name in tiny.DECODERS else ""
    out = []
    for _ in range(count):
        words = " ".join(draw.choice(tiny.WORDS, size=int(draw.integers(1, 14))))
        out.append(np.array(tokenizer(f"{same}{words} ?")["input_ids"], dtype=np.int32))
    return out


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Batches of just so many rows, in the prompts' order."""
    chosen = {"rows": 8}

    def fixed(lengths: np.ndarray, *_: Any) -> Iterator[np.ndarray]:
        for start in range(0, len(lengths), chosen["rows"]):
            yield np.arange(start, min(len(lengths), start + chosen["rows"]))

    monkeypatch.setattr(generation, "batches", fixed)
    monkeypatch.setattr(choice, "batches", fixed)
    yield chosen


@pytest.fixture(autouse=True)
def short_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of a few tokens are written in several stages, as long ones are."""
    monkeypatch.setattr(generation, "STAGE", 3)


def say(model: Any, name: str, some: list[np.ndarray], machine: Machine = FP32, **settings: Any) -> list[Written]:
    settings = {"max_new_tokens": 10, "token_budget": 4096, **settings}
    return write(model, parts(name)[1], some, machine=machine, **settings)


@torch.no_grad()
def naive(model: Any, name: str, prompt: np.ndarray, count: int, stops: set[int]) -> tuple[list[int], float]:
    """One token at a time, the whole text read again each time: (ids, log-probability), the end included."""
    tokenizer = parts(name)[1]
    ids = torch.tensor(prompt.astype(np.int64))[None]
    two = name in tiny.ENCODER_DECODERS
    base = prompts.base_of(model)
    begin = answer_begin(base, tokenizer) if two else []
    out, total = [], 0.0
    for _ in range(count):
        if two:
            inputs = {"input_ids": ids, "decoder_input_ids": torch.tensor([[*begin, *out]])}
        else:
            inputs = {"input_ids": torch.cat([ids, torch.tensor([out], dtype=torch.long)], 1)}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        logs = model(**inputs).logits[0, -1].double().log_softmax(-1)
        out.append(int(logs.argmax()))
        total += float(logs.max())
        if out[-1] in stops:
            break
    return out, total


@pytest.mark.parametrize("name", EVERY)
def test_a_hundred_prompts_give_the_same_in_batches_of_1_2_3_and_8(name: str, sizes: dict[str, int]) -> None:
    model, some = make(name), ids_of(name, 100 if name == "llama" else 20)
    said = {}
    for rows in (1, 2, 3, 8):
        sizes["rows"] = rows
        said[rows] = say(model, name, some, max_new_tokens=5)
    assert len(said[1]) == len(some)
    assert len({one.text for one in said[1]}) > 4
    for rows in (2, 3, 8):
        for alone, together in zip(said[1], said[rows]):
            assert (alone.text, alone.ids, alone.ended) == (together.text, together.ids, together.ended)
            assert abs(alone.log_probability - together.log_probability) <= 1e-4


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", EVERY)
def test_it_writes_what_the_likeliest_token_each_time_gives(name: str, wrap: str) -> None:
    with quiet_transformers():
        model, some = make(name, wrap), ids_of(name, 6, seed=1)
        stops = set(find_stop_ids(model, parts(name)[1]))
        written = say(model, name, some, max_new_tokens=7)
        for prompt, one in zip(some, written):
            ids, total = naive(model, name, prompt, 7, stops)
            assert one.ended == (ids[-1] in stops)
            assert list(one.ids) == (ids[:-1] if one.ended else ids), (name, wrap)
            assert one.log_probability == pytest.approx(total, abs=1e-4)
            text = parts(name)[1].decode(list(one.ids), skip_special_tokens=True)
            assert one.text == (text if one.ended else text.rstrip("\ufffd"))


@pytest.mark.parametrize("wrap", ("plain", "prompt", "prefix"))
def test_prompts_that_share_nothing_are_read_whole(wrap: str) -> None:
    with quiet_transformers():
        model = make("llama", wrap)
        some = [prompt[-(i + 2) :] for i, prompt in enumerate(ids_of("llama", 5, seed=3))]
        assert prompts._shared(some) == 0
        for prompt, one in zip(some, say(model, "llama", some)):
            ids, _ = naive(model, "llama", prompt, 10, set(find_stop_ids(model, parts("llama")[1])))
            assert list(one.ids) == (ids[:-1] if one.ended else ids)


def test_what_prompts_share_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, some = make("llama"), ids_of("llama", 30)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args, given: seen.append(given["input_ids"].numel()), with_kwargs=True)
    together = say(model, "llama", some, max_new_tokens=1)
    shared, seen[:] = sum(seen), []
    monkeypatch.setattr(prompts, "SHARED", 10**9)
    apart = say(model, "llama", some, max_new_tokens=1)
    assert [one.ids for one in together] == [one.ids for one in apart]
    assert np.allclose([o.log_probability for o in together], [o.log_probability for o in apart], atol=1e-4)
    assert shared < 0.6 * sum(seen)


def test_an_answer_that_is_cut_inside_a_character_ends_before_it() -> None:
    tokenizer = parts("llama")[1]
    ids = np.array(tokenizer("🌟🌟", add_special_tokens=False)["input_ids"])
    assert len(ids) == 8  # a byte a token
    for count, text in ((8, "🌟🌟"), (6, "🌟"), (5, "🌟"), (3, "")):
        made = generation._Made(ids[None, :count], None)
        watch = generation._Watch([None], 1, 1, [ids[:1]], 1.0, 0)
        watch.values, watch.tokens = [np.zeros((1, 1))] * count, [np.array([[token]]) for token in ids[:count]]
        (one,) = generation._read_off(made, watch, tokenizer, set())
        assert one.text == text and not one.ended


def test_writing_stops_at_every_id_that_ends() -> None:
    model, some = make("llama"), ids_of("llama", 40)
    free = say(model, "llama", some, max_new_tokens=8, stop_ids=[])
    assert not any(one.ended for one in free)
    assert {len(one.ids) for one in free} == {8}
    stops = [free[0].ids[3], free[1].ids[2]]
    bound = say(model, "llama", some, max_new_tokens=8, stop_ids=stops)
    for before, after in zip(free, bound):
        places = [i for i, token in enumerate(before.ids) if token in stops]
        assert after.ended == bool(places)
        assert after.ids == before.ids[: places[0] if places else 8]
    assert sum(one.ended for one in bound) >= 2


def test_every_end_that_the_model_knows_is_found() -> None:
    model, tokenizer = make("llama"), parts("llama")[1]
    model.generation_config.eos_token_id = [7, tokenizer.eos_token_id]
    found = find_stop_ids(model, tokenizer)
    assert found[0] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert 7 in found
    assert find_stop_ids(make("t5"), parts("t5")[1]) == [1]


@pytest.mark.parametrize("name", EVERY)
def test_the_models_own_habits_are_left_out_and_left_alone(name: str) -> None:
    model, some = make(name), ids_of(name, 4)
    before = say(model, name, some)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.do_sample = True
    model.generation_config.min_new_tokens = 9
    kept = model.generation_config
    assert say(model, name, some) == before
    assert model.generation_config is kept


@pytest.mark.parametrize("name", EVERY)
def test_beams_find_what_is_at_least_as_likely(name: str, sizes: dict[str, int]) -> None:
    model, some = make(name), ids_of(name, 6)
    tokenizer, stops = parts(name)[1], find_stop_ids(make(name), parts(name)[1])
    greedy = say(model, name, some, max_new_tokens=5, stop_ids=[])
    wide = say(model, name, some, max_new_tokens=5, stop_ids=[], num_beams=4)
    assert all(b.log_probability >= a.log_probability - 1e-4 for a, b in zip(greedy, wide))
    assert any(b.ids != a.ids for a, b in zip(greedy, wide))
    ended = say(model, name, some, max_new_tokens=5, num_beams=3)
    sizes["rows"] = 1
    assert [one.ids for one in say(model, name, some, max_new_tokens=5, num_beams=3)] == [o.ids for o in ended]
    if name in tiny.DECODERS:
        for prompt, one in zip(some, wide):
            ids = torch.tensor([[*prompt.tolist(), *one.ids]])
            with torch.no_grad():
                logs = model(input_ids=ids).logits[0].double().log_softmax(-1)
            steps = [logs[len(prompt) - 1 + i, token] for i, token in enumerate(one.ids)]
            assert one.log_probability == pytest.approx(float(sum(steps)), abs=1e-4)
    assert stops and tokenizer


@pytest.mark.parametrize("beams", (1, 3))
@pytest.mark.parametrize("name", EVERY)
def test_what_is_bound_is_kept_to(name: str, beams: int) -> None:
    model, some = make(name), ids_of(name, 9)
    passage = "anna lives in berlin . the old house is big"
    bounds = [["the house", "big", "a cat"], Passage(passage, ("no answer",)), None] * 3
    written = say(model, name, some, allowed=bounds, num_beams=beams, max_new_tokens=12)
    free = say(model, name, some, num_beams=beams, max_new_tokens=12)
    for bound, one, plain in zip(bounds, written, free):
        if bound is None:
            assert one.ids == plain.ids
        elif isinstance(bound, Passage):
            assert one.text
            assert one.text in passage or one.text == "no answer"
        else:
            assert one.ended
            assert one.text in bound
            assert one.log_probability <= 1e-6
    assert {one.text for one in written} != {one.text for one in free}


def test_a_bound_answer_is_the_likeliest_of_what_is_allowed() -> None:
    """With texts of one token each, greedy writing and weighing must agree."""
    model, tokenizer, some = make("llama"), parts("llama")[1], ids_of("llama", 20)
    texts = [" big", " house", " cat", " berlin", " anna"]
    shares = choose(model, tokenizer, some, texts, machine=FP32, token_budget=4096, stop_ids=[])
    ids = [tokenizer(text)["input_ids"] for text in texts]
    assert {len(one) for one in ids} == {1}
    written = say(model, "llama", some, allowed=[[text.strip() for text in texts]] * 20, max_new_tokens=1)
    firsts = [one.ids[0] for one in written]
    allowed = {token for one in ids for token in one}
    agree = [f == ids[int(s.argmax())][0] for f, s in zip(firsts, shares) if f in allowed]
    assert agree
    assert all(agree)


def weighed(model: Any, name: str, some: list[np.ndarray], texts: list[str], **settings: Any) -> np.ndarray:
    settings = {"machine": FP32, "token_budget": 4096, **settings}
    return choose(model, parts(name)[1], some, texts, **settings)


@torch.no_grad()
def naive_shares(model: Any, name: str, prompt: np.ndarray, texts: list[str]) -> np.ndarray:
    tokenizer, two = parts(name)[1], name in tiny.ENCODER_DECODERS
    logs = []
    for text in texts:
        if two:
            answer = tokenizer(text_target=text)["input_ids"]
            begin = answer_begin(prompts.base_of(model), tokenizer)[:1]
            inputs = {
                "input_ids": torch.tensor([prompt.tolist()]),
                "decoder_input_ids": torch.tensor([[*begin, *answer[:-1]]]),
            }
        else:
            stops = find_stop_ids(model, tokenizer)
            answer = [*tokenizer(text, add_special_tokens=False)["input_ids"], stops[0]]
            inputs = {"input_ids": torch.tensor([[*prompt.tolist(), *answer]])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        out = model(**inputs).logits[0].double().log_softmax(-1)
        out = out[-len(answer) :] if two else out[-len(answer) - 1 : -1]
        logs.append(float(sum(out[i, token] for i, token in enumerate(answer))))
    shares = np.exp(np.array(logs) - max(logs))
    return shares / shares.sum()


TEXTS = ["big", "the house in berlin", "a cat", "anna keeps it", "x"]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", EVERY)
def test_weighing_is_that_of_the_whole_text_behind_the_whole_prompt(name: str, wrap: str) -> None:
    with quiet_transformers():
        model, some = make(name, wrap), ids_of(name, 7)
        shares = weighed(model, name, some, TEXTS)
        assert shares.shape == (7, 5)
        assert np.allclose(shares.sum(1), 1)
        for prompt, row in zip(some, shares):
            assert row == pytest.approx(naive_shares(model, name, prompt, TEXTS), abs=1e-5)


def test_weighing_is_the_same_whatever_is_kept_and_whatever_the_batches(
    sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EVERY:
        model, some = make(name), ids_of(name, 9)
        shares = weighed(model, name, some, TEXTS)
        for rows, budget in ((1, 4096), (3, 30), (9, 200)):
            sizes["rows"] = rows
            assert np.abs(weighed(model, name, some, TEXTS, token_budget=budget) - shares).max() < 1e-5
        if name in tiny.DECODERS:
            with monkeypatch.context() as patch:  # as for a model that does not keep all keys and values
                patch.setattr(choice, "keeps_all", lambda *_: False)
                assert np.abs(weighed(model, name, some, TEXTS) - shares).max() < 1e-5


@pytest.mark.parametrize("name", EVERY)
def test_in_bf16_it_still_writes_and_weighs(name: str) -> None:
    model, some = make(name), ids_of(name, 6)
    bound = [Passage("anna lives in berlin .")] * 6
    for one in say(model, name, some, BF16, allowed=bound):
        assert one.text in "anna lives in berlin ."
        assert np.isfinite(one.log_probability)
    near = weighed(model, name, some, TEXTS, machine=BF16)
    assert np.abs(near - weighed(model, name, some, TEXTS)).max() < 0.1


@pytest.mark.parametrize("name", EVERY)
def test_frozen_weights_that_are_held_in_bf16_write_the_same(name: str) -> None:
    model, some = make(name).requires_grad_(False), ids_of(name, 6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    whole, shares = say(model, name, some, BF16), weighed(model, name, some, TEXTS, machine=BF16)
    assert keep_frozen_in_bf16(model) > 0
    assert say(model, name, some, BF16) == whole
    assert np.abs(weighed(model, name, some, TEXTS, machine=BF16) - shares).max() < 1e-5


@pytest.mark.parametrize("name", ("llama", "gpt2", "t5"))
def test_a_penalty_for_repetition_is_that_of_transformers_for_each_prompt_alone(
    name: str, sizes: dict[str, int]
) -> None:
    """Whatever stands beside a row, and whatever its padding: the pad of some tokenizers is the token that ends."""
    model, some = make(name), ids_of(name, 8)
    settings = {
        "max_new_tokens": 12,
        "do_sample": False,
        "repetition_penalty": 1.8,
        "eos_token_id": 3,
        "pad_token_id": 3,
    }
    for rows in (1, 3, 8):
        sizes["rows"] = rows
        said = say(model, name, some, max_new_tokens=12, repetition_penalty=1.8, stop_ids=[3])
        for prompt, one in zip(some, said):
            ids = torch.tensor(prompt.astype(np.int64))[None]
            with torch.no_grad():
                made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)[0].tolist()
            new = made[1:] if name == "t5" else made[ids.shape[1] :]
            assert list(one.ids) == [token for token in new if token != 3]
    plain = say(model, name, some, max_new_tokens=12, stop_ids=[3])
    assert [one.ids for one in plain] != [one.ids for one in said], "or this proves nothing"


@pytest.mark.parametrize("size", (1, 2, 3))
@pytest.mark.parametrize("name", ("llama", "gpt2", "t5"))
def test_no_run_is_written_twice_as_transformers_has_it_for_each_prompt_alone(
    name: str, size: int, sizes: dict[str, int]
) -> None:
    model, some = make(name), ids_of(name, 8)
    settings = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": 3, "pad_token_id": 3}
    plain = say(model, name, some, max_new_tokens=24, stop_ids=[3])
    for rows in (1, 3, 8):
        sizes["rows"] = rows
        said = say(model, name, some, max_new_tokens=24, no_repeat_ngram_size=size, stop_ids=[3])
        assert [one.ids for one in said] != [one.ids for one in plain], "or this proves nothing"
        for prompt, one in zip(some, said):
            ids = torch.tensor(prompt.astype(np.int64))[None]
            with torch.no_grad():
                made = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), no_repeat_ngram_size=size, **settings
                )[0].tolist()
            new = made[1:] if name == "t5" else made[ids.shape[1] :]
            assert list(one.ids) == [token for token in new if token != 3]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_answers_that_have_ended_are_put_aside_and_the_others_go_on(
    name: str, wrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, some = make(name, wrap), ids_of(name, 12)
    bound = [Passage("anna lives in berlin . the old house is big") if i % 3 == 0 else None for i in range(12)]
    rows: list[int] = []
    generate = generation._generate

    def watched(model: Any, watch: Any, **inputs: Any) -> Any:
        rows.append(len(inputs["input_ids"]))
        return generate(model, watch, **inputs)

    monkeypatch.setattr(generation, "_generate", watched)
    free = say(model, name, some, max_new_tokens=20, stop_ids=[3])
    stops = [3, *(one.ids[i] for i, one in enumerate(free[:6]) if len(one.ids) > i)]  # some end early, some late
    settings: dict[str, Any]
    for settings in ({}, {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 2}, {"allowed": bound}):
        found = []
        for stage in (1, 4, 1000):
            monkeypatch.setattr(generation, "STAGE", stage)
            rows.clear()
            found.append(say(model, name, some, max_new_tokens=20, stop_ids=stops, **settings))
            assert rows == sorted(rows, reverse=True) and rows[0] == 12
            assert stage > 1 or rows[-1] < 12, "or nothing was put aside"
        for one, two, whole in zip(*found):
            assert one.ids == two.ids == whole.ids
            assert (one.ended, one.text) == (two.ended, two.text) == (whole.ended, whole.text)
            assert one.log_probability == pytest.approx(whole.log_probability, abs=1e-4)


def test_what_goes_round_in_circles_is_written_again_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut off without a circle stays, and so does what never ends; every answer is the one of its own size."""
    model, tokenizer, some = make("llama"), parts("llama")[1], ids_of("llama", 40)
    monkeypatch.setattr(circles, "CIRCLE", 4)
    monkeypatch.setattr(circles, "STRICTER", (6, 3, 2))
    settings: dict[str, Any] = {"max_new_tokens": 24, "machine": FP32, "token_budget": 4096}
    free = write(model, tokenizer, some, stop_ids=[], **settings)
    stops = [one.ids[-1] for one in free[:3]] + [one.ids[5] for one in free[3:6]]
    free = write(model, tokenizer, some, stop_ids=stops, **settings)
    strict = {
        size: write(model, tokenizer, some, stop_ids=stops, no_repeat_ngram_size=size, **settings) for size in (6, 3, 2)
    }
    found = circles.write_without_circles(model, tokenizer, some, stop_ids=stops, **settings)
    ends = []
    for i, one in enumerate(found):
        ids = free[i].ids
        again = not free[i].ended and len({ids[k : k + 4] for k in range(21)}) < 21
        size = next((size for size in (6, 3, 2) if strict[size][i].ended), 0) if again else 0
        expected = strict[size][i] if size else free[i]
        assert (one.ids, one.ended, one.text) == (expected.ids, expected.ended, expected.text)
        assert one.without_repeats_of == size
        ends.append((free[i].ended, again, size))
    assert {end[0] for end in ends} == {True, False}
    assert len({end[2] for end in ends if end[1]}) > 1, "or this proves nothing"


def test_nothing_to_write_is_nothing_written() -> None:
    model = make("llama")
    assert say(model, "llama", []) == []
    assert weighed(model, "llama", [], TEXTS).shape == (0, 5)


def test_progress_counts_every_prompt() -> None:
    told: list[tuple[int, int]] = []
    say(make("llama"), "llama", ids_of("llama", 9), token_budget=40, progress=lambda *n: told.append(n))
    assert told[-1] == (9, 9)
    assert len(told) > 2
