"""The verdict: `use it`, `do not use it` or `not proven`, by these rules, the first that holds deciding.

| rule                                                                             | word          |
|----------------------------------------------------------------------------------|---------------|
| a finding is a blocker                                                           | do not use it |
| there are no test rows, or the deciding score could not be computed              | not proven    |
| over a tenth of the labels look wrong: what it is scored by cannot be believed   | not proven    |
| the tuned model is worse than a baseline: the whole interval of the paired       | do not use it |
| difference lies below zero                                                       |               |
| a baseline (trivial, classical, untuned) was not computed                        | not proven    |
| fewer than 30 test rows, or fewer than 10 independent groups of rows             | not proven    |
| the interval of the difference to a baseline holds zero                          | not proven    |
| the whole interval lies above zero for all of them                               | use it        |

Having to beat all needs no correction for their number: each must hold at 95 % (Berger 1982). Where the untuned model
could be asked with examples in its prompt (few-shot), it is one of them.

All other warnings and notes never change the word; they stand beside it, the gravest first, before other baselines that
were not beaten; what speaks of other texts and uses (LESSER) stands behind these. Better than every baseline
can still be wrong on most rows: that is a warning, and part of the sentence. A test set that earlier runs have scored
is said so, as a warning from the tenth run on: choosing among many runs by one test makes its best score too good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..records import Finding
from .scores.intervals import Difference
from .scores.measures import as_text, difference_text, interval_text, measure
from .scores.score import BASELINES, OPTIONAL, UNTUNED, Evaluation

Word = Literal["use it", "do not use it", "not proven"]

FEWEST_ROWS = 30
FEWEST_GROUPS = 10
REUSED_OFTEN = 10
DECIDING = 3  # findings shown beside the word
WRONG_LABELS = 0.1  # share of labels that look wrong, at the least, beyond which scores say little
# Warnings in the order in which they matter to somebody who has to decide; what is not named comes last.
GRAVEST = (
    *("leakage", "leakage-choices", "leakage-validation", "label-errors", "label-in-text"),
    *("swap", "group-gap", "stereotypes", "bbq"),
    *("diverged", "learned-nothing", "overfit", "underfit", "forgot", "memorised", "often-wrong", "cut-off"),
    *("overconfident", "underconfident", "alarm", "judged", "weak-slice", "worse-than-previous"),
)
# These stand behind all that decided: they speak of other texts, other uses, or what to do next.
LESSER = (
    *("fragile", "forgot-general", "test-set-reused", "no-validation-split", "benchmark-overlap", "learning-curve"),
)
FAMILIES = ("fragile-", "not-better-than-")
MOST_ROWS = 100_000  # more test rows than this are not advised
OFTEN_WRONG = 0.5  # a score below this, of those that tell how much is right
_PROMPTED = "more examples (method.k), a prompt of your own (method.prompt), a larger model"  # where nothing is trained
TELLS_RIGHT = ("f1", "macro_f1", "micro_f1")

PLAIN_NAMES = {
    "trivial": "the trivial answer",
    "classical": "the cheap classical method",
    "untuned": "the untuned model",
    "few-shot": "the untuned model with examples in its prompt",
}
NUMBERS = {3: "three", 4: "four"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, the sentence that gives the reason, up to three findings that decide, and all made here."""

    word: Word
    sentence: str
    because: tuple[Finding, ...]
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "verdict": self.word,
            "sentence": self.sentence,
            "because": [finding.id for finding in self.because],
            "findings": [finding.as_json() for finding in self.findings],
        }


