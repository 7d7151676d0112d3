"""The report's plots as inline SVG: scores with intervals, learning curves, reliability.

Drawn by matplotlib without its global state, then made part of the page: text and axes take the page's own
colours (so light and dark need one drawing) and the page's font. Series differ in marker and dash as well as
colour (Okabe & Ito's colour-blind-safe palette, in report.css), so they read in grey.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import Any, Protocol

import numpy as np

from ..learning.overfit import Point
from ..scores.calibration import Calibration
from ..scores.measures import as_text, measure, number_text, signed
from ..scores.score import BASELINES, TUNED, Evaluation
from .content import printable

LONGEST_NAME = 90
LINE_OF_NAME = 34  # characters of a name in one line


class RungLine(Protocol):
    """What the ladder's plot shows of a rung."""

    name: str
    run: str
    score: float | None
    interval: Sequence[float] | None


# Colours drawn with, and what the page shows in their place.
INK, MUTED, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
FIRST, SECOND, THIRD = "#050505", "#060606", "#070707"
PAGE_COLOURS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    PAPER: "var(--page)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
}


def scores_plot(evaluation: Evaluation, primary: str, names: Mapping[str, str]) -> str:
    """Left: the deciding score of every model. Right: tuned minus each baseline, paired."""
    baselines = [name for name in BASELINES if primary in evaluation.differences.get(name, {})]
    called = [names.get("tuned", TUNED), *(printable(names.get(name, name), LONGEST_NAME) for name in baselines)]
    ticks = [fill(name, LINE_OF_NAME) for name in called]
    scale = 100.0 if measure(primary).top == 1.0 else 1.0
    unknown = (np.nan, np.nan)
    scores = [(evaluation.scores[primary], *evaluation.intervals[primary])]
    for name in baselines:
        interval = evaluation.baseline_intervals.get(name, {}).get(primary, unknown)
        scores.append((evaluation.baselines[name][primary], *interval))
    told = [as_text(primary, score) for score, _, _ in scores]

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
        for place, (dot, text) in enumerate(zip(scores, told)):
            colour, marker = (FIRST, "o") if place == 0 else (MUTED, "s")
            _whisker(left, place, [scale * value for value in dot], text.removesuffix(" %"), colour, marker)
        right.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        for place, name in enumerate(baselines, start=1):
            difference = evaluation.differences[name][primary]
            text = signed(primary, difference[0])
            _whisker(right, place, [scale * value for value in difference], text, SECOND, "D")
        left.set_yticks(range(len(called)), ticks, parse_math=False)
        left.set_ylim(len(called) - 0.5, -0.65)
        left.set_xlabel(measure(primary).name + (", %" if scale > 1 else ""), parse_math=False)
        right.set_xlabel(f"{called[0].split()[0]} minus baseline" + (", points" if scale > 1 else ""))
        for axes in (left, right):
            _calm(axes, grid="x")
            axes.margins(x=0.12)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)

    label = "; ".join(f"{who} {score}" for who, score in zip(called, told))
    title = f"{measure(primary).name} with 95 % intervals: {label}"
    return _svg(draw, 9.4, 0.9 + 0.52 * len(called), title, "scores")


def rungs_plot(facts: Sequence[RungLine], primary: str) -> str:
    """The deciding score of every rung of a ladder, and of its baselines, with intervals."""
    shown = [one for one in facts if one.score is not None]
    scale = 100.0 if measure(primary).top == 1.0 else 1.0
    told = [as_text(primary, one.score or 0.0) for one in shown]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for place, (one, text) in enumerate(zip(shown, told)):
            colour, marker = (FIRST, "o") if one.run else (MUTED, "s")
            low, high = one.interval if one.interval is not None else (np.nan, np.nan)
            _whisker(
                axes,
                place,
                [scale * float(value) for value in (one.score or 0.0, low, high)],
                text.removesuffix(" %"),
                colour,
                marker,
            )
        names = [fill(printable(one.name, LONGEST_NAME), LINE_OF_NAME) for one in shown]
        axes.set_yticks(range(len(shown)), names, parse_math=False)
        axes.set_ylim(len(shown) - 0.5, -0.65)
        axes.set_xlabel(measure(primary).name + (", %" if scale > 1 else ""), parse_math=False)
        _calm(axes, grid="x")
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)

    label = "; ".join(f"{one.name} {score}" for one, score in zip(shown, told))
    return _svg(draw, 9.4, 0.9 + 0.52 * max(1, len(shown)), f"{measure(primary).name}: {label}", "rungs")


