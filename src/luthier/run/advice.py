"""Which base model to begin with: what fits the task, the memory and the language, ranked by a probe on the rows.

A probe asks what the model, untouched, already knows of these rows: how well its features tell labels apart, find the
answering sentence or the right passage; or how few bits a character of the texts costs it. It reads at most a few
hundred rows and trains no weight of the model. Models that are not on this disk cannot be probed and come last.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import numpy as np

from luthier import config
from luthier.config import Section
from luthier.data import load
from luthier.errors import DataError, LuthierError, NoColumn
from luthier.methods import METHODS
from luthier.records import Form, Row
from luthier.tasks import TASKS, Task, make_task
from luthier.tasks.retrieval.scores import rank_correlation, rank_counts
from luthier.training.events import Event, Phase

from .recipe import TaskSettings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from luthier.engine.device import Machine

MOST_ROWS = 300  # rows a probe looks at
MOST_TOKENS = 128  # of a text that a probe reads
MOST_LABELS = 20  # of several a row, whose rows a probe tells apart
FOLDS = 3
WORKING = 1_200_000_000  # bytes beside weights: libraries, activations of one micro-batch


@dataclass
class Candidate:
    """A base model: what it is, whether it fits, and what a probe found (`score`: more is better).

    `tokens_per_word` and `score` are None for a model that is not on this disk; `memory` is bytes.
    """

    name: str
    family: str
    kind: str
    parameters: int
    licence: str
    languages: tuple[str, ...]
    max_length: int | None
    here: bool
    memory: int
    method: str
    score: float | None = None
    probe: str = ""
    tokens_per_word: float | None = None
    reasons: list[str] = field(default_factory=list)


@dataclass
class Advice:
    """Candidates in order, and those that were left out with the reason."""

    task: str
    rows: int
    language: str
    candidates: list[Candidate]
    left_out: list[tuple[str, str]]

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "rows": self.rows,
            "language": self.language,
            "candidates": [asdict(one) for one in self.candidates],
            "left_out": [{"name": name, "why": why} for name, why in self.left_out],
        }


def suggest(
    task: str,
    data: str,
    *,
    memory: int | None = None,
    method: str = "full",
    language: str | None = None,
    columns: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    listen: Callable[[Event], None] | None = None,
) -> Advice:
    """Candidates for a task and its rows. `memory` is bytes (None: no limit); `language` a code such as "en" (None:
    judged from the rows); `columns` (field -> column of the file) says which is which where the names do not;
    `overrides` are "task.KEY=VALUE" strings. RecipeError where the task has no such setting,
    DataError where no row can be read.
    """
    emit = listen or (lambda event: None)
    kind = _of(config.check({"task": {"name": task}}, _Asked, overrides).task)
    emit(Phase("reading rows"))
    rows = _rows(data, kind, columns or {})
    spread = np.random.default_rng(7).permutation(len(rows))[:MOST_ROWS]
    some = [rows[int(i)] for i in sorted(spread)]
    texts = [text for row in some for text in _texts(row, kind.form)]
    language = language or _language(texts)
    fit, left_out = _filtered(_candidates(method), kind, method, memory, language)
    here = [one for one in fit if one.here]
    for number, one in enumerate(here):
        emit(Phase("probing the models on this disk", number, len(here), "models"))
        try:
            _probe(one, kind, some, texts)
        except LuthierError as error:
            left_out.append((one.name, error.found))
            one.score = math.nan
    fit = [one for one in fit if one.score is None or not math.isnan(one.score)]
    fit.sort(key=lambda one: (one.kind not in kind.kinds, one.score is None, -(one.score or 0.0), one.parameters))
    for place, one in enumerate(fit):
        _reason(one, kind, place, language)
    return Advice(kind.name, len(rows), language, fit, left_out)


class _Asked(Section):
    """The block of a recipe that says what rows hold."""

    task: TaskSettings


def _of(options: Any) -> Task:
    return TASKS[options.name](options)


def _rows(data: str, task: Task, columns: Mapping[str, str]) -> list[Row]:
    """Rows of this task; DataError where there are none, with the settings under which there are some."""
    try:
        if rows := load(data, task.form, columns=columns).rows:
            return rows
        fix = f"luthier check {data} --task {task.name}"
        raise DataError("it holds no row that can be read", where=data, fix=fix)
    except DataError as error:
        misspelt = isinstance(error, NoColumn) and error.missing.get(task.form.target)
        ways = [] if misspelt else [way for form, way in _other_forms(task).items() if _reads(data, form, columns)]
        if not ways:
            raise
        few = min(len(way) for way in ways)
        said = " or ".join(" ".join(way) for way in ways if len(way) == few)
        raise DataError(error.found, where=error.where, fix=f"say what a row holds: {said}") from None


def _other_forms(task: Task) -> dict[Form, list[str]]:
    """What a row holds under other settings of the task, and the fewest that make it so, as `--set` takes them."""
    choices = {
        key: (False, True) if info.annotation is bool else get_args(info.annotation)
        for key, info in type(task.options).model_fields.items()
        if info.annotation is bool or get_origin(info.annotation) is Literal
    }
    ways: dict[Form, list[str]] = {}
    for values in product(*choices.values()):
        changes = {key: value for key, value in zip(choices, values) if value != getattr(task.options, key)}
        said = [f"--set task.{key}={str(value).lower()}" for key, value in changes.items()]
        form = _of(task.options.model_copy(update=changes)).form
        ways[form] = min(ways.get(form, said), said, key=len)
    del ways[task.form]
    return ways


def _reads(data: str, form: Form, columns: Mapping[str, str]) -> bool:
    """Whether it holds rows of this form, with nothing guessed."""
    try:
        found = load(data, form, columns=columns)
    except DataError:
        return False
    return bool(found.rows) and all(fault.code != "guessed-columns" for fault in found.faults)


def _candidates(method: str) -> list[Candidate]:
    """The catalogue, this disk and the known families, each once."""
    from luthier.models import CATALOGUE, inspect, listing
    from luthier.models.families import FAMILIES

    found: dict[str, Candidate] = {}
    known = {one.name: one for one in FAMILIES}
    for row in listing():
        if row["what"] != "model":
            continue
        entry, card = CATALOGUE.get(row["name"]), known.get(row["name"])
        languages = entry.languages if entry else card.languages if card else ()
        limit = entry.max_length if entry else card.max_length if card else None
        if row["here"] and limit is None and row["path"]:
            limit = inspect(Path(row["path"])).max_length
        family = card.family if card else _family(row["path"], str(row["summary"]))
        if row["kind"]:
            found[row["name"]] = Candidate(
                row["name"], family, row["kind"], int(row["parameters"] or 0), row["licence"] or "not said",
                languages, limit, bool(row["here"]), 0, method,
            )  # fmt: skip
    for card in FAMILIES:
        found.setdefault(
            card.name,
            Candidate(
                card.name, card.family, card.kind, card.parameters, card.licence, card.languages,
                card.max_length, False, 0, method,
            ),
        )  # fmt: skip
    for one in found.values():
        one.memory = WORKING + one.parameters * METHODS[method].bytes_a_weight
    return list(found.values())


def _family(path: str | None, summary: str) -> str:
    """The architecture's name as people write it, from config.json; the summary's where nothing is here."""
    from luthier.models.kinds import read_config

    names = {
        "bert": "BERT",
        "roberta": "RoBERTa",
        "deberta-v2": "DeBERTa",
        "modernbert": "ModernBERT",
        "t5": "T5",
    }
    names |= {"bart": "BART", "gpt2": "GPT-2", "llama": "LLaMA", "qwen2": "Qwen", "qwen3": "Qwen"}
    if path is None:
        return summary.split(":")[0]
    kind = str(read_config(Path(path)).get("model_type", ""))
    return names.get(kind, kind)


def _filtered(
    candidates: Sequence[Candidate], task: Task, method: str, memory: int | None, language: str
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    way = METHODS[method](METHODS[method].Options())
    fit, left_out = [], []
    for one in candidates:
        as_done = make_task(task.options, one.kind, way)
        if one.kind not in (way.kinds if way.own_head else as_done.kinds & way.kinds):
            left_out.append((one.name, f"its kind, {one.kind}, cannot do {task.name} with {method}"))
        elif memory is not None and one.memory > memory:
            left_out.append(
                (
                    one.name,
                    f"{one.method} needs about {one.memory / 1e9:.1f} GB, {memory / 1e9:.1f} GB are there",
                )
            )
        elif one.languages and language not in one.languages and "many" not in one.languages and language != "?":
            left_out.append((one.name, f"it reads {', '.join(one.languages)}, the rows are {language}"))
        else:
            fit.append(one)
    return fit, left_out


def _texts(row: Row, form: Form) -> list[str]:
    out = []
    for one in form.inputs:
        value = row[one.name]
        if isinstance(value, str):
            out.append(value)
        elif one.kind == "tokens":
            out.append(" ".join(value))
        elif one.kind == "messages":
            out += [str(turn.get("content") or "") for turn in value]
    return [text for text in out if text.strip()]


def _language(texts: Sequence[str]) -> str:
    """ "en" where English function words are a fifth of the words; "?" where nothing can be said."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = [word for text in texts[:500] for word in text.lower().split()]
    share = sum(word in ENGLISH_STOP_WORDS for word in words) / max(1, len(words))
    return "en" if share > 0.2 else "?"