def decide(
    evaluation: Evaluation,
    findings: Sequence[Finding],
    primary: str,
    ledger_count: int = 1,
    names: Mapping[str, str] | None = None,
    trained: bool = True,
) -> Verdict:
    """The verdict on a test evaluation, given what else was found about the run.

    `primary` is the deciding score's key; `ledger_count` how many runs have scored these test rows, this one
    included; `names` what the baselines are called (score.BASELINES -> words); `trained` whether any weight was.
    """
    called = {
        name: f"{plain} ({names[name]})" if names and name in names and name in ("trivial", "classical") else plain
        for name, plain in PLAIN_NAMES.items()
    }
    if names and names.get("untuned", UNTUNED) != UNTUNED:
        called["untuned"] = f"the {names['untuned']}"
        called["few-shot"] = f"the {names['untuned']} with examples in its prompt"
    held = [name for name in BASELINES if evaluation.rows and (name not in OPTIONAL or name in evaluation.baselines)]
    partly = {"few-shot" for one in findings if one.id == "few-shot-asked" and one.remedy}  # can be asked more rows
    compared = [_compare(name, called[name], evaluation, primary, trained, name in partly) for name in held]
    few = _few_rows(evaluation, worse=bool(_came_out(compared, "worse")))
    reused, low = _reused(ledger_count), _often_wrong(evaluation, primary, trained)
    blockers = [finding for finding in findings if finding.severity == "blocker"]
    wrong = [one for one in findings if one.id == "label-errors" and one.severity == "warning"]
    doubted = [one for one in wrong if one.numbers.get("low", 0.0) > WRONG_LABELS]
    word, sentence, because = _rule(evaluation, primary, blockers, compared, few, doubted)
    if word == "use it" and low:
        sentence += " It is still wrong on many rows: let a person look at its answers."
    # One reason, then the gravest warnings; what else was beaten or not stands in the sentence, too.
    first = len(because) if blockers else 1
    warnings = [one for one in (*low, *reused, *findings) if one.severity == "warning" and one not in because]
    warnings.sort(key=_gravity)
    grave = [one for one in warnings if _gravity(one) < len(GRAVEST)]
    rest, lesser = because[first:], warnings[len(grave) :]
    because = [*because[:first], *grave, *(lesser + rest if word == "use it" else rest + lesser)]
    families: dict[str, Finding] = {}  # of findings that say the same of several things the gravest
    for one in because:
        families.setdefault(next((name for name in FAMILIES if one.id.startswith(name)), one.id), one)
    made = [*(against.finding for against in compared), *few, *low, *reused]
    return Verdict(word, sentence, tuple(list(families.values())[:DECIDING]), tuple(made))


