"""Chat templates by name, for tokenizers that have none of their own.

Each is the form that a family of models was tuned on, in words of our own, with what all of them need: a system text,
tools and tool calls, turns in any order, and an end of turn that stops generation. Where the tokenizer has the
family's end-of-turn token that one is written, else its end-of-text token; the beginning-of-text token is written where
the tokenizer puts one before every text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from luthier.errors import ModelError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OWN = "auto"
FALLBACK = "chatml"
LARGEST = 1_000_000  # characters of a template's source

# What all of them begin with: `system`, the first system text and the tools; `rest`, the other turns; and `said(turn)`,
# a turn's text and tool calls.
_TOOLS = (
    'Functions you may call, each call written as <tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>:\\n'
)
_BEFORE = """\
{%- macro said(turn) -%}
{{- turn.content or '' -}}
{%- for call in turn.tool_calls or [] -%}
{{- '\\n' if turn.content or not loop.first else '' -}}
{{- '<tool_call>\\n' + ((call.function or call) | tojson) + '\\n</tool_call>' -}}
{%- endfor -%}
{%- endmacro -%}
{%- set here = namespace(system='', rest=messages) -%}
{%- if messages and messages[0].role == 'system' -%}
{%- set here.system = messages[0].content or '' -%}
{%- set here.rest = messages[1:] -%}
{%- endif -%}
{%- if tools -%}
{%- set here.system = here.system + ('\\n\\n' if here.system else '') + 'TOOLS' + (tools | tojson) -%}
{%- endif -%}
BOS""".replace("TOOLS", _TOOLS)

# By role: a header, the text, the end of turn. The same shape serves three families.
_TURNS = """\
{%- if here.system -%}
{{- START + 'system' + HEAD + here.system + END + AFTER -}}
{%- endif -%}
{%- for turn in here.rest -%}
{{- START + turn.role + HEAD + said(turn) + END + AFTER -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- START + 'assistant' + HEAD -}}
{%- endif -%}"""

_GEMMA = """\
{%- set here.open = here.system -%}
{%- for turn in here.rest -%}
{%- if turn.role == 'assistant' -%}
{%- if here.open -%}
{{- '<start_of_turn>user\\n' + here.open + END + '\\n' -}}
{%- set here.open = '' -%}
{%- endif -%}
{{- '<start_of_turn>model\\n' + said(turn) + END + '\\n' -}}
{%- else -%}
{{- '<start_of_turn>user\\n' + (here.open + '\\n\\n' if here.open else '') + said(turn) + END + '\\n' -}}
{%- set here.open = '' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- ('<start_of_turn>user\\n' + here.open + END + '\\n' if here.open else '') + '<start_of_turn>model\\n' -}}
{%- endif -%}"""

_LLAMA_2 = """\
{%- set here.open = '<<SYS>>\\n' + here.system + '\\n<</SYS>>\\n\\n' if here.system else '' -%}
{%- for turn in here.rest -%}
{%- if turn.role == 'assistant' -%}
{{- ('[INST] ' + here.open + ' [/INST]' if here.open else '') + ' ' + said(turn) + ' ' + END -}}
{%- else -%}
{{- '[INST] ' + here.open + said(turn) + ' [/INST]' -}}
{%- endif -%}
{%- set here.open = '' -%}
{%- endfor -%}
{%- if add_generation_prompt and here.open -%}
{{- '[INST] ' + here.open + ' [/INST]' -}}
{%- endif -%}"""

_REQUEST = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
_ALPACA = """\
{{- (here.system or 'REQUEST') + '\\n\\n' -}}
{%- for turn in here.rest -%}
{%- if turn.role == 'assistant' -%}
{{- '### Response:\\n' + said(turn) + END + '\\n\\n' -}}
{%- else -%}
{{- '### Instruction:\\n' + said(turn) + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '### Response:\\n' -}}
{%- endif -%}""".replace("REQUEST", _REQUEST)

_PLAIN = """\
{{- here.system -}}
{%- for turn in here.rest -%}
{{- said(turn) + (END if turn.role == 'assistant' else '') -}}
{%- endfor -%}"""


def _turns(start: str, head: str, after: str) -> str:
    return _TURNS.replace("START", repr(start)).replace("HEAD", repr(head)).replace("AFTER", repr(after))


# name -> (its turns, the family's token that ends one)
NAMED: dict[str, tuple[str, str]] = {
    "chatml": (_turns("<|im_start|>", "\n", "\n"), "<|im_end|>"),
    "llama-2": (_LLAMA_2, ""),
    "llama-3": (_turns("<|start_header_id|>", "<|end_header_id|>\n\n", ""), "<|eot_id|>"),
    "gemma": (_GEMMA, "<end_of_turn>"),
    "zephyr": (_turns("<|", "|>\n", "\n"), ""),
    "alpaca": (_ALPACA, ""),
    "plain": (_PLAIN, ""),
}


def special_texts(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The tokens that are never made from ordinary text: markers of turns, of a text's beginning and end."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {text for text in (*added, tokenizer.eos_token, tokenizer.bos_token) if text}


def named_template(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The source of the template `name`, written for this tokenizer."""
    turns, end = NAMED[name]
    end = repr(end) if end and end in special_texts(tokenizer) else "eos_token"
    bos = "{{- bos_token -}}\n" if _begins(tokenizer) else ""
    return _BEFORE.replace("BOS", bos) + turns.replace("END", end)


def _begins(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts its beginning-of-text token before a text by itself."""
    ids = tokenizer("a", verbose=False)["input_ids"]
    return tokenizer.bos_token_id is not None and list(ids)[:1] == [tokenizer.bos_token_id]


def install(tokenizer: PreTrainedTokenizerBase, choice: str = OWN) -> str:
    """Give the tokenizer the template that `choice` means, and say which: "its own", a name, or the file.

    `auto` is its own, or the fallback where it has none; a name of NAMED; or a file with a Jinja template. The
    tokenizer saves it with the model. RecipeError where there is no such name or file.
    """
    if choice == OWN and tokenizer.chat_template:
        return "its own"
    name = FALLBACK if choice == OWN else choice
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "its tokenizer has no end-of-text token, so no answer could ever end",
            where=str(tokenizer.name_or_path),
            fix='set "eos_token" in its tokenizer_config.json to a token of its vocabulary',
        )
    tokenizer.chat_template = named_template(name, tokenizer) if name in NAMED else _read(Path(name))
    return name


def _read(path: Path) -> str:
    """A template's source from a file."""
    where = "task.chat_template"
    if not path.is_file():
        known = did_you_mean(str(path), [*NAMED, OWN])
        raise RecipeError(
            f'"{path}" is neither a template by name nor a file',
            where=where,
            fix=f"name a file, or one of them. {known}",
        )
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read ({error})", where=where, fix="a Jinja template in UTF-8") from None
    if not source.strip() or len(source) > LARGEST:
        found = "is empty" if not source.strip() else f"holds more than {LARGEST:,} characters"
        raise RecipeError(f"{path} {found}", where=where, fix="a Jinja template as transformers uses them")
    return source
