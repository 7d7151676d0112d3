"""Tokenizers of six families and chat templates of many forms, both made here, and what each should have learned."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from luthier.engine.chat.templates import NAMED
from tiny import WORDS

SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"]
_PLAIN = [
    "hello there, how are you today?",
    "def f(x):\n    return x + 1\n\n\nprint(f(2))",
    "  two spaces before, and after  ",
    "café naïve — “quoted” … 12,345.67",
    "日本語のテキスト と 한국어",
    "👩‍👩‍👧‍👦 family, e\u0301 combining, \u200bzero width",
    "مرحبا بالعالم שלום",
    "a\tb\r\nc\n\n",
    "no",
]
_MARKERS = [
    "I said <|im_end|>\n<|im_start|>assistant\nnot me",
    "### Response:\nand ### Instruction:\nagain",
    "[INST] x [/INST] y </s><s>",
    "<start_of_turn>model\nz<end_of_turn>\n",
    "<|assistant|>\nq<|end|><|user|>",
    "User: a\n\nAssistant: b",
    "<|start_header_id|>assistant<|end_header_id|>\n\nw<|eot_id|>",
]


def dialogs(count: int, seed: int, *, system: bool = True, empty: bool = True) -> list[list[dict[str, Any]]]:
    """Dialogs of one to four questions, each with its answer: empty answers, markers of turns, any script, weights."""
    draw = random.Random(seed)

    def text() -> str:
        kind = draw.random()
        if kind < 0.25:
            return draw.choice(_MARKERS)
        if kind < 0.6:
            return draw.choice(_PLAIN)
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 12)))

    out = []
    for _ in range(count):
        turns: list[dict[str, Any]] = []
        if system and draw.random() < 0.3:
            turns.append({"role": "system", "content": text()})
        for _ in range(draw.choice([1, 1, 2, 3, 4])):
            turns.append({"role": "user", "content": text()})
            answer = "" if empty and draw.random() < 0.08 else text()
            turns.append({"role": "assistant", "content": answer})
            if draw.random() < 0.15:
                turns[-1]["weight"] = 0
        out.append(turns)
    return out


# tokenizers


def _corpus() -> list[str]:
    draw = random.Random(0)
    return [*_PLAIN, *_MARKERS, *(" ".join(draw.choices(WORDS, k=12)) for _ in range(60))]


def _finish(plain: Any, special: Sequence[str], *, begins: bool, trims: bool = False) -> Any:
    from tokenizers import AddedToken, processors
    from transformers import PreTrainedTokenizerFast

    plain.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in special])
    if begins:
        plain.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", plain.token_to_id("<s>"))]
        )
    elif trims:
        plain.post_processor = processors.ByteLevel(trim_offsets=True)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, clean_up_tokenization_spaces=False, model_max_length=100_000, **names
    )


def _bytes(kind: str) -> Any:
    """GPT-2's (bytes, offsets without the space before a word), LLaMA 3's and Qwen's ("split"), with a space before
    every text ("prefix").
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    plain = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=kind == "prefix", use_regex=kind != "split")
    if kind == "split":
        pattern = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        parts = [pre_tokenizers.Split(Regex(pattern), "isolated"), level]
        plain.pre_tokenizer = pre_tokenizers.Sequence(parts)
    else:
        plain.pre_tokenizer = level
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    plain.train_from_iterator(_corpus(), trainer)
    return _finish(plain, SPECIALS, begins=kind == "split", trims=kind != "split")


def _pieces(kind: str) -> Any:
    """SentencePiece's way: LLaMA 2's ("legacy": a space before every part), Mistral's ("first": before the first),
    Gemma's ("never"). What is no piece is written in bytes.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if kind == "first":
        before: dict[str, Any] = {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first", split=False)}
    elif kind == "legacy":
        parts = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        before = {"normalizer": normalizers.Sequence(parts)}
    else:
        before = {
            "normalizer": normalizers.Replace(" ", "▁"),
            "pre_tokenizer": pre_tokenizers.Split("▁", "merged_with_next"),
        }
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator([" ".join(WORDS), *WORDS], trainers.BpeTrainer(vocab_size=400, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    entries = dict.fromkeys([*(f"<0x{i:02X}>" for i in range(256)), "\n", "▁", "<unk>", *learned["vocab"]])
    merges = [tuple(pair) for pair in learned["merges"]]
    vocab = {entry: i for i, entry in enumerate(entries)}
    plain = Tokenizer(models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    for name, part in before.items():
        setattr(plain, name, part)
    plain.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _finish(plain, SPECIALS, begins=kind != "first")


@lru_cache
def tokenizer(family: str) -> Any:
    """Made once; `copied` gives one that may be changed."""
    kind, _, way = family.partition("-")
    return _bytes(way) if kind == "bytes" else _pieces(way)


def copied(family: str) -> Any:
    import copy

    own = copy.deepcopy(tokenizer(family))
    own.chat_template = None
    return own


def written(own: Any, ids: Sequence[int]) -> str:
    """The text that these tokens stand for, without any of a decoder's habits."""
    if type(own.backend_tokenizer.decoder).__name__ == "ByteLevel":
        return own.decode(ids, skip_special_tokens=False)
    out = b""
    for token in own.convert_ids_to_tokens([int(i) for i in ids]):
        byte = len(token) == 6 and token.startswith("<0x")
        out += bytes([int(token[3:5], 16)]) if byte else token.replace("▁", " ").encode()
    return out.decode()


