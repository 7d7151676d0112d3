"""From an audit to data and a recipe that correct what it found; test rows stay, so that the cost can be told."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luthier import config
from luthier.data import leaks
from luthier.data.options import NO_GROUPS
from luthier.errors import InputError
from luthier.evidence.bias.corrections import counterfactuals, groups_of, labels_of, removed, reweighted
from luthier.evidence.bias.terms import Axis, Terms, read_terms
from luthier.files import publish, write_json, write_jsonl, write_text
from luthier.records import Form, Row
from luthier.tasks import Task
from luthier.training.debias import refuse_unfit

from .auditing import ORIGIN, audit, split_rows
from .recipe import Recipe
from .use import Listener, Run

WEIGHT, GROUP = "audit_weight", "audit_group"
FEWEST_VALIDATION = 30  # rows: of fewer none is left out
FLIPS_LEFT = 0.5  # of the flip rate, what a drafted rule may leave
_RULES = """\
# What is done to answers before `luthier predict` gives them. Read it, change it, and put it into the run's folder.
# Drafted from an audit: answers to texts that name these groups are refused{where}. Of {pairs:,} answers to
# swapped texts {before:.1%} changed without the rule; with it {after:.1%} do, and {refused:.0%} are refused.
rules:
- name: {name}
  in: input                  # or: answer
  words: [{words}]
{below}  then: refuse               # or: flag, or: replace (with: the text in its place)
"""


def correct(
    run: Run,
    means: str,
    groups: Sequence[str] = (),
    terms: str | Path | None = None,
    out: str | Path | None = None,
    *,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """Write corrected rows and a recipe for them into `out`: `{"sentence", "folder", "files", "next", ...}`.

    `means`: reweighting, removal, counterfactual, adversarial or filter. A run without an audit is audited first. By
    the column `groups` names, else by the words whose swap flips most answers.
    """
    emit = listen or (lambda event: None)
    folder = Path(out) if out is not None else Path(f"corrected-{means}")
    _refuse_full(folder)
    found = run.audited or audit(run, groups, terms, listen=listen)
    lists = read_terms(terms or found["asked"]["terms"])
    if means == "filter":
        return _draft_rules(run, found, lists, folder)
    splits, task, recipe = split_rows(run, emit), run.task(), run.recipe
    by = _by(found, groups, lists, means)
    train, options, sentence = _corrected(means, by, splits, task, recipe, found, lists)
    validation, told = _validation(splits["validation"], task.form, by, recipe.seed)
    splits, sentence = {**splits, "validation": validation}, sentence + told
    corrected = _recipe(recipe, splits, task, options)
    refuse_unfit(corrected.train, task, recipe.method.name)
    name = by if isinstance(by, str) else by.name
    about = {"origin": str(run.path.resolve()), "means": means, "by": name, "rows": len(train), "sentence": sentence}

    def write(place: Path) -> None:
        for split, rows in {**splits, "train": train}.items():
            if rows:
                write_jsonl(place / f"{split}.jsonl", (_as_line(row, task.form) for row in rows))
        write_text(place / "recipe.yaml", config.dump(corrected))
        write_json(place / ORIGIN, about)

    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir():
        folder.rmdir()
    publish(folder, write)
    asked = f" --groups {shlex.quote(','.join(found['asked']['groups']))}" if found["asked"]["groups"] else ""
    asked += f" --terms {shlex.quote(str(lists.file))}" if lists.file else ""
    commands = [f"luthier train {shlex.quote(str(folder / 'recipe.yaml'))}", f"luthier audit last{asked}"]
    return {**about, "folder": str(folder), "files": sorted(str(p) for p in folder.iterdir()), "next": commands}


def _as_line(row: Row, form: Form) -> dict[str, Any]:
    """A row as files hold it: the answer to a dialogue is its last turn."""
    fields = {**row.fields, "id": row.id}
    turns = next((one.name for one in form.inputs if one.kind == "messages"), None)
    if turns is not None:
        fields[turns] = [*fields[turns], {"role": "assistant", "content": fields.pop(form.target)}]
    return fields


def _refuse_full(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("it is there already", where=str(folder), fix="name another folder with --out")


def _by(found: Mapping[str, Any], groups: Sequence[str], lists: Terms, means: str) -> str | Axis:
    """What tells groups apart: a column, or an axis of words."""
    known = {axis.name: axis for axis in lists.axes}
    swaps = [one for one in found["swaps"] if one["flips"] and one["axis"] in known]
    if groups and means != "counterfactual":
        return groups[0]
    if swaps:
        # By what the flip rate is at least: one flip of three pairs says less than a hundred flips of a thousand.
        return known[max(swaps, key=lambda one: (one["flips_interval"][0], one["flips"]))["axis"]]
    if found["asked"]["groups"] and means != "counterfactual":
        return str(found["asked"]["groups"][0])
    raise InputError(
        "the audit found no answer that changes with a group's words, so there is nothing to correct",
        where=f"--correct {means}",
        fix="name a column of groups with --groups, or word lists with --terms",
    )


def _corrected(
    means: str,
    by: str | Axis,
    splits: Mapping[str, list[Row]],
    task: Task,
    recipe: Recipe,
    found: Mapping[str, Any],
    lists: Terms,
) -> tuple[list[Row], dict[str, Any], str]:
    """(training rows, changes of the train block, what was done)."""
    rows, form = splits["train"], task.form
    if means == "counterfactual":
        flipping = {one["axis"] for one in found["swaps"] if one["flips"]}
        axes = [axis for axis in lists.axes if axis.name in flipping]
        made = counterfactuals(rows, form, axes)
        held = [*splits["validation"], *splits["test"]]
        twins = {leak["row"] for leak in leaks(held, made, form, NO_GROUPS)} if held and made else set()
        made = [row for row in made if row.id not in twins]  # such a copy would leak a held-out row
        names = ", ".join(axis.name for axis in axes)
        return [*rows, *made], {}, f"{len(made):,} training rows were added with groups swapped ({names})."
    groups = groups_of(rows, form, by)
    named = sum(bool(group) for group in groups)
    if len({group for group in groups if group}) < 2:
        raise InputError(
            f"the training rows name {len({g for g in groups if g})} group, expected at least two",
            where=f"--correct {means}",
            fix="name another column with --groups",
        )
    labels = labels_of(rows, form)
    if means == "removal":
        kept = removed(groups, labels, recipe.seed)
        said = (
            f"{len(rows) - len(kept):,} of {len(rows):,} training rows were left out; group and label are independent."
        )
        return [rows[i] for i in kept], {}, said
    weights = reweighted(groups, labels)
    old = [float(row.get(recipe.train.row_weights, 1.0)) for row in rows] if recipe.train.row_weights else None
    total = weights if old is None else weights * np.array(old)
    weighed = [_with(row, WEIGHT, round(float(weight), 6)) for row, weight in zip(rows, total)]
    said = f"{named:,} of {len(rows):,} training rows got weights from {weights.min():.2f} to {weights.max():.2f}."
    if means == "reweighting":
        return weighed, {"row_weights": WEIGHT}, said
    # With weights the labels themselves no longer pull towards the group, so that the adversary has a game to win.
    with_group = [_with(row, GROUP, group) for row, group in zip(weighed, groups)]
    debias = recipe.train.debias.model_copy(update={"column": GROUP})
    said += " They carry their group, and an adversary makes the encoder unlearn it."
    return with_group, {"row_weights": WEIGHT, "debias": debias}, said


def _validation(rows: list[Row], form: Form, by: str | Axis, seed: int) -> tuple[list[Row], str]:
    """(validation rows in which group and label are independent, what was done): on the others the checkpoint that
    leans on the group most would score best and be kept. All rows where that is impossible or leaves too few.
    """
    groups = groups_of(rows, form, by)
    if not any(groups):
        return rows, ""
    try:
        kept = removed(groups, labels_of(rows, form), seed)
    except InputError:
        return rows, ""
    if not FEWEST_VALIDATION <= len(kept) < len(rows):
        return rows, ""
    said = f" So that checkpoints are chosen by what is not the group, {len(rows) - len(kept):,} of {len(rows):,} "
    return [rows[i] for i in kept], f"{said}validation rows were left out."


def _with(row: Row, name: str, value: Any) -> Row:
    return Row(row.id, {**row.fields, name: value}, row.file, row.line)


def _recipe(recipe: Recipe, splits: Mapping[str, Sequence[Row]], task: Task, train: Mapping[str, Any]) -> Recipe:
    """The run's recipe over the corrected files; all else as it was."""
    first = splits["train"][0]
    plain = ("text", "label", "labels", "number", "tokens", "tags")
    line = _as_line(first, task.form)
    columns = {f.name: f.name for f in task.form.fields if f.kind in plain and f.name in line}
    files = {name: f"{name}.jsonl" if splits[name] else 0.0 for name in ("validation", "test")}
    data = recipe.data.model_copy(
        update={"train": "train.jsonl", **files, "columns": columns, "label_names": [], "format": "auto"}
    )
    return recipe.model_copy(update={"data": data, "train": recipe.train.model_copy(update=dict(train))})