def _whisker(axes: Any, place: int, dot: Sequence[float], text: str, colour: str, marker: str) -> None:
    """A dot (score, low, high) with its interval as a line and its value in words above it."""
    score, low, high = dot
    axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
    axes.plot([score], [place], marker, color=colour, markersize=7)
    axes.annotate(
        text,
        (score, place),
        (0, 9),
        textcoords="offset points",
        ha="center",
        fontsize=9.5,
        color=INK,
        parse_math=False,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
    )


def curve_plot(points: Sequence[Point], primary: str, kept_step: int | None) -> str:
    """Left: training and validation loss by step. Right: the validation score. Dotted: what was kept."""
    steps = [point.step for point in points]
    scale = 100.0 if measure(primary).top == 1.0 else 1.0

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(steps, [point.train_loss for point in points], "o-", color=FIRST, label="training")
        left.plot(steps, [point.validation_loss for point in points], "s--", color=SECOND, label="validation")
        right.plot(steps, [scale * point.validation_score for point in points], "s--", color=SECOND)
        left.set_title("loss", loc="left")
        right.set_title(
            f"validation {measure(primary).name}" + (", %" if scale > 1 else ""), loc="left", parse_math=False
        )
        for axes in (left, right):
            _calm(axes, grid="y")
            axes.set_xlabel("step")
            axes.margins(x=0.06, y=0.15)
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)
            if kept_step is not None:
                axes.axvline(kept_step, color=INK, linewidth=1, linestyle=":", label="kept checkpoint")
        left.legend(frameon=False, fontsize=9.5, labelcolor=INK)

    last = points[-1]
    label = (
        f"Learning curves over {len(points)} scorings. At the last, step {last.step}: training loss "
        f"{number_text(last.train_loss, 3)}, validation loss {number_text(last.validation_loss, 3)}, "
        f"validation score {as_text(primary, last.validation_score)}"
    )
    return _svg(draw, 9.4, 3.1, label, "curve")


def reliability_plot(calibration: Calibration) -> str:
    """Share right by mean confidence, a dot a bin (its size: its answers); the diagonal is perfect."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        sure = [100 * one.confidence for one in calibration.bins]
        right = [100 * one.accuracy for one in calibration.bins]
        sizes = [40 + 160 * one.count / calibration.rows for one in calibration.bins]
        axes.plot(sure, right, color=FIRST, linewidth=1.5)
        axes.scatter(sure, right, s=sizes, color=FIRST, edgecolor=PAPER, linewidth=1, zorder=3)
        axes.set_xlabel("mean confidence, %")
        axes.set_ylabel("right, %")
        axes.set_xlim(-3, 103)
        axes.set_ylim(-3, 103)
        axes.set_aspect("equal")
        _calm(axes, grid="both")

    label = (
        f"Reliability of {calibration.rows} answers in {len(calibration.bins)} bins: mean confidence "
        f"{100 * calibration.confidence:.1f} %, right {100 * calibration.accuracy:.1f} %"
    )
    return _svg(draw, 4.4, 4.2, label, "reliability")


def _calm(axes: Any, grid: str) -> None:
    """Axes that stay in the background."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.tick_params(colors=MUTED, labelsize=9.5)
    for tick in axes.get_yticklabels():
        tick.set_color(INK)
    axes.grid(axis=grid, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)


def _svg(draw: Callable[[Any], None], width: float, height: float, label: str, name: str) -> str:
    """The drawing as an <svg> element; ids begin with `name`, screen readers are told `label`."""
    import matplotlib
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 10,
        "axes.edgecolor": LINE,
        "axes.labelcolor": MUTED,
        "text.color": INK,
        "axes.titlesize": 10,
        "lines.markersize": 5,
        "lines.linewidth": 1.8,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _inline(out.getvalue(), label, name)


def _inline(svg: str, label: str, name: str) -> str:
    """matplotlib's SVG file as an element of the page, free of everything that points outside it."""
    from markupsafe import escape

    box = re.search(r'viewBox="([^"]+)"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    body = re.sub(r"font-family: [^;\"]+;?", "", body)
    body = re.sub(r"font: (?:[\w.]+ )*?([\d.]+px) [^;\"]+", r"font-size: \1", body)
    for drawn, shown in PAGE_COLOURS.items():
        body = body.replace(drawn, shown)
    body = re.sub(r"\n\s*", "\n", body).strip()
    view = box.group(1) if box else "0 0 100 100"
    wide = float(view.split()[2]) * 4 / 3
    return (
        f'<svg viewBox="{view}" role="img" aria-label="{escape(label)}" '
        f'style="width:100%;max-width:{wide:.0f}px">'
        f"{body}</svg>"
    )
