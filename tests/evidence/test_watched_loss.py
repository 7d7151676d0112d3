"""Where a loss chooses checkpoints, less is better: what is said and drawn of it is the loss, never its negative."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evidence_fakes import curve, label_content

from luthier.evidence.learning.overfit import fit_findings
from luthier.evidence.report.page import _curve_parts

TRAIN, HELD = [5.0, 4.2, 3.9, 3.7, 3.6], [4.9, 4.3, 4.1, 4.05, 4.04]


def points() -> list[dict[str, Any]]:
    """A curve as the log has it: the score turned so that more is better."""
    return list(curve(TRAIN, HELD, [-loss for loss in HELD]))


def test_nothing_was_learned_where_the_loss_is_the_trivial_one() -> None:
    def said(trivial: float) -> list[Any]:
        found = fit_findings(points(), training_rows=500, epochs=5, trivial_score=-trivial, primary="loss")
        return [finding for finding in found if finding.id == "learned-nothing"]

    assert not said(6.7)
    (finding,) = said(4.05)
    assert "4.040" in finding.sentence and "4.050" in finding.sentence and "-4" not in finding.sentence
    assert finding.numbers["best_validation_score"] == 4.04


def test_the_report_shows_the_loss_once_and_no_negative() -> None:
    content = replace(label_content(), curve=points(), watched="loss", kept_step=250)
    shown = _curve_parts(content)
    assert tuple(shown["curve_figures"].header) == ("step", "epoch", "training loss", "validation loss")
    assert "validation score 4.04" in shown["curve_svg"] and "-4.0" not in shown["curve_svg"]


def test_a_score_that_only_decides_is_not_named_over_the_losses_curve() -> None:
    content = replace(label_content(), curve=points(), watched="perplexity")
    assert content.primary != "perplexity"
    assert _curve_parts(content)["curve_figures"].header[-1] == "validation perplexity"
    plain = replace(label_content(), watched="")
    assert _curve_parts(plain)["curve_figures"].header[-1] == "validation macro F1"