def _probe(one: Candidate, task: Task, rows: Sequence[Row], texts: Sequence[str]) -> None:
    """Fill in the candidate's score, and how many tokens its tokenizer makes of a word."""
    import transformers

    from luthier.engine.device import find_machine, keep_memory
    from luthier.models import home, load_pretrained, load_tokenizer, resolve
    from luthier.models.quiet import quiet_transformers

    keep_memory()
    source = resolve(one.name, fetch_missing=False)
    tokenizer = load_tokenizer(source)
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    one.tokens_per_word = round(sum(map(len, encoded)) / max(1, sum(len(text.split()) for text in texts)), 3)
    machine = find_machine("auto", home() / "machine.json")
    class_name = {"encoder": "AutoModel", "decoder": "AutoModelForCausalLM"}.get(one.kind, "AutoModelForSeq2SeqLM")
    with quiet_transformers():
        model = load_pretrained(source, getattr(transformers, class_name), head=("pooler",))
    model = model.to(machine.device).eval()
    if one.kind == "encoder" and (found := _FEATURE_PROBES.get((task.name, task.form[task.form.target].kind))):
        one.probe, probe = found
        one.score = round(probe(lambda some: _features(model, tokenizer, some, machine), task, rows), 4)
    elif one.kind == "decoder":
        one.probe = "bits a character of the texts costs it (fewer is better)"
        one.score = round(-_bits(model, tokenizer, texts, machine), 4)


