"""Does the data check find planted faults: wrong labels, wrong answers, copies and near copies?

Every fault is planted by a seed, so that it is known which rows are wrong; what is wrong in the data as it came counts
against the check. Each side runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from statistics import mean
from typing import Any

import measure
from luthier.records import Row
from measure import Demands, Result, Settings
from planted import WRONG, copied, flipped, misplaced, near_copies, others_for_words, unlike_reviews, word_pairs

SEEDS = (0, 1, 2)
FIRST = 100  # doubted rows that a person would read
PRECISION = 0.75
COPIES = 50  # exact ones, and as many near ones
NEAR_FOUND, FALSE = 48, 1
CHANGED = (0.05, 0.1, 0.15, 0.2)  # shares of the words that are others in a copy


# Labels


def labels(settings: Settings) -> Result:
    """luthier's list, as `check` makes it."""
    from luthier.data import units
    from luthier.evidence.soundness import doubtful, held_out
    from luthier.tasks import TASKS

    held_out.CUTS = settings.get("cuts", held_out.CUTS)
    rows, wrong = flipped(settings)
    form = TASKS["classification"].form
    began = time.monotonic()
    doubts = doubtful(form, rows, units(rows, form, None) or range(len(rows)))
    seconds = time.monotonic() - began
    assert doubts is not None
    share, low, high = doubts.rate
    told = {"share": share, "low": low, "high": high, "doubted": len(doubts.rows), "seconds": seconds}
    return {**told, **_first([doubt.id for doubt in doubts.rows], wrong)}


def _plain(settings: Settings) -> tuple[list[Row], set[str], Any, Any]:
    """Rows, which are wrong, what they say, and out-of-fold probabilities of scikit-learn's defaults."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline

    rows, wrong = flipped(settings)
    given = np.unique([row["label"] for row in rows], return_inverse=True)[1]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    shares = cross_val_predict(model, [row["text"] for row in rows], given, cv=5, method="predict_proba")
    return rows, wrong, given, shares


def plain(settings: Settings) -> Result:
    """TF-IDF and logistic regression with their defaults, rows ranked by the probability of their label."""
    import numpy as np

    began = time.monotonic()
    rows, wrong, given, shares = _plain(settings)
    order = np.argsort(shares[np.arange(len(rows)), given], kind="stable")
    ranked = [rows[i].id for i in order]
    return {"seconds": time.monotonic() - began, **_first(ranked, wrong)}


def cleanlab(settings: Settings) -> Result:
    """cleanlab's list from the same probabilities."""
    from cleanlab.filter import find_label_issues

    began = time.monotonic()
    rows, wrong, given, shares = _plain(settings)
    order = find_label_issues(given, shares, return_indices_ranked_by="normalized_margin")
    return {"seconds": time.monotonic() - began, **_first([rows[i].id for i in order], wrong)}


def deep(settings: Settings) -> Result:
    """luthier's list as `check --deep` makes it, by a tuned encoder."""
    import csv
    import tempfile
    from pathlib import Path

    import luthier

    rows, wrong = flipped(settings)
    with tempfile.TemporaryDirectory() as folder:
        file, recipe = Path(folder) / "reviews.csv", Path(folder) / "recipe.yaml"
        with file.open("w", newline="", encoding="utf-8") as lines:
            csv.writer(lines).writerows([("id", "text", "label"), *((r.id, r["text"], r["label"]) for r in rows)])
        parts = {
            "model": settings["model"],
            "task": {"name": "classification", "max_length": settings["max_length"]},
            "data": {"train": str(file)},
            "method": settings["method"],
            "train": {"epochs": settings["epochs"]},
            "evidence": {"learning_curve": False, "variety": False},
        }
        recipe.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in parts.items()))
        began = time.monotonic()
        found = luthier.check(str(recipe), deep=True)["facts"]["soundness"]["label_errors"]
        seconds = time.monotonic() - began
    assert "own model" in found["by"]
    return {"seconds": seconds, "doubted": found["doubted"], **_first([one["id"] for one in found["rows"]], wrong)}


def _first(ranked: Sequence[str], wrong: set[str]) -> Result:
    """How many of the first FIRST are wrong, and of as many as are wrong."""
    return {
        "precision": sum(one in wrong for one in ranked[:FIRST]) / FIRST,
        "recall": sum(one in wrong for one in ranked[: len(wrong)]) / len(wrong),
    }


