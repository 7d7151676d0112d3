"""The import fuzzer for tagged sentences, dialogues, several labels and numbers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from data_forms import prose
from data_fuzz import NUM, Builder, Fuzzed, Sheet, clean_text, dumps, places

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


def _mentions(rng: random.Random, length: int) -> list[tuple[int, int, str]]:
    """Mentions in a sentence as (first word, the one after the last, type)."""
    found, at = [], 0
    while at < length:
        size = min(length - at, rng.randint(1, 3))
        if rng.random() < 0.5:
            found.append((at, at + size, rng.choice(TYPES)))
        at += size
    return found


def _tags(found: list[tuple[int, int, str]], length: int, scheme: str) -> list[str]:
    tags = ["O"] * length
    for start, end, kind in found:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
        if scheme == "IOBES":
            tags[end - 1] = f"{'S' if end - start == 1 else 'E'}-{kind}"
    return tags


def conll(folder: Path, seed: int) -> Fuzzed:
    """Two or four columns, tabs or blanks, comments, documents; broken lines and tags in the middle."""
    rng = random.Random(seed)
    tabs, columns, scheme = rng.random() < 0.5, rng.choice([2, 4]), rng.choice(["BIO", "IOBES"])
    cut, middle = ("\t", ["NN", "I-NP"]) if tabs else (" ", ["NN", "I-NP"])
    words = [word for word in WORDS if tabs or not word.isspace()]
    sheet = Sheet(rng, folder, f"fuzz{seed}.conll", "token-classification")
    plants = places(rng, NUM, ["short", "long", "tag", "case", "first", "after", "nul", "stray"] * 3)
    for i in range(NUM):
        if rng.random() < 0.1:
            sheet.add("-DOCSTART-" + cut + "O")
            sheet.add("")
        if rng.random() < 0.1:
            sheet.add(f"# sent_id = {seed}-{i}")
        length = rng.randint(3, 7)
        found = [] if i in plants else _mentions(rng, length)
        tokens = [rng.choice(words) if rng.random() < 0.3 else f"w{i}x{k}" for k in range(length)]
        rows = [[t, *(middle if columns == 4 else []), tag] for t, tag in zip(tokens, _tags(found, length, scheme))]
        if i in plants:
            _spoiled_sentence(sheet, rows, plants[i], rng.randint(1, length - 1), scheme, cut)
        else:
            for k, cells in enumerate(rows):
                if k == 0:
                    sheet.keep(cut.join(cells), tokens=tokens, tags=_tags(found, length, "BIO"))
                else:
                    sheet.add(cut.join(cells))
        for blank in rng.choices(["", "\t", "  "], k=rng.randint(1, 2)):
            sheet.add(blank)
    return sheet.written(ends=("\n", "\r\n"))


def _spoiled_sentence(sheet: Sheet, rows: list[list[str]], kind: str, at: int, scheme: str, cut: str) -> None:
    """A sentence without mentions whose line number `at` is broken."""
    name, code = {
        "short": ("", "ragged-row"),
        "long": ("", "ragged-row"),
        "tag": ("tags", "bad-tag"),
        "case": ("tags", "bad-tag"),
        "nul": ("tokens", "nul-byte"),
        "stray": ("tokens", "bad-encoding"),
    }.get(kind, ("tags", "tag-sequence"))
    cells = rows[at]
    if kind == "short":
        del cells[1:]
        cells[0] = cells[0] if cells[0].strip() else "w"  # alone on its line it would be an empty one
    elif kind == "long":
        cells.insert(1, "extra")
    elif kind in ("nul", "stray"):
        cells[0] = {"nul": NUL, "stray": "caf\udce9"}[kind]
    elif kind == "after":
        rows[at - 1][-1], cells[-1] = ("B-person", "I-x") if scheme == "BIO" else ("S-x", "E-x")
    else:
        cells[-1] = {"tag": "person", "case": "b-person", "first": "I-person"}[kind]
    value = cut.join(cells) if not name else cells[-1] if name == "tags" else cells[0]
    for k, line in enumerate(rows):
        if k == at:
            sheet.plant(cut.join(line), name, code, value)
        else:
            sheet.add(cut.join(line))


# (words, tags) of a broken row, the field, the code and the value that must be reported.
BAD_SENTENCES: list[tuple[Any, Any, str, str, Any]] = [
    (["a", "b"], ["O"], "ner_tags", "uneven-lists", ["O"]),
    (["a"], ["O", "O"], "ner_tags", "uneven-lists", ["O", "O"]),
    ([], [], "tokens", "empty-text", []),
    (["a", ""], ["O", "O"], "tokens[1]", "empty-text", ""),
    (["a", " "], ["O", "O"], "tokens[1]", "empty-text", " "),
    (["a", 5], ["O", "O"], "tokens[1]", "wrong-type", 5),
    (["a", None], ["O", "O"], "tokens[1]", "wrong-type", None),
    (["a", ["b"]], ["O", "O"], "tokens[1]", "wrong-type", ["b"]),
    (["a", NUL], ["O", "O"], "tokens[1]", "nul-byte", NUL),
    (["a", SURROGATE], ["O", "O"], "tokens[1]", "lone-surrogate", SURROGATE),
    (["a", "x" * 300_000], ["O", "O"], "tokens[1]", "too-large", "x" * 300_000),
    (7, ["O"], "tokens", "wrong-type", 7),
    ({"a": 1}, ["O"], "tokens", "wrong-type", {"a": 1}),
    (None, ["O"], "tokens", "wrong-type", None),
    (["a", "b"], None, "ner_tags", "missing-label", None),
    (["a", "b"], {"a": 1}, "ner_tags", "wrong-type", {"a": 1}),
    (["a", "b"], ["O", None], "ner_tags[1]", "wrong-type", None),
    (["a", "b"], ["O", True], "ner_tags[1]", "wrong-type", True),
    (["a", "b"], ["O", 3], "ner_tags[1]", "numbered-tags", 3),
    (["a", "b"], ["O", "3"], "ner_tags[1]", "numbered-tags", "3"),
    (["a", "b"], ["O", "person"], "ner_tags[1]", "bad-tag", "person"),
    (["a", "b"], ["O", "B-"], "ner_tags[1]", "bad-tag", "B-"),
    (["a", "b"], ["o", "O"], "ner_tags[0]", "bad-tag", "o"),
    (["a", "b"], ["O", "I-x"], "ner_tags[1]", "tag-sequence", "I-x"),
    (["a", "b"], ["I-x", "O"], "ner_tags[0]", "tag-sequence", "I-x"),
]


def tokens(folder: Path, seed: int) -> Fuzzed:
    """Lists of words and of tags."""
    rng = random.Random(seed)
    scheme = rng.choice(["BIO", "IOBES"])
    sheet = Sheet(rng, folder, f"tokens{seed}.jsonl", "token-classification")
    plants = places(rng, NUM, BAD_SENTENCES)
    for i in range(NUM):
        length = rng.randint(1, 7)
        found = _mentions(rng, length)
        words = [rng.choice(WORDS) if rng.random() < 0.3 else f"w{rng.randrange(999)}" for _ in range(length)]
        row: dict[str, Any] = {"id": i, "tokens": words, "ner_tags": _tags(found, length, scheme)}
        if i in plants:
            row["tokens"], row["ner_tags"], name, code, value = plants[i]
            sheet.plant(dumps(rng, row), name, code, value)
        else:
            sheet.keep(dumps(rng, row), tokens=words, tags=_tags(found, length, "BIO"))
    return sheet.written()


# The last turn of a broken dialogue under the keys who and what, the field inside it, the code, the value.
BAD_TURNS: list[tuple[Any, str, str, Any]] = [
    ({"who": "assistant", "what": " "}, ".what", "empty-text", " "),
    ({"who": "assistant", "what": None}, ".what", "wrong-type", None),
    ({"who": "assistant", "what": 5}, ".what", "wrong-type", 5),
    ({"who": "assistant", "what": {"type": "image"}}, ".what[0]", "wrong-type", {"type": "image"}),
    ({"who": "assistant", "what": ["a", 5]}, ".what[1]", "wrong-type", 5),
    ({"who": "assistant", "what": NUL}, ".what", "nul-byte", NUL),
    ({"who": "assistant", "what": SURROGATE}, ".what", "lone-surrogate", SURROGATE),
    ({"who": "assistant", "what": "x" * 300_000}, ".what", "too-large", "x" * 300_000),
    ({"who": "assistant", "what": "a", "weight": -1}, ".weight", "wrong-type", -1),
    ({"who": "assistant", "what": "a", "name": 5}, ".name", "wrong-type", 5),
    ({"who": "robot?", "what": "a"}, ".who", "unknown-role", "robot?"),
    ({"who": None, "what": "a"}, ".who", "unknown-role", None),
    ({"what": "a"}, "", "missing-field", {"what": "a"}),
    ("a", "", "wrong-type", "a"),
    (None, "", "wrong-type", None),
]
BAD_DIALOGUES: list[tuple[Any, str]] = [
    ([], "empty-text"),
    (5, "wrong-type"),
    (None, "wrong-type"),
    ({"a": 1}, "wrong-type"),
]
_KEYS = {"messages": {"who": "role", "what": "content"}, "conversations": {"who": "from", "what": "value"}}


def _dialogues(folder: Path, seed: int, column: str) -> Fuzzed:
    rng = random.Random(seed)
    keys = _KEYS[column]
    who, what = keys["who"], keys["what"]
    names = {"user": "human", "assistant": "gpt"} if who == "from" else {}
    sheet = Sheet(rng, folder, f"{column}{seed}.jsonl", "generation")
    plants = places(rng, NUM, [*BAD_TURNS, *BAD_DIALOGUES, ("alone",), ("lost",)])

    def turn(role: str) -> tuple[dict[str, Any], tuple[str, str]]:
        """A turn as it is written, and what must be read."""
        text = clean_text(rng)
        said: Any = text
        if not names and rng.random() < 0.2:
            said = [{"type": "text", "text": text}, {"type": "text", "value": "!"}]
            text += "!"
        made = {who: names.get(role, role), what: said}
        weighed = {"loss_weight": rng.choice([0, 1, 0.5])} if role == "assistant" and rng.random() < 0.2 else {}
        return made | weighed, (role, text)

    for i in range(NUM):
        roles = ["system"] * (rng.random() < 0.3) + ["user", "assistant"] * rng.randint(1, 3)
        made = [turn(role) for role in roles]
        turns: Any = [written for written, _ in made]
        row: dict[str, Any] = {"id": f"{seed}-{i}", column: turns}
        plant = plants.get(i)
        if plant is None:
            sheet.keep(dumps(rng, row), turns=[read for _, read in made])
            continue
        name, code, value = column, "missing-field", None
        if len(plant) == 4:
            bad, inside, code, value = plant
            turns[-1] = {keys.get(k, k): v for k, v in bad.items()} if isinstance(bad, dict) else bad
            name = f"{column}[{len(turns) - 1}]{inside.replace('who', who).replace('what', what)}"
            value = turns[-1] if value == {"what": "a"} else value
        elif len(plant) == 2:
            row[column], code = plant
            value = row[column]
        elif plant == ("alone",):
            row[column] = [turn("user")[0]]
            name, code = f"{column}[0].{what}", "no-answer"
        else:
            del row[column]
        sheet.plant(dumps(rng, row), name, code, value)
    return sheet.written()


def messages(folder: Path, seed: int) -> Fuzzed:
    return _dialogues(folder, seed, "messages")


def sharegpt(folder: Path, seed: int) -> Fuzzed:
    return _dialogues(folder, seed, "conversations")


def _bad_parts(given: str, system: str, answer: str) -> list[tuple[str, Any, str]]:
    """(column, value, code) for a row of an instruction and its answer."""
    return [
        *((part, 5, "wrong-type") for part in (given, answer, system)),
        *((part, [1], "wrong-type") for part in (given, answer)),
        *((part, NUL, "nul-byte") for part in (given, answer, system)),
        *((part, SURROGATE, "lone-surrogate") for part in (given, answer)),
        *((part, "x" * 300_000, "too-large") for part in (given, answer)),
        *((answer, value, "empty-text") for value in ("", " \n")),
        *((part, None, "wrong-type") for part in (given, answer)),
    ]


def alpaca(folder: Path, seed: int) -> Fuzzed:
    rng = random.Random(seed)
    sheet = Sheet(rng, folder, f"alpaca{seed}.jsonl", "generation")
    plants = places(rng, NUM, [*_bad_parts("instruction", "system", "output"), ("input", 5, "wrong-type")])
    for i in range(NUM):
        row: dict[str, Any] = {"instruction": clean_text(rng), "input": "", "output": clean_text(rng)}
        row["input"] = rng.choice(["", clean_text(rng)])
        row["system"] = rng.choice(["", "be kind"])
        asked = "\n".join(text for text in (row["instruction"], row["input"]) if text)
        turns = [("system", "be kind")] * bool(row["system"]) + [("user", asked), ("assistant", row["output"])]
        if i in plants:
            name, row[name], code = plants[i]
            if row[name] in ("x" * 300_000, SURROGATE, NUL):
                row["input"] = ""
            sheet.plant(dumps(rng, row), name, code, row[name])
        else:
            sheet.keep(dumps(rng, row), turns=turns)
    return sheet.written()


def prompts(folder: Path, seed: int) -> Fuzzed:
    """A prompt and its completion, as texts or as lists of turns."""
    rng = random.Random(seed)
    sheet = Sheet(rng, folder, f"prompts{seed}.jsonl", "generation")
    plants = places(rng, NUM, _bad_parts("prompt", "system", "completion"))
    for i in range(NUM):
        asked, said = clean_text(rng), clean_text(rng)
        row: dict[str, Any] = {"prompt": asked, "completion": said, "system": ""}
        if i in plants:
            name, row[name], code = plants[i]
            sheet.plant(dumps(rng, row), name, code, row[name])
            continue
        if rng.random() < 0.3:
            row["prompt"] = [{"role": "user", "content": asked}]
        sheet.keep(dumps(rng, row), turns=[("user", asked), ("assistant", said)])
    return sheet.written()


BAD_LISTS: list[tuple[Any, str, str, Any]] = [
    (None, "", "missing-label", None),
    ("nan", "", "missing-label", "nan"),
    ([None], "[0]", "missing-label", None),
    (["a", ""], "[1]", "missing-label", ""),
    ([["a"]], "[0]", "wrong-type", ["a"]),
    ([0.5], "[0]", "wrong-type", 0.5),
    ({"a": 1}, "", "wrong-type", {"a": 1}),
    (0.5, "", "wrong-type", 0.5),
    (["a", NUL], "[1]", "nul-byte", NUL),
    ([SURROGATE], "[0]", "lone-surrogate", SURROGATE),
]
BAD_NUMBERS: list[tuple[Any, str]] = [
    *((value, "wrong-type") for value in ("x", "1,5", "1_0", True, [1], {"a": 1}, "٣", "--1")),
    *((value, "missing-label") for value in (None, "", "nan")),
    *((value, "not-a-number") for value in ("inf", "1e999", 10**400)),
]


def labels(folder: Path, seed: int) -> Fuzzed:
    rng = random.Random(seed)
    about = {"problem_type": "multi_label_classification"}
    sheet = Sheet(rng, folder, f"labels{seed}.jsonl", "classification", **about)
    plants = places(rng, NUM, BAD_LISTS)
    for i in range(NUM):
        some = rng.sample(["a", "b", "c, d", "é", 5], rng.randint(0, 3))
        row: dict[str, Any] = {"text": clean_text(rng), "labels": some}
        if i in plants:
            row["labels"], place, code, value = plants[i]
            sheet.plant(dumps(rng, row), f"labels{place}", code, value)
        else:
            sheet.keep(dumps(rng, row), text=row["text"], labels=sorted(map(str, row["labels"])))
    return sheet.written()


def numbers(folder: Path, seed: int) -> Fuzzed:
    """A number to estimate, or how alike two texts are."""
    rng = random.Random(seed)
    task, about = rng.choice([("classification", {"problem_type": "regression"}), ("embedding", {"loss": "cosine"})])
    sheet = Sheet(rng, folder, f"numbers{seed}.jsonl", task, **about)
    plants = places(rng, NUM, BAD_NUMBERS)
    for i in range(NUM):
        row: dict[str, Any] = {f.name: prose(rng, 5) for f in sheet.made.form.inputs}
        row["score"] = rng.choice([i, i / 7, f"{i / 7}", f" {i}e-3 "])
        if i in plants:
            row["score"], code = plants[i]
            sheet.plant(dumps(rng, row), "score", code, row["score"])
        else:
            sheet.keep(dumps(rng, row), score=float(row["score"]))
    return sheet.written()


KINDS: dict[str, Builder] = {
    "conll": conll,
    "tokens": tokens,
    "messages": messages,
    "sharegpt": sharegpt,
    "alpaca": alpaca,
    "prompts": prompts,
    "labels": labels,
    "numbers": numbers,
}