def _features(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], machine: Machine
) -> np.ndarray:
    """texts x width: the mean over each text's tokens."""
    import torch

    from luthier.engine.heads import pool

    out = np.zeros((len(texts), int(model.config.hidden_size)), np.float32)  # type: ignore[union-attr,arg-type]
    order = np.argsort([len(text) for text in texts])
    for start in range(0, len(order), 16):
        part = order[start : start + 16]
        batch = tokenizer(
            [texts[i] for i in part],
            truncation=True,
            max_length=MOST_TOKENS,
            padding=True,
            return_tensors="pt",
        ).to(machine.device)
        with torch.inference_mode(), machine.autocast():
            states = model(**batch).last_hidden_state
        out[part] = pool(states.float(), batch["attention_mask"]).cpu().numpy()
    return out


Featured = Callable[[Sequence[str]], np.ndarray]


def _given(features: Featured, task: Task, rows: Sequence[Row]) -> np.ndarray:
    """rows x width: a text's features; of a pair both, their distance and their product (Conneau and Kiela 2018,
    arxiv.org/abs/1803.05449).
    """
    parts = [features([str(row[one.name]) for row in rows]) for one in task.form.inputs]
    if len(parts) == 2:
        parts += [np.abs(parts[0] - parts[1]), parts[0] * parts[1]]
    return np.hstack(parts)


def _label_told(features: Featured, task: Task, rows: Sequence[Row]) -> float:
    return _told_apart(_given(features, task, rows), [str(row["label"]) for row in rows])


def _labels_told(features: Featured, task: Task, rows: Sequence[Row]) -> float:
    """The mean over the commonest labels of telling rows that have one from those that do not."""
    x = _given(features, task, rows)
    common = Counter(label for row in rows for label in row["labels"]).most_common(MOST_LABELS)
    told = [_told_apart(x, [str(label in row["labels"]) for row in rows]) for label, _ in common]
    return float(np.mean(told)) if told else 0.0


def _number_told(features: Featured, task: Task, rows: Sequence[Row]) -> float:
    """R² of a ridge regression on the features, three folds; 0 where the mean does as well."""
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = [float(row["score"]) for row in rows]
    if len(numbers) < 2 * FOLDS or len(set(numbers)) == 1:
        return 0.0
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 6)))
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    return max(0.0, float(r2_score(numbers, cross_val_predict(model, _given(features, task, rows), numbers, cv=folds))))


