"""The import fuzzer for answers and character spans: starts that are wrong in every way that has been seen."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_fuzz import NUM, Builder, Fuzzed, Plant, Sheet, clean_text, dumps, places

TYPES = ("person", "creative-work", "x")
SURROGATE = "half \ud83d"
# What stands before every answer, so that each way to count gives another number.
FRONT = "Été 👩‍👩‍👧 \r\n  𝔘 "
# A start as others count it: (context, place) -> start. The words are right, so the right place must be offered.
COUNTS: dict[str, Callable[[str, int], Any]] = {
    "one too many": lambda context, at: at + 1,
    "one too few": lambda context, at: at - 1,
    "bytes": lambda context, at: len(context[:at].encode()),
    "UTF-16 units": lambda context, at: len(context[:at].encode("utf-16-le")) // 2,
    "line ends as one": lambda context, at: at - context.count("\r\n", 0, at),
    "zero": lambda context, at: 0,
    "negative": lambda context, at: -1,
    "past the end": lambda context, at: 10**9,
    "fraction": lambda context, at: at + 0.5,
}
# The words in another spelling than the context's.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "case": str.upper,
    "white space": lambda words: words.replace(" ", "  "),
    "line break": lambda words: words.replace(" ", "\n"),
}


def _question(rng: random.Random, name: str, context: str, answer: str) -> dict[str, Any]:
    return {
        "id": name,
        "question": f"which is {name}?",
        "answers": [{"text": answer, "answer_start": context.index(answer)}],
        "is_impossible": False,
    }


def _spoil(row: dict[str, Any], kind: str, context: str) -> tuple[str, str, Any, str]:
    """Break a question; (field, code, value, what must be offered)."""
    answer = row["answers"][0]
    at, words = answer["answer_start"], answer["text"]
    if kind in COUNTS:
        answer["answer_start"] = start = COUNTS[kind](context, at)
        return "answers[0].answer_start", "offset", start, f'"{words}" (found at {at}'
    if kind in SPELLINGS:
        answer["text"] = SPELLINGS[kind](words)
        return "answers[0].text", "answer-not-in-context", answer["text"], f'"{words}" (found at {at}'
    if kind == "impossible":
        row["is_impossible"] = True
        return "is_impossible", "impossible-with-answers", True, ""
    if kind == "unanswered":
        row["answers"] = []
        return "answers", "missing-label", [], ""
    name, value, code = {
        "text": ("answer_start", str(at), "wrong-type"),
        "true": ("answer_start", True, "wrong-type"),
        "nowhere": ("text", "nowhere to be found", "answer-not-in-context"),
        "number": ("text", 7, "wrong-type"),
        "empty": ("text", " ", "empty-text"),
        "half": ("text", SURROGATE, "answer-not-in-context"),
    }.get(kind, ("", None, "wrong-type"))
    if not name:
        row["question"] = None
        return "question", code, None, ""
    answer[name] = value
    return f"answers[0].{name}", code, value, ""


KINDS = (*COUNTS, *SPELLINGS, "impossible", "unanswered", "text", "true", "nowhere", "number", "empty", "half", "asked")


def _passage(rng: random.Random, p: int) -> tuple[str, list[str]]:
    """A context and the eight answers in it, each in one place."""
    answers = [f"unique{p}x{q} of{p}" for q in range(8)]
    parts = [*(clean_text(rng) for _ in range(5)), *answers]
    rng.shuffle(parts)
    return FRONT + " ".join(parts) + ".", answers


def squad(folder: Path, seed: int) -> Fuzzed:
    """A nested file, pretty-printed."""
    rng = random.Random(seed)
    made = Fuzzed(folder / f"squad{seed}.json", "question-answering")
    paragraphs, told = [], dict[str, tuple[str, str, Any, str]]()
    kept: dict[str, dict[str, Any]] = {}
    plants = places(rng, NUM, KINDS)
    for p in range(-(-NUM // 8)):
        context, answers = _passage(rng, p)
        questions = []
        for q in range(min(8, NUM - 8 * p)):
            row = _question(rng, f"{p}-{q}", context, answers[q])
            start = row["answers"][0]["answer_start"]
            if 8 * p + q in plants:
                told[row["id"]] = _spoil(row, plants[8 * p + q], context)
            else:
                spans = [{"text": answers[q], "start": start}]
                kept[row["id"]] = {"question": row["question"], "context": context, "answers": spans}
            questions.append(row)
        paragraphs.append({"context": context, "qas": questions})
    data = {"version": "v2.0", "data": [{"title": "T", "paragraphs": paragraphs}]}
    text = json.dumps(data, indent=1, ensure_ascii=rng.random() < 0.5 or "half" in KINDS)
    for i, line in enumerate(text.split("\n")):
        if '"id": "' in line:  # the question's object begins on the line above its id
            name = line.split('"')[3]
            if name in told:
                made.plants.append(Plant(i, *told[name]))
            else:
                made.clean[i, 0] = kept[name]
    made.path.write_text(text, "utf-8")
    return made


def squad_flat(folder: Path, seed: int) -> Fuzzed:
    """One question a line, its answers as lists beside each other."""
    rng = random.Random(seed)
    sheet = Sheet(rng, folder, f"flat{seed}.jsonl", "question-answering")
    plants = places(rng, NUM, KINDS)
    for i in range(NUM):
        context, answers = _passage(rng, i)
        row = _question(rng, f"{seed}-{i}", context, rng.choice(answers))
        (answer,) = row["answers"]
        kept = {"context": context, "answers": [{"text": answer["text"], "start": answer["answer_start"]}]}
        told = _spoil(row, plants[i], context) if i in plants else None
        listed = row["answers"]
        row["answers"] = {key: [a[key] for a in listed] for key in ("text", "answer_start")}
        row["context"] = context
        line = dumps(rng, row)
        if told is None:
            sheet.keep(line, **kept)
            continue
        name, code, value, offers = told
        name = name.replace("answers[0].", "answers.") + "[0]" * name.startswith("answers[0].")
        sheet.plant(line, name, code, {"text": [], "answer_start": []} if value == [] else value, offers)
    return sheet.written()


def _bad_spans(text: str, word: tuple[int, int]) -> list[tuple[Any, str, str, Any, str]]:
    """(spans, field, code, value, offer) for a text of at least two words; `word` is a place in it."""
    first = text.index(" ")
    start, end = word
    said = text[start:end]

    def other(start: int, end: int, offers: str) -> tuple[Any, str, str, Any, str]:
        span = {"start": start, "end": end, "label": "x", "text": said}
        return [span], "label[0]", "offset", f"[{start}, {end}, x]", offers

    shift = len(text[:start].encode("utf-16-le")) // 2 - start
    bytes_ = len(text[:start].encode()) - start
    at = f"(found at {start})"
    return [
        (
            [[0, first + 2, "x"], [first + 1, len(text), "y"]],
            "label[1]",
            "overlap",
            f"[{first + 1}, {len(text)}, y]",
            "",
        ),
        ([[0, first, "x"], [0, first, "y"]], "label[1]", "overlap", f"[0, {first}, y]", ""),
        ([[2, 2, "x"]], "label[0]", "empty-text", "[2, 2, x]", ""),
        ([[3, 2, "x"]], "label[0]", "empty-text", "[3, 2, x]", ""),
        ([[first, first + 1, "x"]], "label[0]", "empty-text", f"[{first}, {first + 1}, x]", ""),
        ([[0, len(text) + 1, "x"]], "label[0]", "offset", f"[0, {len(text) + 1}, x]", f"0 to {len(text)}"),
        ([[-1, 2, "x"]], "label[0]", "offset", "[-1, 2, x]", f"0 to {len(text)}"),
        other(start + 1, end + 1, at),
        other(start - 1, end - 1, at),
        other(start + shift, end + shift, at),
        other(start + bytes_, end + bytes_, at),
        other(start, end - 1, "the file counts an end as the last character"),
        other(0, end - start, at),
        ([[0, "2", "x"]], "label[0][1]", "wrong-type", "2", ""),
        ([[0, 1.5, "x"]], "label[0][1]", "wrong-type", 1.5, ""),
        ([[None, 2, "x"]], "label[0][0]", "wrong-type", None, ""),
        ([[0, 2, 5]], "label[0][2]", "wrong-type", 5, ""),
        ([[0, 2, ""]], "label[0][2]", "wrong-type", "", ""),
        ([[0, 2]], "label[0]", "wrong-type", [0, 2], ""),
        (["x"], "label[0]", "wrong-type", "x", ""),
        (5, "label", "wrong-type", 5, ""),
        (None, "label", "missing-label", None, ""),
    ]


def spans(folder: Path, seed: int) -> Fuzzed:
    """Character spans as doccano exports them, or as objects."""
    rng = random.Random(seed)
    as_objects = rng.random() < 0.5
    names = rng.choice([("start", "end"), ("start_offset", "end_offset")])
    sheet = Sheet(rng, folder, f"spans{seed}.jsonl", "token-classification")
    texts = {"empty": (" ", "empty-text"), "number": (5, "wrong-type"), "half": (SURROGATE, "lone-surrogate")}
    plants = places(rng, NUM, [*range(len(_bad_spans("a b c", (2, 3)))), *texts])
    for i in range(NUM):
        text = f"{FRONT}{clean_text(rng)} w{i} and so on until the very end of all of it"
        starts = [at for at in range(len(text)) if text[at].isalnum() and (at == 0 or text[at - 1].isspace())]
        words = [(at, next(k for k in range(at, len(text) + 1) if not text[k : k + 1].isalnum())) for at in starts]
        found = [(*place, rng.choice(TYPES)) for place in sorted(rng.sample(words, min(len(words), rng.randint(0, 3))))]
        row: dict[str, Any] = {"text": text, "label": [list(span) for span in found]}
        if as_objects:
            row["label"] = [{names[0]: a, names[1]: b, "label": kind, "text": text[a:b]} for a, b, kind in found]
        plant = plants.get(i)
        if plant is None:
            sheet.keep(dumps(rng, row), text=text, spans=found)
        elif isinstance(plant, int):
            place = text.rindex(f"w{i} ")
            row["label"], name, code, value, offers = _bad_spans(text, (place, place + len(f"w{i}")))[plant]
            sheet.plant(dumps(rng, row), name, code, value, offers)
        else:
            row["text"], code = texts[plant]
            sheet.plant(dumps(rng, row), "text", code, row["text"])
    return sheet.written()


ANSWERS: dict[str, Builder] = {"squad": squad, "squad-flat": squad_flat, "spans": spans}
