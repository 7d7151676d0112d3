"""The model card: README.md of `model/`, in the Hugging Face form, with the same facts as the report.

YAML front matter (https://huggingface.co/docs/hub/model-cards) with the results as a model-index, then plain
words: what the model does, the verdict, scores beside baselines, training, data, limits, how to load it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from ..scores.measures import as_text, difference_text, interval_text, measure
from ..scores.score import BASELINES
from .content import ReportContent, count_text, memory_text, model_text, printable, time_text

PIPELINES = {
    "classification": "text-classification",
    "question-answering": "question-answering",
    "token-classification": "token-classification",
    "generation": "text-generation",
    "seq2seq": "text2text-generation",
    "embedding": "sentence-similarity",
    "pretraining": "fill-mask",
}
# The hub's own names of scores, where it has one.
HUB_METRICS = {
    **{"macro_f1": "f1", "micro_f1": "f1", "has_answer_f1": "f1", "no_answer_f1": "f1", "rouge_l": "rouge"},
    **{"subset_accuracy": "accuracy", "r2": "r_squared", "pearson": "pearsonr"},
}
DOES = {
    "classification": "It gives a text one of a fixed set of labels, with a confidence.",
    "question-answering": "It answers a question with a stretch of a given passage, or says that the passage "
    "holds no answer.",
    "token-classification": "It marks the entities in a text.",
    "generation": "It continues a prompt.",
    "seq2seq": "It turns one text into another.",
    "embedding": "It turns a text into a vector; like texts get like vectors.",
    "pretraining": "It predicts hidden words; it is a starting point for further tuning.",
}
# What a task does in another form than its usual one, by the score that then decides.
DOES_BY_SCORE = {
    "micro_f1": "It gives a text any number of a fixed set of labels, perhaps none, each with a probability.",
    "r2": "It gives a text a number.",
}
MOST_TROUBLES = 8
# Notes that tell what was looked at beside scores, in the order of a card; as warnings they stand under limits.
LOOKED_AT = (
    *("label-errors", "learning-curve", "memorised", "calibrated", "robust", "negation-unread", "general-language"),
    *("remembered", "augmentation", "beats-previous", "level-with-previous", "judged", "not-looked-at"),
)
LONGEST_RECIPE = 40_000


def card(content: ReportContent, *, loading: str) -> str:
    """The card as markdown. `loading` is Python that loads the model and answers once; given verbatim."""
    does = DOES_BY_SCORE.get(content.primary, DOES.get(content.task, ""))
    verb = "tuned" if content.trained else "prompted"
    parts = [
        f"---\n{_front_matter(content)}---\n",
        f"# {_line(model_text(content.model.name))} {verb} for {_line(content.task.replace('-', ' '))}\n",
        f"{does} {verb.capitalize()} with luthier (method {_line(content.method)}, run "
        f"{_line(content.run)}) on {_line(content.date[:10])}.\n",
        "## Should it be used?\n",
        f"**{content.verdict.word.capitalize()}.** {_line(content.verdict.sentence)}\n",
        _scores(content),
        _found(content),
        _training(content),
        _data(content),
        _limits(content),
        f"## How to load it\n\n{_fenced(loading, 'python')}\n",
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(content: ReportContent) -> str:
    from ruamel.yaml import YAML

    model, pipeline = content.model, PIPELINES.get(content.task)
    facts: dict[str, Any] = {"library_name": model.library}
    if pipeline == "fill-mask" and model.kind == "decoder":
        pipeline = "text-generation"
    if pipeline:
        facts["pipeline_tag"] = pipeline
    if model.hub_id:
        facts["base_model"] = _plain(model.hub_id)
    if model.license:
        facts["license"] = _plain(model.license)
    facts["tags"] = ["luthier", _plain(content.task), _plain(content.method)]
    facts["model-index"] = [{"name": _plain(content.run), "results": [_result(content, pipeline or content.task)]}]
    out = io.StringIO()
    yaml = YAML()
    yaml.width = 200
    yaml.dump(facts, out)
    return out.getvalue()


def _result(content: ReportContent, pipeline: str) -> dict[str, Any]:
    metrics = [
        {"type": HUB_METRICS.get(key, key), "name": measure(key).name, "value": round(value, 4)}
        for key, value in content.evaluation.scores.items()
    ]
    name = _plain(", ".join(file.name for file in content.data.files)) or "private rows"
    dataset = {"name": name, "type": "private", "split": "test"}
    return {"task": {"type": pipeline, "name": content.task}, "dataset": dataset, "metrics": metrics}


def _scores(content: ReportContent) -> str:
    evaluation, names = content.evaluation, content.baseline_names
    baselines = [name for name in BASELINES if name in evaluation.baselines]
    keys = sorted(evaluation.scores, key=lambda key: key != content.primary)
    rows = [
        [
            measure(key).name,
            as_text(key, evaluation.scores[key]),
            interval_text(key, *evaluation.intervals[key]),
            *(as_text(key, evaluation.baselines[name].get(key, float("nan"))) for name in baselines),
        ]
        for key in keys
    ]
    header = ["score", content.tuned.split()[0], "95 % interval", *(names.get(name, name) for name in baselines)]
    differences = {
        name: evaluation.differences[name][content.primary]
        for name in baselines
        if content.primary in evaluation.differences.get(name, {})
    }
    on = {name: f", on the {count:,} rows that can be compared" for name, count in evaluation.asked.items()}
    told = [
        f"- against {_line(names.get(name, name))}: {difference_text(content.primary, difference)}{on.get(name, '')}"
        for name, difference in differences.items()
    ]
    groups = f" in {evaluation.groups:,} independent groups" if evaluation.groups != evaluation.rows else ""
    lead = f"On {evaluation.rows:,} test rows{groups} that had no part in training:"
    paired = (
        f"\nPaired difference in {measure(content.primary).name}, on the same rows:\n\n" + "\n".join(told)
        if told
        else ""
    )
    return f"## Scores\n\n{lead}\n\n{_table(header, rows)}\n{paired}\n"


def _found(content: ReportContent) -> str:
    """What was looked at beside scores and came out well, and the kinds of rows."""
    notes = {finding.id: finding for finding in content.all_findings if finding.severity == "note"}
    lines = [f"- {_line(notes[name].sentence)}" for name in LOOKED_AT if name in notes]
    parts = ["## What else was found", "", "\n".join(lines)] if lines else []
    if content.slices is not None:
        table = content.slices.table()
        rows = [[str(cell) for cell in row] for row in table.rows]
        parts += ["## What else was found"] * (not lines)
        parts += ["", "By kind of rows:" if content.slices.weak else _line(content.slices.sentence()), ""]
        parts += [_table(table.header, rows).rstrip()]
    return "\n".join(parts) + "\n" if parts else ""


def _training(content: ReportContent) -> str:
    model = content.model
    base = (
        f"[{_line(model.hub_id)}](https://huggingface.co/{quote(_plain(model.hub_id))})"
        if model.hub_id
        else _line(model.name)
    )
    trained = f"{count_text(model.trained_parameters)} of {count_text(model.parameters)} parameters trained"
    facts = [
        f"- base model: {base}",
        f"- base sha256: `{_line(model.sha256)}`" if model.sha256 else "",
        f"- method: {_line(content.method)}" + (f", {trained}" if model.parameters else ""),
        f"- training time: {time_text(content.seconds)}" if content.seconds else "",
        f"- peak memory: {memory_text(content.peak_memory)}" if content.peak_memory else "",
        *(f"- {_line(str(name))}: {_line(str(value))}" for name, value in content.environment.items() if value != ""),
    ]
    recipe = (
        f"\n\nThe recipe:\n\n{_fenced(printable(content.recipe, LONGEST_RECIPE), 'yaml')}" if content.recipe else ""
    )
    return "## How it was trained\n\n" + "\n".join(fact for fact in facts if fact) + recipe + "\n"


def _data(content: ReportContent) -> str:
    data = content.data
    lines = [
        "## Data",
        "",
        _table(["split", "rows"], [[split, f"{rows:,}"] for split, rows in data.rows.items()]),
    ]
    lines += [f"- {_line(file.name)} ({_line(file.format)}), sha256 `{_line(file.sha256)}`" for file in data.files]
    lines += [f"- found by the check: {fault.count} x {_line(fault.code)} ({fault.severity})" for fault in data.faults]
    lines += [f"- {_line(note)}" for note in (*data.moves, *data.notes)]
    return "\n".join(lines) + "\n"


def _limits(content: ReportContent) -> str:
    troubles = [finding for finding in content.all_findings if finding.severity != "note"][:MOST_TROUBLES]
    lines = [f"- {_line(finding.sentence)}" for finding in troubles]
    lines.append(
        "- The scores hold for rows like those of the test split. On other sources, languages or times they "
        "may be lower; score a sample of your own rows first (`luthier evaluate`)."
    )
    if content.task == "question-answering":
        lines.append("- It copies its answer from the passage; it does not know whether the passage is true.")
    return "## Limits\n\n" + "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [[_line(cell) for cell in line] for line in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _fenced(text: str, language: str) -> str:
    """`text` in a code fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def _plain(text: str) -> str:
    """Text without control characters, on one line: fit for a YAML value."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+", " ", text).strip()


def _line(text: str) -> str:
    """Data as one line of markdown that is read as text: no markup, no table or block of its own."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", _plain(text))