def _draft_rules(run: Run, found: Mapping[str, Any], lists: Terms, folder: Path) -> dict[str, Any]:
    """rules.yaml, from the axis whose swap flips most answers."""
    axis = _by(found, (), lists, "counterfactual")
    assert isinstance(axis, Axis)
    swaps = next(one for one in found["swaps"] if one["axis"] == axis.name)
    words = dict.fromkeys(word for row in (*axis.rows, *axis.before_noun) for word in row if word)
    below, after, refused = _threshold(list(swaps["confidences"].values()))
    text = _RULES.format(
        where=" where the model is less sure than `below`" if below else "",
        pairs=swaps["pairs"],
        before=swaps["flips"],
        after=after,
        refused=refused,
        name=f"{'unsure about ' if below else ''}{axis.name}",
        words=", ".join(config.quoted(word) for word in words),
        below=f"  below: {below}\n" if below else "",
    )
    about = {"origin": str(run.path.resolve()), "means": "filter", "by": axis.name}

    def write(place: Path) -> None:
        write_text(place / "rules.yaml", text)
        write_json(place / ORIGIN, about)

    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir():
        folder.rmdir()
    publish(folder, write)
    commands = [
        f"cp {shlex.quote(str(folder / 'rules.yaml'))} {shlex.quote(str(run.folder.rules))}",
        f"luthier audit {shlex.quote(str(run.path))}" + (f" --terms {shlex.quote(lists.file)}" if lists.file else ""),
    ]
    sentence = "A rule was drafted; read it before it is put to work."
    files = sorted(str(p) for p in folder.iterdir())
    return {**about, "sentence": sentence, "folder": str(folder), "files": files, "next": commands}


def _threshold(pairs: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """(the lowest confidence under which refusing leaves FLIPS_LEFT of the flips, flip rate then, share refused).

    An answer that is refused beside one that is given is a flip, too. 0: all must be refused.
    """
    table = np.array(pairs, dtype=float)
    rate = table[:, 2].mean()
    for below in np.unique(np.ceil(table[:, :2].ravel() * 1000 + 1) / 1000):
        refused = table[:, :2] < below
        left = float(np.where(refused.any(1), refused[:, 0] != refused[:, 1], table[:, 2] > 0).mean())
        if left <= FLIPS_LEFT * rate and not refused.all():
            return float(below), left, float(refused[:, 0].mean())
    return 0.0, 0.0, 1.0