def tidy(family: str, text: str) -> str:
    """Some tokenizers begin what follows any special token with a space of their own."""
    if family not in ("bytes-prefix", "pieces-legacy"):
        return text
    return re.sub(f"({'|'.join(map(re.escape, SPECIALS))}) *", r"\1", text)


# templates


@dataclass(frozen=True)
class Form:
    """A template (a name of NAMED, or its source), and what the model should have learned of one answer.

    `system`: whether it takes a system text.
    """

    template: str
    learned: Callable[[str], str]
    system: bool = True


_THINKS = """\
{%- set ns = namespace(last=-1) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- set parts = m.content.split('</think>') -%}
{%- set content = parts[-1].lstrip('\\n') if parts | length > 1 else m.content -%}
{%- set thought = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if loop.index0 > ns.last -%}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' -}}{%- endif -%}
{{- content + '<|im_end|>\\n' -}}
{%- else -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""
_TRIMS = """\
{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}
{{- m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
_SYSTEM_MOVES = """\
{%- if messages[0].role == 'system' -%}{%- set first = messages[0].content + '\\n\\n' -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set first = '' -%}{%- set rest = messages -%}{%- endif -%}
{{- bos_token -}}
{%- for m in rest -%}
{%- if m.role == 'user' -%}{{- '[INST] ' + (first if loop.last else '') + m.content + '[/INST]' -}}
{%- else -%}{{- ' ' + m.content + eos_token -}}{%- endif -%}
{%- endfor -%}"""
_BOS_EACH_TURN = """\
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}{{- ' ' + m.content.strip() + ' ' + eos_token -}}
{%- else -%}{{- bos_token + '[INST] ' + m.content.strip() + ' [/INST]' -}}{%- endif -%}
{%- endfor -%}"""
_NO_END = """\
{%- for m in messages -%}{{- m.role.title() + ': ' + m.content + '\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"""
_FROM_PIECES = """\
{%- for m in messages -%}{{- '<|' + m.role + '|>\\n' + m.content + '<|' + 'end|>\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"""
_TAGGED = """\
{{ bos_token }}{% for m in messages %}
{%- if m.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
{%- else %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
_SPACED = """\
{{- bos_token -}}
{%- for m in messages -%}
{{- 'Assistant: ' + m.content + eos_token if m.role == 'assistant' else m.role.title() + ': ' + m.content + '\\n\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"""

FORMS: dict[str, Form] = {
    "chatml": Form("chatml", lambda said: said + "<|im_end|>"),
    "llama-2": Form("llama-2", lambda said: f" {said} </s>"),
    "llama-3": Form("llama-3", lambda said: said + "<|eot_id|>"),
    "gemma": Form("gemma", lambda said: said + "<end_of_turn>"),
    "zephyr": Form("zephyr", lambda said: said + "</s>"),
    "alpaca": Form("alpaca", lambda said: said + "</s>"),
    "plain": Form("plain", lambda said: said + "</s>"),
    "thinks": Form(_THINKS, lambda said: f"<think>\n\n</think>\n\n{said}<|im_end|>"),
    "trims": Form(_TRIMS, lambda said: said.strip() + "<end_of_turn>", system=False),
    "system-moves": Form(_SYSTEM_MOVES, lambda said: f" {said}</s>"),
    "bos-each-turn": Form(_BOS_EACH_TURN, lambda said: f" {said.strip()} </s>", system=False),
    "no-end": Form(_NO_END, lambda said: f" {said}".rstrip() + "</s>"),
    "from-pieces": Form(_FROM_PIECES, lambda said: said + "<|end|>"),
    "tagged": Form(_TAGGED, lambda said: said + "<|im_end|>"),
    "spaced": Form(_SPACED, lambda said: f" {said}</s>"),
}
assert set(NAMED) <= set(FORMS)

PAIRS = [
    ("bytes-plain", "chatml"),
    ("bytes-plain", "alpaca"),
    ("bytes-plain", "thinks"),
    ("bytes-plain", "spaced"),
    ("bytes-plain", "plain"),
    ("bytes-split", "llama-3"),
    ("bytes-split", "tagged"),
    ("bytes-split", "from-pieces"),
    ("bytes-split", "no-end"),
    ("bytes-split", "zephyr"),
    ("bytes-prefix", "chatml"),
    ("bytes-prefix", "spaced"),
    ("pieces-legacy", "llama-2"),
    ("pieces-legacy", "bos-each-turn"),
    ("pieces-legacy", "zephyr"),
    ("pieces-first", "system-moves"),
    ("pieces-first", "alpaca"),
    ("pieces-first", "plain"),
    ("pieces-never", "gemma"),
    ("pieces-never", "trims"),
    ("pieces-never", "no-end"),
    ("pieces-never", "llama-3"),
]


def expected(form: Form, turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is learned of each answer that counts."""
    said = [turn for turn in turns if turn["role"] == "assistant" and turn.get("weight", 1)]
    return [form.learned(turn["content"]) for turn in said]
