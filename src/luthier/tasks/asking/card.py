"""A model card's lines for a task that is asked in words: the same prompts, the same answers, without luthier.

The lines follow what requests.py, engine/writing/constrain.py and engine/writing/choice.py do, for one row at a time
and without keeping anything between tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .text import places

if TYPE_CHECKING:
    from .task import Asked


def card_code(task: Asked) -> str:
    """Lines that define `answer(...)` of the task's inputs, given `tokenizer` and `predict`."""
    requests, inner, known = task.requests, task.inner, task.requests.known
    kinds = {field.name: field.kind for field in task.form.inputs}
    row = places(task.form)
    asked, allowed = requests.request(row), inner.allowed(row)
    turns = not isinstance(asked, str)
    listed = isinstance(allowed, Sequence) and not isinstance(allowed, str)
    facts: dict[str, Any] = {"ROOM": requests.room, "FRAME": known.get("frame", 0)}
    if not turns:
        facts["REQUEST"] = asked
    if not task.shifted:
        facts["START"] = known.get("start_id")
    if listed:
        facts["ENDINGS"] = known.get("endings", {})
    else:
        facts["STOP"] = known.get("stop_ids", [])
    if allowed is not None and not listed:
        facts["BESIDES"] = list(getattr(allowed, "besides", ()))
    parts = ["import re\nimport unicodedata\n\n" + "".join(f"{name} = {value!r}\n" for name, value in facts.items())]
    if not turns:
        parts.append(_FIT_WORDS if "tokens" in kinds.values() else _FIT)
    elif task.method is not None or not task.shifted:
        parts.append(_SIZE)
    parts += _shown(task)
    parts.append(_SOURCE if not task.shifted else _TURNS if turns else _DIALOG)
    parts.append(inner.hear_code())
    if listed:
        parts += [_WEIGH if task.shifted else _WEIGH_TARGET, _CHOOSE]
    else:
        parts.append(_NEXT if task.shifted else _NEXT_TARGET)
        parts += [_FREE] if allowed is None else [_MAY, _BOUND]
    passage = next((name for name in kinds if f"{{{name}}}" == getattr(allowed, "text", allowed)), "")
    words = {
        "@given": ", ".join(kinds),
        "@fields": "{" + ", ".join(f'"{name}": {name}' for name in kinds) + "}",
        "@passage": passage,
        "@new": str(requests.max_new_tokens),
        "@limit": str(requests.context - requests.max_new_tokens),
        "@shown": "[]" if task.method is None else "shown(asked)",
        "@asked": 'words(fields["messages"])' if turns else "fit(fields)",
        "@words": 'words(e["request"])' if turns else 'e["request"]',
    }
    head, *rest = (part.strip("\n") for part in parts)
    code = "\n\n\n".join(rest)
    for mark, word in words.items():
        code = code.replace(mark, word)
    return f"{head}\n\n\n{code}\n"


def _shown(task: Asked) -> list[str]:
    """How examples are found, where the method shows some."""
    if task.method is None:
        return []
    options = getattr(task.method, "options", None)
    if getattr(options, "choose", "") == "nearest":
        return [_NEAREST.replace("@count", str(task.method.most))]
    return [_SAME]


_FIT = '''
def ask(fields):
    return re.sub(r"\\{(\\w+)\\}", lambda place: fields.get(place[1], place[0]), REQUEST)


def size(text):
    return len(tokenizer(text, add_special_tokens=False)["input_ids"]) + FRAME


def fit(fields):
    """The request; one that is too long without the end of its longest input."""
    for _ in range(8):
        over = size(ask(fields)) - ROOM
        if over <= 0:
            break
        name = max(fields, key=lambda name: len(fields[name]))
        spans = tokenizer(fields[name], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        fields[name] = fields[name][: spans[len(spans) - over][0]].rstrip() if over < len(spans) else ""
    return ask(fields)
'''

_FIT_WORDS = '''
def ask(fields):
    words = {name: " ".join(value) for name, value in fields.items()}
    return re.sub(r"\\{(\\w+)\\}", lambda place: words.get(place[1], place[0]), REQUEST)


def size(text):
    return len(tokenizer(text, add_special_tokens=False)["input_ids"]) + FRAME


def fit(fields):
    """The request; one that is too long without its last words."""
    for _ in range(8):
        over = size(ask(fields)) - ROOM
        if over <= 0:
            break
        name = max(fields, key=lambda name: len(" ".join(fields[name])))
        text = " ".join(fields[name])
        spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        text = text[: spans[len(spans) - over][0]].rstrip() if over < len(spans) else ""
        while len(" ".join(fields[name])) > len(text):
            fields[name] = fields[name][:-1]
    return ask(fields)
'''

_SIZE = """
def words(asked):
    return asked if isinstance(asked, str) else "\\n".join(str(turn.get("content") or "") for turn in asked)


def size(asked):
    return len(tokenizer(words(asked), add_special_tokens=False)["input_ids"]) + FRAME
"""

_KEPT = """    while found and size(asked) + sum(size(e["request"]) + size(e["answer"]) for e in found) > @limit:
        found = found[1:]
    return found
"""

_SAME = (
    '''
def shown(asked):
    """The examples that stand before the request."""
    found = [e for e in EXAMPLES if e["request"] != asked]
'''
    + _KEPT
)