# Answers


def answers(settings: Settings) -> Result:
    """luthier's list, as `check` makes it."""
    from luthier.data import units
    from luthier.evidence.soundness import doubtful
    from luthier.tasks import TASKS

    rows, wrong = misplaced(settings)
    form = TASKS["question-answering"].form
    began = time.monotonic()
    doubts = doubtful(form, rows, units(rows, form, "context") or range(len(rows)))
    seconds = time.monotonic() - began
    assert doubts is not None
    told = {"share": doubts.rate[0], "low": doubts.rate[1], "high": doubts.rate[2], "doubted": len(doubts.rows)}
    return {**told, "seconds": seconds, "wrong": len(wrong), **_first([doubt.id for doubt in doubts.rows], wrong)}


def overlap(settings: Settings) -> Result:
    """Ranked by how many words of the question the best other sentence holds beyond the answer's own."""
    from luthier.evidence.baselines.sentences import sentences, words

    rows, wrong = misplaced(settings)
    began = time.monotonic()
    ranked = []
    for row in rows:
        asked, start = set(words(row["question"])), row["answers"][0]["start"]
        cover = [
            (low <= start < high, len(asked & set(words(row["context"][low:high]))) / max(1, len(asked)))
            for low, high in sentences(row["context"])
        ]
        own = max((share for holds, share in cover if holds), default=0.0)
        ranked.append((own - max((share for holds, share in cover if not holds), default=0.0), row.id))
    return {"seconds": time.monotonic() - began, **_first([id for _, id in sorted(ranked)], wrong)}


def sentence_found(settings: Settings) -> Result:
    """Share of right answers whose sentence the model holds for the most probable one, on passages it has not seen."""
    from luthier.data import units
    from luthier.evidence.soundness.answer_sentences import answering_sentences
    from luthier.tasks import TASKS

    rows = measure.joined(measure.squad(settings["squad"]))[: settings["rows"] or None]
    form = TASKS["question-answering"].form
    began = time.monotonic()
    chosen = answering_sentences(form, rows, units(rows, form, "context") or range(len(rows)))
    assert chosen
    found = mean(one.own > one.other for one in chosen)
    return {"seconds": time.monotonic() - began, "found": found, "asked": len(chosen)}


# Copies


