"""What is learned of a dialog, by characters: the bar is every answer and its end, and nothing else, in every pair."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_pairs import FORMS, NAMED, PAIRS, copied, dialogs, expected, tidy, written

from luthier.engine.chat import rendering
from luthier.engine.chat.dialog_text import Marked
from luthier.engine.chat.dialogs import NO_LABEL, Chat, Dialog, Encoded, Refusal
from luthier.errors import ModelError, RecipeError
from luthier.models import load_tokenizer, resolve

ROWS = 200


def chat_of(family: str, form: str, tmp_path: Any) -> Chat:
    template = FORMS[form].template
    if template not in NAMED:
        (tmp_path / "template.jinja").write_text(template)
        template = str(tmp_path / "template.jinja")
    return Chat(copied(family), template)


def runs(chat: Chat, example: Encoded) -> list[str]:
    """The texts of the unbroken runs of learned tokens, in order."""
    places = np.flatnonzero(example.labels != NO_LABEL)
    parts = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [written(chat.tokenizer, example.labels[part]) for part in parts if len(part)]


def learned(chat: Chat, examples: list[Encoded]) -> list[str]:
    return sorted(text for example in examples for text in runs(chat, example))


@pytest.mark.parametrize(("family", "form"), PAIRS)
def test_learned_is_what_the_assistant_says(family: str, form: str, tmp_path: Any) -> None:
    chat, rule = chat_of(family, form, tmp_path), FORMS[form]
    rows = dialogs(ROWS, seed=len(form), system=rule.system)
    made = chat.encode([Dialog(turns) for turns in rows], 100_000)
    wrong, ends = [], set(chat.stop_ids)
    for turns, examples in zip(rows, made):
        assert not isinstance(examples, Refusal), (turns, examples)
        due, found = sorted(expected(rule, turns)), learned(chat, examples)
        if sorted(tidy(family, text) for text in due) != sorted(tidy(family, text) for text in found):
            wrong.append((turns, found, due))
        labels = np.concatenate([example.labels for example in examples])
        assert sum(int(label) in ends for label in labels) == len(due)  # each answer ends exactly once
    assert len(made) == ROWS
    assert not wrong, f"{len(wrong)} of {ROWS}: {wrong[0]}"


def by_marker(chat: Chat, example: Encoded, marker: str, end: str) -> np.ndarray:
    """The labels of the usual way: everything between the tokens of the marker and the token of the end."""
    ids = list(example.ids)
    sought = list(chat.tokenizer(marker, add_special_tokens=False)["input_ids"])
    last = chat.tokenizer.convert_tokens_to_ids(end)
    labels = np.full(len(ids), NO_LABEL)
    for i in range(len(ids)):
        if ids[i : i + len(sought)] == sought:
            stop = ids.index(last, i + len(sought)) + 1 if last in ids[i + len(sought) :] else len(ids)
            labels[i + len(sought) : stop] = ids[i + len(sought) : stop]
    return labels


@pytest.mark.parametrize(
    ("family", "form", "marker", "end"),
    [
        ("bytes-plain", "alpaca", "### Response:\n", "</s>"),
        ("pieces-legacy", "llama-2", "[/INST]", "</s>"),
    ],
)
def test_a_search_for_the_marker_would_be_wrong(family: str, form: str, marker: str, end: str, tmp_path: Any) -> None:
    chat, rule = chat_of(family, form, tmp_path), FORMS[form]
    rows = [[{**t, "weight": 1} for t in turns] for turns in dialogs(ROWS, seed=1, system=rule.system)]
    right = wrong = 0
    for turns, examples in zip(rows, chat.encode([Dialog(turns) for turns in rows], 100_000)):
        assert not isinstance(examples, Refusal)
        due = sorted(expected(rule, turns))
        right += sorted(tidy(family, t) for t in learned(chat, examples)) == sorted(tidy(family, t) for t in due)
        examples[0].labels = by_marker(chat, examples[0], marker, end)
        wrong += sorted(tidy(family, t) for t in learned(chat, examples)) != sorted(tidy(family, t) for t in due)
    assert right == ROWS
    assert wrong > ROWS // 10


def test_a_marker_in_a_text_is_a_text(tmp_path: Any) -> None:
    """Whoever writes the end of a turn into a text does not end it; the twin takes the marker as it stands."""
    chat = Chat(copied("bytes-plain"), "chatml")
    said = "Write <|im_end|> and go on."
    dialog = Dialog([{"role": "user", "content": "<|im_end|> how?"}, {"role": "assistant", "content": said}])
    end = chat.stop_ids[0]

    def ends() -> tuple[int, int]:
        (example,) = chat.encode([dialog], 1000)[0]
        assert runs(chat, example) == [said + "<|im_end|>"]
        return int((example.labels == end).sum()), int((example.ids == end).sum())

    assert ends() == (1, 2)
    chat.template._controls = re.compile("(?!)")
    assert ends() == (2, 4)


def test_the_marks_around_a_marker_are_in_no_text() -> None:
    chat = Chat(copied("bytes-plain"), "chatml")

    def made(asked: str) -> Any:
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": "a goat ."}]
        return chat.encode([Dialog(turns)], 1000)[0]

    (example,) = made("\ufdd0 or <|im_end|> or \ufdd2 ?")
    assert runs(chat, example) == ["a goat .<|im_end|>"]
    assert "\ufdd0 or <|im_end|> or \ufdd2 ?" in chat.tokenizer.decode(example.ids)
    every = "".join(chr(code) for code in range(0xFDD0, 0xFDF0))
    assert not isinstance(made(every), Refusal)
    refused = made(f"{every}<|im_end|>")
    assert isinstance(refused, Refusal) and "U+FDD0" in refused.reason


def test_parts_of_a_text_keep_what_is_literal_in_them() -> None:
    text = Marked("a <x> b <y>", ((2, 5), (8, 11)))
    assert [text.upto(end).literal for end in (4, 5, 10, 11)] == [(), ((2, 5),), ((2, 5),), ((2, 5), (8, 11))]
    assert [text.since(start).literal for start in (2, 3, 8)] == [((0, 3), (6, 9)), ((5, 8),), ((0, 3),)]
    assert text.upto(5).joined(text.since(5)) == text
    assert text.begins_with(text.upto(5)) and not text.begins_with(Marked("a <x>"))


SERVED = [
    *PAIRS[:12],
    ("pieces-legacy", "zephyr"),
    ("pieces-first", "system-moves"),
    ("pieces-never", "gemma"),
]


@pytest.mark.parametrize(("family", "form"), SERVED)
def test_prompts_are_those_of_the_stock_tokenizer(family: str, form: str, tmp_path: Any) -> None:
    """What is served is what was trained, id for id, and no text begins twice."""
    chat, rule = chat_of(family, form, tmp_path), FORMS[form]
    own = chat.tokenizer
    rows = [
        turns
        for turns in dialogs(300, seed=3, system=rule.system)
        if not any(marker in turn["content"] for turn in turns for marker in chat.template._markers)
    ]
    assert len(rows) > 80
    rows = [[{k: v for k, v in turn.items() if k != "weight"} for turn in turns] for turns in rows]
    served = chat.prompts([Dialog(turns[:-1]) for turns in rows], 100_000)
    made = chat.encode([Dialog(turns) for turns in rows], 100_000)
    for turns, prompt, examples in zip(rows, served, made):
        assert not isinstance(examples, Refusal)
        stock = own.apply_chat_template(turns[:-1], add_generation_prompt=True, return_dict=False)
        last = examples[-1]
        assert list(prompt) == list(last.prompt) == stock
        assert list(last.ids[: len(stock)]) == stock
        assert (last.labels[: len(stock)] == NO_LABEL).all() or len(turns) > 3
        begins = int((last.ids == own.bos_token_id).sum())
        assert begins <= 1


def test_a_dialog_that_is_too_long_loses_its_beginning_first(tmp_path: Any) -> None:
    chat = Chat(copied("bytes-plain"), "chatml")
    turns = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "where does anna live ?"},
        {"role": "assistant", "content": "in berlin ."},
        {"role": "user", "content": "and what animal does she keep in the old house by the sea ?"},
        {"role": "assistant", "content": "she keeps a goat and a turtle there ."},
    ]
    (whole,) = chat.encode([Dialog(turns)], 1000)[0]
    assert not whole.cut
    frame = len(chat.prompts([Dialog([{"role": "user", "content": ""}])], 1000)[0])  # type: ignore[arg-type]
    seen = set()
    for limit in range(len(whole.ids) + 1, 7, -1):
        made = chat.encode([Dialog(turns)], limit)[0]
        if isinstance(made, Refusal):
            assert "fit" in made.reason
            seen.add("refused")
            continue
        (one,) = made
        assert len(one.ids) <= limit
        assert one.trained > 0
        assert bool(one.cut) == (limit < len(whole.ids))
        text = "".join(runs(chat, one))
        assert text.startswith("in berlin .<|im_end|>she keeps" if not one.cut else "she keeps"[: len(text)])
        start, end = re.escape("<|im_start|>"), re.escape("<|im_end|>\n")
        shape = f"({start}system\n(.+?){end})?{start}user\n.*?{end}{start}assistant\n"
        kept = re.match(shape, chat.tokenizer.decode(one.ids), re.DOTALL)
        assert kept and "be kind".endswith(kept[2] or "")  # whatever is cut, the template's own words stand
        if "answer" in one.cut:  # it keeps half of the room at least, or all that the template's own words leave
            assert one.trained >= min(limit // 2, limit - frame)
        else:
            assert text.endswith("there .<|im_end|>")
        seen |= {word for word in ("turns", "longest", "answer") if word in one.cut}
    assert seen == {"turns", "longest", "answer", "refused"}
    for limit in range(len(whole.prompt) + 1, 20, -1):
        prompt = chat.prompts([Dialog(turns[:-1])], limit)[0]
        if isinstance(prompt, Refusal):
            assert limit < 30
        else:
            assert len(prompt) <= limit
            assert written(chat.tokenizer, prompt).endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_train_on_and_weights() -> None:
    chat = Chat(copied("bytes-plain"), "chatml")
    turns = [
        {"role": "user", "content": "hello ?"},
        {"role": "assistant", "content": "hi .", "weight": 0.5},
        {"role": "user", "content": "and ?"},
        {"role": "assistant", "content": "bye .", "weight": 2},
    ]
    (both,) = chat.encode([Dialog(turns)], 1000)[0]
    assert runs(chat, both) == ["hi .<|im_end|>", "bye .<|im_end|>"]
    first, second = (both.weights[both.weights == w] for w in (0.5, 2))
    assert len(first) + len(second) == both.trained
    assert list(np.flatnonzero(both.weights)) == list(np.flatnonzero(both.labels != NO_LABEL))
    assert np.flatnonzero(both.weights == 0.5).max() < np.flatnonzero(both.weights == 2).min()
    (last,) = chat.encode([Dialog(turns)], 1000, "last-turn")[0]
    assert runs(chat, last) == ["bye .<|im_end|>"]
    (every,) = chat.encode([Dialog(turns)], 1000, "all")[0]
    assert (every.labels == every.ids).all()
    muted = [*turns[:1], {**turns[1], "weight": 0}, *turns[2:]]
    (rest,) = chat.encode([Dialog(muted)], 1000, "all")[0]
    assert [text.split("assistant")[-1] for text in runs(chat, rest)] == ["\n", "\nbye .<|im_end|>"]
    (nothing,) = chat.encode([Dialog([turns[0], {**turns[1], "weight": 0}])], 1000)[0]
    assert nothing.trained == 0


def test_reasoning_is_learned_where_it_is_asked_for(tmp_path: Any) -> None:
    """A template that drops earlier reasoning: each turn is an example of its own, with the text as it was then."""
    chat = chat_of("bytes-plain", "thinks", tmp_path)
    turns = [
        {"role": "user", "content": "2 + 2 ?"},
        {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
        {"role": "user", "content": "3 + 3 ?"},
        {"role": "assistant", "content": "<think>\nagain\n</think>\n\n6"},
    ]
    first, second = chat.encode([Dialog(turns)], 1000)[0]
    assert runs(chat, first) == ["<think>\nadd\n</think>\n\n4<|im_end|>"]
    assert runs(chat, second) == ["<think>\nagain\n</think>\n\n6<|im_end|>"]
    assert "add" not in chat.tokenizer.decode(second.ids)


def test_calls_of_tools_are_said() -> None:
    chat = Chat(copied("bytes-split"), "chatml")
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"city": "string"}}}]
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
    turns = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "<|im_end|> yes"},
        {"role": "assistant", "content": "It rains."},
    ]
    (one,) = chat.encode([Dialog(turns, tools)], 1000)[0]
    called = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call><|im_end|>'
    assert runs(chat, one) == [called, "It rains.<|im_end|>"]
    assert '"name": "weather", "parameters"' in chat.tokenizer.decode(one.ids)


def test_plain_text_is_learned_whole() -> None:
    for family, begins in (("bytes-split", "<s>"), ("bytes-plain", "")):
        chat = Chat(copied(family), "chatml")
        (one,) = chat.text("the old house", 100)
        assert written(chat.tokenizer, one.ids) == f"{begins}the old house</s>"
        assert (one.labels == one.ids).all()
        parts = chat.text("the old house near the red goat", 4)
        assert len(parts) > 2
        assert all(2 <= len(part.ids) <= 4 for part in parts[:-1])
        assert "".join(written(chat.tokenizer, p.ids).removeprefix(begins) for p in parts).endswith("goat</s>")


@pytest.mark.parametrize("family", ["bytes-split", "bytes-plain"])
@pytest.mark.parametrize("length", [3, 4, 5, 9])
def test_every_token_of_a_long_text_is_learned_once(family: str, length: int) -> None:
    """A label counts where a token stands before it. Also where the last part would hold the end alone."""
    chat = Chat(copied(family), "chatml")
    text = "the old house near the red goat and the cat"
    ids = [*chat.tokenizer(text, add_special_tokens=False)["input_ids"], chat.tokenizer.eos_token_id]
    for count in range(1, len(ids) + 1):
        some = chat.tokenizer.decode(ids[: count - 1])
        whole = [*chat.tokenizer(some, add_special_tokens=False)["input_ids"], ids[-1]]
        learned = [int(label) for part in chat.text(some, length) for label in part.labels[1:]]
        assert learned == (whole if family == "bytes-split" else whole[1:])
        assert all(len(part.ids) <= length for part in chat.text(some, length))


def test_a_weight_of_another_s_turn_is_refused_where_all_is_learned() -> None:
    chat = Chat(copied("bytes-plain"), "chatml")
    turns = [{"role": "user", "content": "hello ?", "weight": 0}, {"role": "assistant", "content": "hi ."}]
    assert not isinstance(chat.encode([Dialog(turns)], 1000)[0], Refusal), "the user's turn is not learned anyway"
    refused = chat.encode([Dialog(turns)], 1000, "all")[0]
    assert isinstance(refused, Refusal) and "turn 1 has a loss_weight" in refused.reason


def test_the_template_is_saved_with_the_tokenizer(tmp_path: Any) -> None:
    from transformers import AutoTokenizer

    chat = Chat(copied("bytes-plain"), "llama-3")
    chat.tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    turns = [{"role": "user", "content": "hello ?"}]
    assert again.apply_chat_template(turns, tokenize=False) == chat.tokenizer.apply_chat_template(turns, tokenize=False)
    assert Chat(again).template.name == "its own"
    without = copied("bytes-plain")
    assert Chat(without).template.name == "chatml"
    assert without.chat_template


BROKEN = {
    "{% for m in messages %}{{ m.content }": "cannot be rendered",
    "{{ raise_exception('only on Sundays') }}": "only on Sundays",
    "{% for m in messages %}{{ m.role }}{% endfor %}": "leaves out what the assistant says",
    "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}": "add_generation_prompt",
    "{% for m in messages %}{{ '<|im_start|>' + m.role + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<think>' }}{% endif %}": "<think>",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}": "longer than 0.5 seconds",
    "{{ 'x' * 1000001 }}": "more than 1,000,000 characters",
    "{{ 'x' * (2 ** 40) }}": "memory",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "calls itself",
    "{{ messages.__class__.__mro__ }}": "unsafe",
    "{{ 2 ** (10 ** 9) }}": "longer than 0.5 seconds",
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_broken_template_is_named(source: str, tmp_path: Any, monkeypatch: Any) -> None:
    """A template is a stranger's program: it can neither hang nor fill the memory, and the error says which it was."""
    monkeypatch.setattr(rendering, "SECONDS", 0.5)
    file = tmp_path / "stranger.jinja"
    file.write_text(source)
    with pytest.raises(ModelError) as error:
        Chat(copied("bytes-plain"), str(file))
    assert BROKEN[source] in str(error.value)
    assert "stranger.jinja" in str(error.value)
    assert Chat(copied("bytes-plain"), "chatml").stop_ids  # the next one is rendered again