_NEAREST = (
    '''
from sklearn.feature_extraction.text import TfidfVectorizer

vectorizer = TfidfVectorizer(token_pattern=r"(?u)\\b\\w+\\b", sublinear_tf=True, max_features=200_000)
known = vectorizer.fit_transform([e["request"] for e in EXAMPLES])


def shown(asked):
    """The examples most like the request, the nearest last."""
    likeness = (vectorizer.transform([asked]) @ known.T).toarray()[0]
    order = [i for i in (-likeness).argsort(kind="stable") if EXAMPLES[i]["request"] != asked]
    found = [EXAMPLES[i] for i in order[:@count][::-1]]
'''
    + _KEPT
)

_DIALOG = """
def prompt(fields):
    asked = fit(fields)
    turns = []
    for e in @shown:
        turns += [{"role": "user", "content": e["request"]}, {"role": "assistant", "content": e["answer"]}]
    turns.append({"role": "user", "content": asked})
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"])
"""

_TURNS = """
def prompt(fields):
    asked = fields["messages"]
    system = [turn for turn in asked[:1] if turn["role"] == "system"]
    turns = []
    for e in @shown:
        turns += [turn for turn in e["request"] if turn["role"] != "system"]
        turns.append({"role": "assistant", "content": e["answer"]})
    turns = [*system, *turns, *asked[len(system) :]]
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"])
"""

_SOURCE = """
def prompt(fields):
    asked = @asked
    text = "\\n\\n".join([*(@words + "\\n" + e["answer"] for e in @shown), asked])
    return list(tokenizer(text)["input_ids"])
"""

_WEIGH = '''
def weigh(ids, ending):
    """The logarithm of the probability of an answer and its end."""
    with torch.no_grad():
        logits = predict({"input_ids": torch.tensor([ids + ending])})[0, -len(ending) - 1 : -1]
    return float(logits.double().log_softmax(-1).gather(1, torch.tensor(ending)[:, None]).sum())
'''

_WEIGH_TARGET = '''
def weigh(ids, ending):
    """The logarithm of the probability of an answer and its end."""
    given = torch.tensor([[ending[-1] if START is None else START, *ending[:-1]]])
    with torch.no_grad():
        logits = predict({"input_ids": torch.tensor([ids]), "decoder_input_ids": given})[0, -len(ending) :]
    return float(logits.double().log_softmax(-1).gather(1, torch.tensor(ending)[:, None]).sum())
'''

_CHOOSE = """
def answer(@given):
    ids = prompt(@fields)
    return hear(max(ENDINGS, key=lambda text: weigh(ids, ENDINGS[text])), **@fields)
"""

_NEXT = '''
def scores(ids, said):
    """Of every token as the next one."""
    with torch.no_grad():
        return predict({"input_ids": torch.tensor([ids + said])})[0, -1]
'''

_NEXT_TARGET = '''
TARGET = tokenizer(text_target="")["input_ids"]
END = TARGET.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in TARGET else len(TARGET)
LEAD = [TARGET[-1] if START is None else START, *TARGET[:END]]


def scores(ids, said):
    """Of every token as the next one."""
    given = torch.tensor([LEAD + said])
    with torch.no_grad():
        return predict({"input_ids": torch.tensor([ids]), "decoder_input_ids": given})[0, -1]
'''

_MAY = '''
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = sorted({*range(256)} - {*PRINTABLE})
BYTES = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(OTHERS)}
SPACE = "".join(tokenizer.convert_ids_to_tokens(tokenizer(" x", add_special_tokens=False)["input_ids"]))


def spell(said):
    """The bytes that tokens stand for."""
    if SPACE.startswith("\\u0120"):  # byte-level BPE: a character a byte
        tokens = tokenizer.convert_ids_to_tokens(said)
        return b"".join(bytes(BYTES[c] for c in t) if BYTES.keys() >= set(t) else t.encode() for t in tokens)
    text = tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.rstrip("\\ufffd").encode()


def apart(before, letter):
    """Whether a word may begin between two characters."""
    kinds = unicodedata.category(before), unicodedata.category(letter)
    return not (before.isalnum() and letter.isalnum()) or "Lo" in kinds


def may(said, ended, passage):
    """Whether these tokens begin, or are, a passage of the text or one of the texts beside it."""
    text, beside, place = spell(said), [one.encode() for one in BESIDES], 0
    spaced = text.startswith(b" ")
    bare = text[1:] if spaced else text
    if ended:
        whole = bare.decode(errors="ignore").encode() == bare
        return bare in beside or (whole and bool(bare.strip()) and bare in passage.encode())
    if not bare:
        return len(said) == 1
    if any(one.startswith(bare) for one in beside):
        return True
    data = passage.encode()
    for i, letter in enumerate(passage):
        if data.startswith(bare, place) and not letter.isspace():
            if not spaced or not i or apart(passage[i - 1], letter):
                return True
        place += len(letter.encode())
    return False
'''

_BOUND = """
def answer(@given):
    fields = @fields
    ids, said = prompt(fields), []
    while len(said) < @new:
        for token in scores(ids, said).argsort(descending=True).tolist():
            ended = token in STOP
            if ended and may(said, True, fields["@passage"]):
                break
            if token not in tokenizer.all_special_ids and may([*said, token], False, fields["@passage"]):
                break
        if ended:
            break
        said.append(token)
    return hear(spell(said).decode(errors="ignore").strip(), **@fields)
"""

_FREE = """
def answer(@given):
    ids, said = prompt(@fields), []
    while len(said) < @new:
        token = int(scores(ids, said).argmax())
        if token in STOP:
            break
        said.append(token)
    text = tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return hear(text.rstrip("\\ufffd"), **@fields)
"""