def copies(settings: Settings) -> Result:
    """Planted among the rows of one file, and in a test file of rows that stand in the training file."""
    from luthier.data import leaks, units
    from luthier.tasks import TASKS

    form, draw = TASKS["classification"].form, random.Random(f"copies {settings['seed']}")
    rows = unlike_reviews(settings)
    words = [word for row in rows[:500] for word in row["text"].split(" ") if word]
    own = rows[: settings["rows"] - 2 * COPIES]
    chosen = draw.sample(own, 2 * COPIES)
    exact = [copied(row, f"{row['text'].upper()} ") for row in chosen[:COPIES]]
    near = near_copies(chosen[COPIES:], draw, words)
    # Within: all in one file, in any order.
    whole = [*own, *exact, *near]
    draw.shuffle(whole)
    began = time.monotonic()
    unit = units(whole, form, None) or list(range(len(whole)))
    within = time.monotonic() - began
    of = {row.id: one for row, one in zip(whole, unit)}
    pairs = [(row.id, row.id.removeprefix("copy of ")) for row in (*exact, *near)]
    told = Counter(unit)
    planted = {of[a] for a, b in pairs if of[a] == of[b]}
    result = {
        "within_exact": sum(of[a] == of[b] for a, b in pairs[:COPIES]),
        "within_near": sum(of[a] == of[b] for a, b in pairs[COPIES:]),
        "within_false": sum(n - 1 - (one in planted) for one, n in told.items() if n > 1),
        "within_seconds": within,
    }
    # Across: the copies stand in the test file, among rows of its own.
    theirs = {row.id for row in chosen}
    tenth = [row for row in own if row.id not in theirs][: settings["rows"] // 10 - 2 * COPIES]
    test, held = [*tenth, *exact, *near], {row.id for row in tenth}
    train = [row for row in own if row.id not in held]
    began = time.monotonic()
    found = {leak["row"]: leak["train"] for leak in leaks(train, test, form)}
    result |= {
        "across_exact": sum(found.get(a) == b for a, b in pairs[:COPIES]),
        "across_near": sum(found.get(a) == b for a, b in pairs[COPIES:]),
        "across_false": len(found) - sum(found.get(a) == b for a, b in pairs),
        "across_seconds": time.monotonic() - began,
    }
    return {**result, **_by_change(chosen, own, draw, words)}


def _by_change(chosen: Sequence[Row], own: Sequence[Row], draw: random.Random, words: Sequence[str]) -> Result:
    """Of all chosen rows the share that is found where so many of their words are others, and how alike they are."""
    from luthier.data.splitting.near import near_duplicates

    out: Result = {}
    for share in CHANGED:
        texts = [others_for_words(row["text"], share, draw, words) for row in chosen]
        like = mean(
            len(a & b) / len(a | b)
            for a, b in ((word_pairs(row["text"]), word_pairs(t)) for row, t in zip(chosen, texts))
        )
        place = {row.id: i for i, row in enumerate(own)}
        due = {(place[row.id], len(own) + i) for i, row in enumerate(chosen)}
        got = {(i, j) for i, j, _ in near_duplicates([*(row["text"] for row in own), *texts])}
        out |= {f"found {share}": len(due & got) / len(due), f"like {share}": like}
    return out


SIDES: dict[str, measure.Side] = {
    "labels": labels,
    "plain": plain,
    "cleanlab": cleanlab,
    "deep": deep,
    "answers": answers,
    "overlap": overlap,
    "sentence": sentence_found,
    "copies": copies,
}


def _each(name: str, seeds: Sequence[int], settings: Settings) -> list[Result]:
    out = []
    for seed in seeds:
        found = measure.run(__file__, name, {**settings, "seed": seed})
        measure.say(f"{name}, seed {seed}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()))
        out.append(found)
    return out


def _row(name: str, found: Sequence[Result]) -> tuple[str, ...]:
    cells = (measure.each(found, "precision"), f"{mean(one['precision'] for one in found):.3f}")
    rest = (measure.each(found, "recall"), measure.each(found, "seconds"))
    return (name, *cells, *rest, measure.gigabytes(max(one["peak"] for one in found)))


HEADER = (f"precision of the first {FIRST}", "mean", "of as many as are wrong, found", "seconds", "peak memory")


def label_part(args: Namespace) -> int:
    started = measure.start()
    settings = {"imdb": measure.imdb_path(), "rows": args.rows}
    ours = _each("labels", args.seeds, settings)
    lines = [_row("luthier", ours)]
    lines.append(
        _row("luthier, one cut into fifths instead of three", _each("labels", args.seeds, settings | {"cuts": 1}))
    )
    lines.append(_row("TF-IDF + logistic regression, defaults", _each("plain", args.seeds, settings)))
    if importlib.util.find_spec("cleanlab"):
        lines.append(_row("cleanlab on the same probabilities", _each("cleanlab", args.seeds, settings)))
    else:
        lines.append(("cleanlab", "not installed: not measured", "", "", "", ""))
    told = "; ".join(
        f"{100 * one['share']:.1f} % ({100 * one['low']:.1f} to {100 * one['high']:.1f} %)" for one in ours
    )
    body = f"{args.rows:,} reviews, {WRONG:.0%} of the labels turned, seeds {', '.join(map(str, args.seeds))}.\n\n"
    body += measure.table(("", *HEADER), lines)
    body += f"\n\nShare of wrong labels that it tells: {told}."
    demands = Demands()
    demands.add(f"precision of the first {FIRST}, mean", mean(one["precision"] for one in ours), PRECISION)
    demands.add("the same, worst seed", min(one["precision"] for one in ours), PRECISION)
    return measure.finish(args.page, "labels", body, started, demands)


def deep_part(args: Namespace) -> int:
    started = measure.start()
    settings = {"imdb": measure.imdb_path(), "rows": args.deep_rows}
    tuned = {"model": measure.minilm(), "max_length": args.max_length, "epochs": args.epochs, "method": args.method}
    lines = [
        _row("a cheap model", _each("labels", args.seeds[:1], settings)),
        _row(f"minilm, {args.method}, trained again (--deep)", _each("deep", args.seeds[:1], settings | tuned)),
    ]
    body = (
        f"{args.deep_rows:,} reviews, {WRONG:.0%} of the labels turned, seed {args.seeds[0]}; {args.epochs} epochs, "
        f"{args.max_length} tokens.\n\n{measure.table(('', *HEADER), lines)}"
    )
    return measure.finish(args.page, "deep", body, started)


def answer_part(args: Namespace) -> int:
    started = measure.start()
    settings = {"squad": measure.squad_path(args.data), "rows": args.questions}
    ours = _each("answers", args.seeds, settings)
    found = measure.run(__file__, "sentence", settings)
    lines = [
        _row("luthier", ours),
        _row("words shared with the question", _each("overlap", args.seeds, settings)),
    ]
    told = "; ".join(
        f"{100 * one['share']:.1f} % ({100 * one['low']:.1f} to {100 * one['high']:.1f} %)" for one in ours
    )
    body = (
        f"{found['asked']:,} questions with an answer in a passage of two sentences and more; {ours[0]['wrong']} of "
        f"all answers ({WRONG:.0%}) are wrong, seeds {', '.join(map(str, args.seeds))}.\n\n"
        f"{measure.table(('', *HEADER), lines)}\n\n"
        f"Share of wrong answers that it tells: {told}. Of answers as they came, the model finds the sentence of "
        f"{100 * found['found']:.1f} %, by models that saw no question on the passage."
    )
    return measure.finish(args.page, "answers", body, started)


def copy_part(args: Namespace) -> int:
    started = measure.start()
    ours = _each("copies", args.seeds, {"imdb": measure.imdb_path(), "rows": args.copy_rows})
    lines = [
        (
            kind,
            measure.each(ours, f"{kind}_exact"),
            measure.each(ours, f"{kind}_near"),
            measure.each(ours, f"{kind}_false"),
            measure.each(ours, f"{kind}_seconds"),
        )
        for kind in ("within", "across")
    ]
    head = ("splits", f"exact, of {COPIES}", f"near, of {COPIES}", "false", "seconds")
    body = f"{args.copy_rows:,} rows, seeds {', '.join(map(str, args.seeds))}.\n\n{measure.table(head, lines)}\n\n"
    body += f"Peak memory {measure.gigabytes(max(one['peak'] for one in ours))}, with the comparison of all pairs that "
    body += f"the rows are chosen by.\n\nOf {2 * COPIES} copies in which a share of the words are others:\n\n"
    shares = [
        (
            f"{share:.0%}",
            f"{mean(o[f'like {share}'] for o in ours):.2f}",
            f"{mean(o[f'found {share}'] for o in ours):.1%}",
        )
        for share in CHANGED
    ]
    body += measure.table(("words changed", "word pairs in common", "found"), shares)
    demands = Demands()
    for kind in ("within", "across"):
        demands.add(f"exact copies found {kind} splits, worst seed", min(o[f"{kind}_exact"] for o in ours), COPIES)
        demands.add(f"near copies found {kind} splits, worst seed", min(o[f"{kind}_near"] for o in ours), NEAR_FOUND)
        most = max(o[f"{kind}_false"] for o in ours)
        demands.add(f"false ones {kind} splits, worst seed", most, FALSE + 1, sign="<")
    return measure.finish(args.page, "copies", body, started, demands)


def main() -> int:
    measure.child(SIDES)
    parser = measure.options(__doc__)
    measure.add_squad(parser)
    parser.add_argument("parts", nargs="*", help="labels, deep, answers, copies (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--rows", type=int, default=5000, help="reviews of the labels' part")
    parser.add_argument("--deep-rows", type=int, default=1000)
    parser.add_argument("--method", default="frozen", help="of the tuned model")
    parser.add_argument("--epochs", type=int, default=10, help="of the tuned model")
    parser.add_argument("--max-length", type=int, default=128, help="of the tuned model")
    parser.add_argument("--questions", type=int, default=0, help="of the answers' part; 0: all")
    parser.add_argument("--copy-rows", type=int, default=10_000)
    args = parser.parse_args()
    parts = {"labels": label_part, "deep": deep_part, "answers": answer_part, "copies": copy_part}
    if unknown := set(args.parts) - set(parts):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    return max(parts[name](args) for name in args.parts or parts)


if __name__ == "__main__":
    sys.exit(main())