def test_a_template_that_hangs_later_stops_the_work(tmp_path: Any, monkeypatch: Any) -> None:
    """It is stopped once, not once a row; asked for one prompt it is that row's refusal."""
    monkeypatch.setattr(rendering, "SECONDS", 0.5)
    file = tmp_path / "later.jinja"
    hang = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    file.write_text(
        "{% for m in messages %}{% if m.content == 'hang' %}" + hang + "{% endif %}"
        "{{ m.role + ': ' + m.content + (eos_token if m.role == 'assistant' else '\n') }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    chat = Chat(copied("bytes-plain"), str(file))
    rows = [[{"role": "user", "content": said}, {"role": "assistant", "content": "a"}] for said in ("b", "hang", "c")]
    with pytest.raises(ModelError, match=r"longer than 0\.5 seconds"):
        chat.encode([Dialog(turns) for turns in rows], 100)
    good, bad = chat.prompts([Dialog(rows[0][:1]), Dialog(rows[1][:1])], 100)
    assert not isinstance(good, Refusal)
    assert isinstance(bad, Refusal)


def test_a_row_that_cannot_be_exact_is_refused(tmp_path: Any) -> None:
    file = tmp_path / "shouts.jinja"
    file.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system text') }}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content | replace('goat', 'GOAT') + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    chat = Chat(copied("bytes-plain"), str(file))
    asked = {"role": "user", "content": "a goat ?"}
    changed, refused, fine, unanswered = chat.encode(
        [
            Dialog([asked, {"role": "assistant", "content": "a goat ."}]),
            Dialog([{"role": "system", "content": "x"}, asked, {"role": "assistant", "content": "no ."}]),
            Dialog([asked, {"role": "assistant", "content": "a horse ."}]),
            Dialog([asked]),
        ],
        1000,
    )
    assert isinstance(changed, Refusal) and "rewrites part of the answer in turn 2" in changed.reason
    assert isinstance(refused, Refusal) and refused.reason == "no system text"
    assert isinstance(unanswered, Refusal) and "last turn" in unanswered.reason
    assert not isinstance(fine, Refusal) and runs(chat, fine[0]) == ["a horse .<|im_end|>"]


def test_unknown_templates_and_tokenizers_without_an_end() -> None:
    with pytest.raises(RecipeError, match='Did you mean "zephyr"'):
        Chat(copied("bytes-plain"), "zefyr")
    endless = copied("bytes-plain")
    endless.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token"):
        Chat(endless)


def test_tokenizers_that_lose_letters_learn_the_same_words() -> None:
    """Lower case, normal forms, unknown letters: what is learned is still the answer, seen by its own tokens."""
    from tiny import unigram, wordpiece

    for make, eos in ((wordpiece, "[SEP]"), (unigram, "</s>")):
        own = make()
        own.eos_token = eos
        chat = Chat(own, "alpaca")
        said = "The OLD House, near the ﬁlm ."
        (one,) = chat.encode(
            [Dialog([{"role": "user", "content": "Where ?"}, {"role": "assistant", "content": said}])], 999
        )[0]
        due = own(said, add_special_tokens=False)["input_ids"]
        assert list(one.labels[one.labels != NO_LABEL]) == [*due, own.eos_token_id]


def test_a_real_model() -> None:
    folder = Path.home() / ".cache" / "luthier" / "models" / "smollm2-135m-instruct"
    if not folder.is_dir():
        pytest.skip("smollm2-135m-instruct is not on this machine")
    own = load_tokenizer(resolve(str(folder)))
    chat = Chat(own)
    rows = dialogs(ROWS, seed=11)
    for turns, examples in zip(rows, chat.encode([Dialog(turns) for turns in rows], 100_000)):
        assert not isinstance(examples, Refusal)
        assert learned(chat, examples) == sorted(expected(FORMS["chatml"], turns))


def test_after_ctrl_c_the_next_question_gets_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply to the question that was left would else be read as the reply to the next."""

    def asked(word: str) -> bytes:
        return rendering.request(
            "{{ messages[0].content }}", [{"role": "user", "content": word}], None, [(1, False)], {}
        )

    class Interrupted:
        def get(self, timeout: float) -> bytes:
            raise KeyboardInterrupt

    assert rendering.render([asked("before")]) == [["before"]]
    with monkeypatch.context() as during:
        during.setattr(rendering._process, "_replies", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            rendering.render([asked("left")])
    assert rendering.render([asked("next"), asked("last")]) == [["next"], ["last"]]
