"""The import fuzzer for tagged sentences, character spans, dialogues, several labels and numbers.

As in data_fuzz.py: every builder returns (file, ledger of planted faults, rows that must be kept, form).
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from data_forms import CHAT, LABELS, NUMBER, SCORED, TAGS, prose
from data_fuzz import Ledger, Planted, clean_text

from luthier.records import Form

WORDS = [
    "été",
    "e\u0301te\u0301",
    "👩‍👩‍👧",
    "#",
    "#tag",
    "שלום",
    "a,b",
    '"',
    "\u2028",
    "𝔘",
    "-",
    "I-x",
    "B",
    "\u00a0",
    "O",
]
SURROGATE, NUL = "half \ud83d", "a\x00b"
TYPES = ("person", "creative-work", "x")


def _places(rng: random.Random, num: int, plants: list[Any]) -> dict[int, Any]:
    """Which rows are broken; the first ones stay clean, so that the layout can be told."""
    return dict(zip(rng.sample(range(8, num), len(plants)), plants))


def _write_json(folder: Path, name: str, rng: random.Random, rows: list[Any]) -> Path:
    """JSON lines in some encoding, with blank lines between; `rows` are objects or lines as they are."""
    end = rng.choice(["\n", "\r\n"])
    lines = [
        row if isinstance(row, str) else json.dumps(row, ensure_ascii=_has_surrogate(row) or rng.random() < 0.5)
        for row in rows
    ]
    path = folder / f"{name}.jsonl"
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
    path.write_bytes((end.join(lines) + rng.choice(["", end])).encode(encoding))
    return path


def _has_surrogate(row: Any) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in json.dumps(row, ensure_ascii=False))


def _tags(rng: random.Random, length: int, scheme: str) -> list[str]:
    """Tags without a slip in a scheme."""
    tags: list[str] = []
    while len(tags) < length:
        size = min(length - len(tags), rng.randint(1, 3))
        kind = rng.choice(TYPES)
        if rng.random() < 0.5:
            tags.append("O")
        elif scheme == "BIO":
            tags += [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
        elif size == 1:
            tags.append(f"S-{kind}")
        else:
            tags += [f"B-{kind}", *[f"I-{kind}"] * (size - 2), f"E-{kind}"]
    return tags


def _tokens(rng: random.Random, length: int) -> list[str]:
    return [rng.choice(WORDS) if rng.random() < 0.3 else f"w{rng.randrange(999)}" for _ in range(length)]


def conll(folder: Path, seed: int, num: int = 240) -> Planted:
    """Two or four columns, tabs or blanks, comments, documents; broken lines and tags in the middle."""
    rng = random.Random(seed)
    tabs, columns, scheme = rng.random() < 0.5, rng.choice([2, 4]), rng.choice(["BIO", "IOBES"])
    cut, middle = ("\t", ["NN", "I-NP"]) if tabs else (" ", ["NN", "I-NP"])
    words = [word for word in WORDS if tabs or not word.isspace()]
    kinds = ["short", "long", "tag", "case", "first", "after", "nul"] * 3
    plants = _places(rng, num, kinds)
    lines: list[str] = []
    ledger: Ledger = []
    for i in range(num):
        if rng.random() < 0.1:
            lines += ["-DOCSTART-" + cut + "O", ""]
        if rng.random() < 0.1:
            lines.append(f"# sent_id = {seed}-{i}")
        length = rng.randint(3, 7)
        tags = _tags(rng, length, scheme)
        tokens = [rng.choice(words) if rng.random() < 0.3 else f"w{i}x{k}" for k in range(length)]
        kind, at = plants.get(i), rng.randint(1, length - 1)
        if kind in ("tag", "case", "first", "after"):
            tags = ["O"] * length
        if kind in ("tag", "case"):
            tags[at] = {"tag": "person", "case": "b-person"}[kind]
        elif kind == "first":
            tags[at] = "I-person"
        elif kind == "after":
            tags[at - 1 : at + 1] = ["B-person", "I-x"] if scheme == "BIO" else ["S-x", "E-x"]
        elif kind == "nul":
            tokens[at] = "a\x00b"
        start = len(lines) + 1
        for k in range(length):
            cells = [tokens[k], *(middle if columns == 4 else []), tags[k]]
            if k == at and kind == "short":
                cells = [cells[0] if cells[0] != "\u00a0" else "w"]  # alone on its line it would be an empty one
            elif k == at and kind == "long":
                cells.insert(1, "extra")
            lines.append(cut.join(cells))
        if kind is not None:
            code = {
                "short": "ragged-row",
                "long": "ragged-row",
                "nul": "nul-byte",
                "tag": "bad-tag",
                "case": "bad-tag",
            }
            field = {"short": "", "long": "", "nul": "tokens"}.get(kind, "tags")
            ledger.append((start + at, field, code.get(kind, "tag-sequence")))
        lines += rng.choices(["", "\t", "  "], k=rng.randint(1, 2))
    path = folder / f"fuzz{seed}.conll"
    end = rng.choice(["\n", "\r\n"])
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
    path.write_bytes((end.join(lines) + rng.choice(["", end])).encode(encoding))
    return path, ledger, num - len(kinds), TAGS


# (words, tags) of a broken row, the field and the code that must be reported.
BAD_SENTENCES: list[tuple[Any, Any, str, str]] = [
    (["a", "b"], ["O"], "ner_tags", "uneven-lists"),
    (["a"], ["O", "O"], "ner_tags", "uneven-lists"),
    ([], [], "tokens", "empty-text"),
    (["a", ""], ["O", "O"], "tokens[1]", "empty-text"),
    (["a", " "], ["O", "O"], "tokens[1]", "empty-text"),
    (["a", 5], ["O", "O"], "tokens[1]", "wrong-type"),
    (["a", None], ["O", "O"], "tokens[1]", "wrong-type"),
    (["a", ["b"]], ["O", "O"], "tokens[1]", "wrong-type"),
    (["a", NUL], ["O", "O"], "tokens[1]", "nul-byte"),
    (["a", SURROGATE], ["O", "O"], "tokens[1]", "lone-surrogate"),
    (["a", "x" * 300_000], ["O", "O"], "tokens[1]", "too-large"),
    (7, ["O"], "tokens", "wrong-type"),
    ({"a": 1}, ["O"], "tokens", "wrong-type"),
    (None, ["O"], "tokens", "wrong-type"),
    (["a", "b"], None, "ner_tags", "missing-label"),
    (["a", "b"], {"a": 1}, "ner_tags", "wrong-type"),
    (["a", "b"], ["O", None], "ner_tags[1]", "wrong-type"),
    (["a", "b"], ["O", True], "ner_tags[1]", "wrong-type"),
    (["a", "b"], ["O", 3], "ner_tags[1]", "numbered-tags"),
    (["a", "b"], ["O", "3"], "ner_tags[1]", "numbered-tags"),
    (["a", "b"], ["O", "person"], "ner_tags[1]", "bad-tag"),
    (["a", "b"], ["O", "B-"], "ner_tags[1]", "bad-tag"),
    (["a", "b"], ["o", "O"], "ner_tags[0]", "bad-tag"),
    (["a", "b"], ["O", "I-x"], "ner_tags[1]", "tag-sequence"),
    (["a", "b"], ["I-x", "O"], "ner_tags[0]", "tag-sequence"),
]


def tokens(folder: Path, seed: int, num: int = 240) -> Planted:
    rng = random.Random(seed)
    scheme = rng.choice(["BIO", "IOBES"])
    plants = _places(rng, num, BAD_SENTENCES)
    rows: list[Any] = []
    ledger: Ledger = []
    for i in range(num):
        length = rng.randint(1, 7)
        row: dict[str, Any] = {
            "id": i,
            "tokens": _tokens(rng, length),
            "ner_tags": _tags(rng, length, scheme),
        }
        if i in plants:
            row["tokens"], row["ner_tags"], field, code = plants[i]
            ledger.append((len(rows) + 1, field, code))
        rows.append(row)
    return _write_json(folder, f"tokens{seed}", rng, rows), ledger, num - len(plants), TAGS


def _bad_spans(text: str) -> list[tuple[Any, str, str]]:
    """(spans, field, code) for a text of at least two words."""
    first = text.index(" ")
    return [
        ([[0, first + 2, "x"], [first + 1, len(text), "y"]], "label[1]", "overlap"),
        ([[0, first, "x"], [0, first, "y"]], "label[1]", "overlap"),
        ([[2, 2, "x"]], "label[0]", "empty-text"),
        ([[first, first + 1, "x"]], "label[0]", "empty-text"),
        ([[0, len(text) + 1, "x"]], "label[0]", "offset"),
        ([[-1, 2, "x"]], "label[0]", "offset"),
        ([{"start": 0, "end": first, "label": "x", "text": "nowhere"}], "label[0]", "offset"),
        ([[0, "2", "x"]], "label[0][1]", "wrong-type"),
        ([[0, 1.5, "x"]], "label[0][1]", "wrong-type"),
        ([[None, 2, "x"]], "label[0][0]", "wrong-type"),
        ([[0, 2, 5]], "label[0][2]", "wrong-type"),
        ([[0, 2]], "label[0]", "wrong-type"),
        (["x"], "label[0]", "wrong-type"),
        (5, "label", "wrong-type"),
        (None, "label", "missing-label"),
    ]


def spans(folder: Path, seed: int, num: int = 240) -> Planted:
    rng = random.Random(seed)
    as_objects = rng.random() < 0.5
    plants = _places(rng, num, [*range(len(_bad_spans("a b"))), "empty", "number", "half"])
    rows: list[Any] = []
    ledger: Ledger = []
    for i in range(num):
        text = f"{clean_text(rng)} w{i} end"
        words = [at for at in range(len(text)) if text[at] != " " and (at == 0 or text[at - 1] == " ")]
        starts = sorted(rng.sample(words, min(len(words), rng.randint(0, 3))))
        found = [(at, text.index(" ", at) if " " in text[at:] else len(text), rng.choice(TYPES)) for at in starts]
        row: dict[str, Any] = {"text": text, "label": [list(span) for span in found]}
        if as_objects:
            row["label"] = [{"start": a, "end": b, "label": kind, "text": text[a:b]} for a, b, kind in found]
        plant = plants.get(i)
        if isinstance(plant, int):
            row["label"], field, code = _bad_spans(text)[plant]
            ledger.append((len(rows) + 1, field, code))
        elif plant is not None:
            row["text"] = {"empty": " ", "number": 5, "half": SURROGATE}[plant]
            code = {"empty": "empty-text", "number": "wrong-type", "half": "lone-surrogate"}[plant]
            ledger.append((len(rows) + 1, "text", code))
        rows.append(row)
    return _write_json(folder, f"spans{seed}", rng, rows), ledger, num - len(plants), TAGS


# The last turn of a broken dialogue under the keys who and what, the field inside it, the code.
BAD_TURNS: list[tuple[Any, str, str]] = [
    ({"who": "assistant", "what": " "}, ".what", "empty-text"),
    ({"who": "assistant", "what": None}, ".what", "wrong-type"),
    ({"who": "assistant", "what": 5}, ".what", "wrong-type"),
    ({"who": "assistant", "what": {"type": "image"}}, ".what[0]", "wrong-type"),
    ({"who": "assistant", "what": ["a", 5]}, ".what[1]", "wrong-type"),
    ({"who": "assistant", "what": NUL}, ".what", "nul-byte"),
    ({"who": "assistant", "what": SURROGATE}, ".what", "lone-surrogate"),
    ({"who": "assistant", "what": "x" * 300_000}, ".what", "too-large"),
    ({"who": "assistant", "what": "a", "weight": -1}, ".weight", "wrong-type"),
    ({"who": "assistant", "what": "a", "name": 5}, ".name", "wrong-type"),
    ({"who": "robot?", "what": "a"}, ".who", "unknown-role"),
    ({"who": None, "what": "a"}, ".who", "unknown-role"),
    ({"what": "a"}, "", "missing-field"),
    ("a", "", "wrong-type"),
    (None, "", "wrong-type"),
]
BAD_DIALOGUES: list[tuple[Any, str]] = [
    ([], "empty-text"),
    (5, "wrong-type"),
    (None, "wrong-type"),
    ({"a": 1}, "wrong-type"),
]


def dialogues(folder: Path, seed: int, num: int = 240) -> Planted:
    """messages or sharegpt, with system prompts, tools, parts and several rounds."""
    rng = random.Random(seed)
    sharegpt = rng.random() < 0.5
    who, what, column = ("from", "value", "conversations") if sharegpt else ("role", "content", "messages")
    names = {"user": "human", "assistant": "gpt"} if sharegpt else {}

    def turn(role: str) -> dict[str, Any]:
        said: Any = clean_text(rng)
        if not sharegpt and rng.random() < 0.2:
            said = [{"type": "text", "text": said}, {"type": "text", "value": "!"}]
        made = {who: names.get(role, role), what: said}
        return made | ({"loss_weight": rng.choice([0, 1, 0.5])} if role == "assistant" and rng.random() < 0.2 else {})

    plants = _places(rng, num, [*BAD_TURNS, *BAD_DIALOGUES, ("alone",), ("lost",)])
    rows: list[Any] = []
    ledger: Ledger = []
    for i in range(num):
        turns: Any = [turn("system")] if rng.random() < 0.3 else []
        for _ in range(rng.randint(1, 3)):
            turns += [turn("user"), turn("assistant")]
        row: dict[str, Any] = {"id": f"{seed}-{i}", column: turns}
        plant = plants.get(i)
        if plant is not None and len(plant) == 3:
            bad, inside, code = plant
            inside = inside.replace("who", who).replace("what", what)
            turns[-1] = (
                {{"who": who, "what": what}.get(k, k): v for k, v in bad.items()} if isinstance(bad, dict) else bad
            )
            ledger.append((len(rows) + 1, f"{column}[{len(turns) - 1}]{inside}", code))
        elif plant is not None and len(plant) == 2:
            row[column], code = plant
            ledger.append((len(rows) + 1, column, code))
        elif plant == ("alone",):
            row[column] = [turn("user")]
            ledger.append((len(rows) + 1, f"{column}[0].{what}", "no-answer"))
        elif plant == ("lost",):
            del row[column]
            ledger.append((len(rows) + 1, column, "missing-field"))
        rows.append(row)
    return _write_json(folder, f"chat{seed}", rng, rows), ledger, num - len(plants), CHAT


BAD_PARTS: list[tuple[str, Any, str]] = [
    *((part, 5, "wrong-type") for part in ("instruction", "input", "output", "system")),
    *((part, [1], "wrong-type") for part in ("instruction", "output")),
    *((part, NUL, "nul-byte") for part in ("instruction", "output", "system")),
    *((part, SURROGATE, "lone-surrogate") for part in ("instruction", "output")),
    *(("output", value, "empty-text") for value in ("", " \n")),
    *((part, None, "wrong-type") for part in ("instruction", "output")),
]


def alpaca(folder: Path, seed: int, num: int = 240) -> Planted:
    rng = random.Random(seed)
    plants = _places(rng, num, BAD_PARTS)
    rows: list[Any] = []
    ledger: Ledger = []
    for i in range(num):
        row: dict[str, Any] = {"instruction": clean_text(rng), "input": "", "output": clean_text(rng)}
        row["system"] = rng.choice(["", "be kind"])
        if i in plants:
            part, value, code = plants[i]
            row[part] = value
            field = "instruction" if part == "input" and code == "nul-byte" else part
            ledger.append((len(rows) + 1, field, code))
        rows.append(row)
    return _write_json(folder, f"alpaca{seed}", rng, rows), ledger, num - len(plants), CHAT


BAD_LISTS: list[tuple[Any, str, str]] = [
    (None, "", "missing-label"),
    ("nan", "", "missing-label"),
    ([None], "[0]", "missing-label"),
    (["a", ""], "[1]", "missing-label"),
    ([["a"]], "[0]", "wrong-type"),
    ([0.5], "[0]", "wrong-type"),
    ({"a": 1}, "", "wrong-type"),
    (0.5, "", "wrong-type"),
    (["a", NUL], "[1]", "nul-byte"),
    ([SURROGATE], "[0]", "lone-surrogate"),
]
BAD_NUMBERS: list[tuple[Any, str]] = [
    *((value, "wrong-type") for value in ("x", "1,5", "1_0", True, [1], {"a": 1}, "٣", "--1")),
    *((value, "missing-label") for value in (None, "", "nan")),
    *((value, "not-a-number") for value in ("inf", "1e999", 10**400)),
]


def labels(folder: Path, seed: int, num: int = 240) -> Planted:
    rng = random.Random(seed)
    plants = _places(rng, num, BAD_LISTS)
    rows: list[Any] = []
    ledger: Ledger = []
    for i in range(num):
        row = {"text": clean_text(rng), "labels": rng.sample(["a", "b", "c, d", "é", 5], rng.randint(0, 3))}
        if i in plants:
            row["labels"], place, code = plants[i]
            ledger.append((len(rows) + 1, f"labels{place}", code))
        rows.append(row)
    return _write_json(folder, f"labels{seed}", rng, rows), ledger, num - len(plants), LABELS


def numbers(folder: Path, seed: int, num: int = 240) -> Planted:
    rng = random.Random(seed)
    form: Form = rng.choice([NUMBER, SCORED])
    plants = _places(rng, num, BAD_NUMBERS)
    rows: list[Any] = []
    ledger: Ledger = []
    for i in range(num):
        row: dict[str, Any] = {f.name: prose(rng, 5) for f in form.inputs}
        row["score"] = rng.choice([i, i / 7, f"{i / 7}", f" {i}e-3 "])
        if i in plants:
            row["score"], code = plants[i]
            ledger.append((len(rows) + 1, "score", code))
        rows.append(row)
    return _write_json(folder, f"numbers{seed}", rng, rows), ledger, num - len(plants), form


KINDS = {
    "conll": conll,
    "tokens": tokens,
    "spans": spans,
    "dialogues": dialogues,
    "alpaca": alpaca,
    "labels": labels,
    "numbers": numbers,
}