def _told_apart(x: np.ndarray, labels: Sequence[str]) -> float:
    """Macro F1 of a logistic regression on the features `x` (rows x width), three folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    often = [i for i, label in enumerate(labels) if labels.count(label) >= FOLDS]
    kept = [labels[i] for i in often]
    if len(set(kept)) < 2:
        return 0.0
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1, random_state=0))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    told = cross_val_predict(model, x[often], kept, cv=folds)
    return float(f1_score(kept, told, average="macro", zero_division=0.0))


def _tags_told_apart(features: Featured, task: Task, rows: Sequence[Row]) -> float:
    """Macro F1 of telling entity types by the features of their mentions and of as many other words."""
    mentions: list[tuple[str, str]] = []
    for row in rows:
        for token, tag in zip(row["tokens"], row["tags"]):
            if tag != "O" or (len(token) > 3 and len(mentions) % 2):
                mentions.append((token, tag.rpartition("-")[2]))
    some = mentions[:600]
    return _told_apart(features([text for text, _ in some]), [label for _, label in some]) if some else 0.0


def _sentence_found(features: Featured, task: Task, rows: Sequence[Row]) -> float:
    """Mean reciprocal rank of the sentence with the answer, among its passage's, by likeness to the question."""
    from luthier.evidence.baselines.sentences import sentences

    asked, held, right = [], [], []
    for row in rows:
        if row["answers"]:
            spans = sentences(str(row["context"]))
            start = row["answers"][0]["start"]
            asked.append(str(row["question"]))
            held.append([row["context"][a:b] for a, b in spans])
            right.append(next((i for i, (a, b) in enumerate(spans) if a <= start < b), 0))
    if not asked:
        return 0.0
    questions, flat = _normal(features(asked)), _normal(features([text for some in held for text in some]))
    total, at = 0.0, 0
    for question, some, place in zip(questions, held, right):
        likeness = flat[at : at + len(some)] @ question
        total += 1.0 / (1 + int((likeness > likeness[place]).sum()))
        at += len(some)
    return total / len(asked)


def _passage_found(features: Featured, task: Task, rows: Sequence[Row]) -> float:
    """Mean reciprocal rank of each anchor's positive among all positives."""
    one, other = _both(features, rows)
    likeness = one @ other.T
    ranks = 1 + (likeness > np.diag(likeness)[:, None]).sum(1)
    return float((1 / ranks).mean())


def _likeness_found(features: Featured, task: Task, rows: Sequence[Row]) -> float:
    """Spearman's rank correlation of cosines and scores; 0 where there is none."""
    one, other = _both(features, rows)
    sums = rank_counts([float(x) for x in (one * other).sum(1)], [float(row["score"]) for row in rows]).sum(0)
    return max(0.0, float(np.nan_to_num(rank_correlation(sums))))


def _both(features: Featured, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and positives, each vector of length 1."""
    one, other = (_normal(features([str(row[name]) for row in rows])) for name in ("anchor", "positive"))
    return one, other


def _normal(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


_FEATURE_PROBES: dict[tuple[str, str], tuple[str, Callable[[Featured, Task, Sequence[Row]], float]]] = {
    ("classification", "label"): ("macro F1 of a logistic regression on its features", _label_told),
    ("classification", "labels"): ("macro F1 of logistic regressions on its features, mean over labels", _labels_told),
    ("classification", "number"): ("R² of a ridge regression on its features", _number_told),
    ("token-classification", "tags"): ("macro F1 of telling mentions apart by its features", _tags_told_apart),
    ("question-answering", "spans"): ("MRR of the answering sentence by likeness to the question", _sentence_found),
    ("embedding", "text"): ("MRR of the right passage by likeness", _passage_found),
    ("embedding", "number"): ("rank correlation of likeness and score", _likeness_found),
}
"""By task and kind of target."""


def _bits(model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], machine: Machine) -> float:
    """Bits a character: comparable between tokenizers, which tokens are not."""
    import torch

    bits = characters = 0.0
    for text in list(texts)[:64]:
        ids = tokenizer(text, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")["input_ids"]
        if ids.shape[1] < 2:
            continue
        ids = ids.to(machine.device)
        with torch.inference_mode(), machine.autocast():
            logits = model(input_ids=ids).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        bits += float(loss) / math.log(2)
        characters += len(tokenizer.decode(ids[0, 1:], skip_special_tokens=True))
    return bits / max(1.0, characters)


def _reason(one: Candidate, task: Task, place: int, language: str) -> None:
    """Why it stands where it stands, in words."""
    article = "an" if one.kind.startswith("e") else "a"
    if one.kind in task.kinds:
        one.reasons.append(f"{article} {one.kind}, the kind {task.name} trains")
    else:
        one.reasons.append(f"{article} {one.kind}: it is asked in words, slower and mostly weaker at this size")
    if one.score is not None:
        one.reasons.append(f"{one.probe}: {abs(one.score):.3f}")
    elif not one.here:
        one.reasons.append("not on this disk, so not probed; to fetch it:")
        one.reasons.append(f"luthier models get {one.name}")
    if one.tokens_per_word is not None:
        said = "fits these words" if one.tokens_per_word < 1.6 else "cuts these words into many pieces"
        one.reasons.append(f"{one.tokens_per_word:.2f} tokens a word: its tokenizer {said}")
    one.reasons.append(f"{one.method} needs about {one.memory / 1e9:.1f} GB")
    if "many" in one.languages and language == "en":
        one.reasons.append("multilingual: part of it is for other languages")