def with_audit(written: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A verdict as findings.json has it, an audit's findings added: a blocker among them forbids the model's use."""
    again = {finding["id"] for finding in findings}  # an audit looks at more rows than a run's own swaps
    out = {**written, "findings": [*(one for one in written["findings"] if one["id"] not in again), *findings]}
    blockers = [finding for finding in findings if finding["severity"] == "blocker"]
    if blockers and written["verdict"] != "do not use it":
        out["verdict"], out["sentence"] = "do not use it", blockers[0]["sentence"]
        out["because"] = [finding["id"] for finding in blockers][:DECIDING]
    return out


@dataclass(frozen=True, slots=True)
class _Against:
    """The tuned model against one baseline: how it came out, its finding, and words for the sentence.

    `floor` is the lower end of the difference turned so that more is better.
    """

    outcome: Literal["beats", "level", "worse", "missing"]
    who: str
    finding: Finding
    floor: float = math.nan


def _rule(
    evaluation: Evaluation,
    primary: str,
    blockers: Sequence[Finding],
    compared: Sequence[_Against],
    few: Sequence[Finding],
    doubted: Sequence[Finding] = (),
) -> tuple[Word, str, list[Finding]]:
    """The first rule of the module's table that holds: its word, its sentence, its findings."""
    worse, missing, level = (_came_out(compared, outcome) for outcome in ("worse", "missing", "level"))
    if blockers:
        more = f" ({len(blockers) - 1} more findings forbid it too.)" if len(blockers) > 1 else ""
        return "do not use it", blockers[0].sentence + more, list(blockers)
    if not evaluation.rows:
        return "not proven", "There is no test split, so nothing about new rows is proven.", []
    if primary not in evaluation.scores:
        sentence = f"The deciding score, {measure(primary).name}, is not defined on these rows."
        return "not proven", sentence, _findings(missing)
    if doubted:  # before "worse": a baseline that repeats wrong labels looks better than a model that does not
        sentence = "Too many labels look wrong for its scores to be believed, which rest on them."
        return "not proven", sentence, [*doubted, *few, *_findings([*worse, *missing, *level])]
    if worse:
        sentence = f"On the same test rows it does worse than {_and(worse)}."
        return "do not use it", sentence, _findings(worse)
    if missing:
        sentence = f"It could not be held against {_and(missing)}, so nothing is proven."
        return "not proven", sentence, _findings(missing)
    if few:
        return "not proven", few[0].sentence, [*few, *_findings(level)]
    if level:
        sentence = f"On the same test rows it is not shown to be better than {_and(level)}."
        return "not proven", sentence, _findings(level)
    score = as_text(primary, evaluation.scores[primary])
    interval = interval_text(primary, *evaluation.intervals[primary])
    beaten = _came_out(compared, "beats")
    sentence = (
        f"On {evaluation.rows:,} rows it had never seen it reaches {measure(primary).name} {score} "
        f"(95 % interval {interval}) and beats all {NUMBERS[len(beaten)]} others beyond chance. "
        f"The closest is {beaten[0].who}."
    )
    return "use it", sentence, _findings(beaten)


def _gravity(finding: Finding) -> int:
    """Its place in GRAVEST and LESSER, by its id or by what the id begins with."""
    names, order = (finding.id, finding.id.partition("-")[0]), (*GRAVEST, *LESSER)
    return next((order.index(name) for name in names if name in order), len(order))


def _came_out(compared: Sequence[_Against], outcome: str) -> list[_Against]:
    """Those that came out so, the one with the lowest floor first."""
    return sorted((one for one in compared if one.outcome == outcome), key=lambda one: one.floor)


def _findings(compared: Sequence[_Against]) -> list[Finding]:
    return [one.finding for one in compared]


def _compare(
    name: str, who: str, evaluation: Evaluation, primary: str, trained: bool, partly: bool = False
) -> _Against:
    """The tuned model against one baseline on the deciding score; `partly`: one that was not asked all test rows."""
    difference = evaluation.differences.get(name, {}).get(primary)
    if difference is None or any(math.isnan(value) for value in difference):
        sentence = f"{_capital(who)} was not computed on these rows, so nothing was held against it."
        remedy = "Train again and look at the lines that luthier train prints about its baselines."
        return _Against("missing", who, Finding(f"no-{name}", "warning", sentence, remedy=remedy))
    gain, low, high = _gain(difference, primary)
    ours, theirs = evaluation.tuned_beside(name, primary), evaluation.baselines[name][primary]
    rows = evaluation.asked.get(name, evaluation.rows)
    numbers = {"tuned": ours, name: theirs, "difference": list(difference), "rows": rows}
    less = "" if measure(primary).higher_is_better else " (less is better)"
    told = difference_text(primary, difference)
    pair = f"{measure(primary).name} {as_text(primary, ours)} against {as_text(primary, theirs)}{less}, {told}"
    pair += f", on the {rows:,} test rows that can be compared" if name in evaluation.asked else ""
    if low > 0 and rows >= min(FEWEST_ROWS, evaluation.rows):  # of too few rows nothing is proven
        finding = Finding(f"beats-{name}", "note", f"It beats {who}: {pair}.", numbers)
        return _Against("beats", who, finding, low)
    if high < 0:
        sentence = f"It is worse than {who}: {pair}."
        finding = Finding(f"worse-than-{name}", "warning", sentence, numbers, remedy=_worse_remedy(name, trained))
        return _Against("worse", who, finding, low)
    sentence, remedy = f"It is not shown to be better than {who}: {pair}.", ""
    if low > 0:
        sentence = f"It looks better than {who}, on too few rows to prove it: {pair}; {FEWEST_ROWS} are needed."
        remedy = _ask_all(evaluation) if partly else "Label more test rows on which both can be compared."
    elif not _few_rows(evaluation):  # with few rows there is but one remedy: more of them
        needed = _rows_to_settle(gain, low, high, rows)
        sentence += f" {_settle(needed)}"
        numbers |= {"rows_to_settle": needed}
        enough = partly and needed is not None and needed <= evaluation.rows
        ways = (_ask_all(evaluation) if partly else "", "" if enough else _level_remedy(name, needed, trained))
        remedy = " ".join(filter(None, ways))
    finding = Finding(f"not-better-than-{name}", "warning", sentence, numbers, remedy=remedy)
    return _Against("level", who, finding, low)


def _ask_all(evaluation: Evaluation) -> str:
    return f"Ask it all {evaluation.rows:,} test rows (evidence.few_shot: {evaluation.rows})."


def _gain(difference: Difference, primary: str) -> Difference:
    """The difference turned so that more is better: [mean, low, high]."""
    mean, low, high = difference
    return (mean, low, high) if measure(primary).higher_is_better else (-mean, -high, -low)


def _rows_to_settle(gain: float, low: float, high: float, rows: int) -> int | None:
    """Test rows at which an interval around the same difference would leave zero out; None: too many.

    Rounded up to two digits. An interval's width falls with the square root of the rows.
    """
    half = gain - low if gain > 0 else high - gain
    if gain == 0 or half <= 0:
        return None
    needed = rows * (half / abs(gain)) ** 2
    if not math.isfinite(needed) or needed > MOST_ROWS:
        return None
    size = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    return max(rows + 1, FEWEST_ROWS, math.ceil(needed / size) * size)


def _settle(needed: int | None) -> str:
    if needed is None:
        return "The two are so close that more test rows would hardly settle it."
    return f"If the difference is as it looks, about {needed:,} test rows would settle it."


def _level_remedy(name: str, needed: int | None, trained: bool) -> str:
    cheaper = (
        "Consider the cheap classical method itself, which costs far less to run, once it is looked at as closely. "
        if name == "classical"
        else ""
    )
    cheaper = "Consider a prompt with examples itself (method: few-shot). " if name == "few-shot" else cheaper
    ways = "more training rows, a larger model, or another method (luthier ladder)" if trained else _PROMPTED
    improve = f"mprove the model: {ways}."
    return cheaper + ("I" if needed is None else f"Label about {needed:,} test rows in all, or i") + improve


def _worse_remedy(name: str, trained: bool) -> str:
    if not trained:
        return f"Look at the worst rows of the report, and try {_PROMPTED}, or tune a model (method.name=lora)."
    if name == "untuned":
        return "Use the untuned model, or train again with a lower train.learning_rate and fewer epochs."
    if name == "few-shot":
        return "Ask the untuned model with examples (method: few-shot), or train on more rows."
    return "Look at the learning curves and at the worst rows of the report before training again."


def _few_rows(evaluation: Evaluation, worse: bool = False) -> list[Finding]:
    rows, groups = evaluation.rows, evaluation.groups
    if not rows or (rows >= FEWEST_ROWS and groups >= FEWEST_GROUPS):
        return []
    if rows < FEWEST_ROWS:
        sentence = (
            f"The test split holds {rows} row{'s' * (rows != 1)}; under {FEWEST_ROWS} no model is proven good enough."
        )
    else:
        sentence = (
            f"The {rows} test rows come from {groups} group{'s' * (groups != 1)}; rows of one group stand or "
            f"fall together, and under {FEWEST_GROUPS} groups no model is proven good enough."
        )
    if worse:
        sentence += " That it is worse shows even so: the whole interval of the difference lies below zero."
    from_groups = f" from at least {FEWEST_GROUPS} groups" if groups != rows else ""
    remedy = f"Label more test rows, about {max(300, rows):,} in all{from_groups}."
    return [Finding("few-test-rows", "warning", sentence, {"rows": rows, "groups": groups}, remedy=remedy)]


def _often_wrong(evaluation: Evaluation, primary: str, trained: bool) -> list[Finding]:
    score = evaluation.scores.get(primary, math.nan)
    if primary not in TELLS_RIGHT or not score < OFTEN_WRONG:
        return []
    sentence = f"Its {measure(primary).name} is {as_text(primary, score)}: expect many wrong answers."
    ways = "label more training rows or take a larger model" if trained else f"try {_PROMPTED}"
    remedy = f"Let a person look at its answers, and {ways}."
    return [Finding("often-wrong", "warning", sentence, {"score": score}, remedy=remedy)]


def _reused(ledger_count: int) -> list[Finding]:
    if ledger_count < 2:
        return []
    often = ledger_count >= REUSED_OFTEN
    sentence = f"{ledger_count} runs have scored the same test rows" + (
        "; the best of so many looks better than it is."
        if often
        else "; each choice made by them makes the score look a little better than it is."
    )
    remedy = "Choose among runs by their validation scores, and label fresh test rows for the last word."
    return [Finding("test-set-reused", "warning" if often else "note", sentence, {"runs": ledger_count}, remedy=remedy)]


def _and(compared: Sequence[_Against]) -> str:
    names = [one.who for one in compared]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
