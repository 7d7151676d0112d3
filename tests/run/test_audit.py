"""An audit of a run, what corrects what it finds, and the corrected run beside it: on a planted correlation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bias_cases
import luthier
from luthier import config
from luthier.cli import main
from luthier.errors import InputError, RunError
from luthier.files import read_json, read_jsonl, write_json, write_text
from luthier.records import Row
from luthier.run import audit, correct
from luthier.tasks import TASKS

TRAIN = {"epochs": 5, "early_stopping_patience": 0}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    (folder / "terms.yaml").write_text(bias_cases.TERMS)
    return folder


@pytest.fixture(scope="module")
def biased(place: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> luthier.Run:
    """A run on rows in which a person's name goes with the label in 80 of 100, audited. Read only."""
    data = bias_cases.write(place / "rows.jsonl", bias_cases.planted(800))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_HOME", str(tmp_path_factory.mktemp("audit-home")))
        patch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
        run = luthier.train(bias_cases.recipe(models["bert"], data, **TRAIN), out=place / "biased")
        audit(run, ["who"], place / "terms.yaml")
    return run


def finding(found: dict[str, Any], id: str) -> dict[str, Any]:
    return next(one for one in found["findings"] if one["id"] == id)


def test_the_planted_correlation_is_found(biased: luthier.Run) -> None:
    found = biased.audited
    assert found is not None
    flips = finding(found, "swap-flips")
    assert flips["severity"] == "blocker" and flips["numbers"]["flips"] > 0.1
    lean = flips["numbers"]["leaning"]
    assert (lean["label"] == "negative") == (lean["shift"] > 0)  # from female to male, bad is likelier
    assert len(flips["rows"]) > 10 and "--correct counterfactual" in flips["remedy"]
    gap = finding(found, "group-gap")
    assert gap["numbers"]["groups"].keys() == {"female", "male"}
    assert biased.verdict is not None and biased.verdict["verdict"] == "do not use it"
    page = biased.folder.audit_page.read_text()
    assert "Swapped groups" in page and "Answers that changed" in page and "<script" not in page
    assert "It does not treat groups alike" in page and "A flip is an answer that changes" in page
    assert f"{100 * flips['numbers']['flips']:.1f} %" in page.replace("\u00a0", " ")
    some = found["swaps"][0]["examples"][0]
    changed = set(some["before"].split()) - set(some["after"].split())
    assert len(changed) == 1 and f'<mark class="answered">{changed.pop()}</mark>' in page


def test_rows_without_the_correlation_raise_nothing(place: Path, models: dict[str, Path]) -> None:
    """The healthy twin: names that say nothing. What flips still is by noise, and leans no way that counts."""
    data = bias_cases.write(place / "even.jsonl", bias_cases.planted(800, share=0.5))
    run = luthier.train(bias_cases.recipe(models["bert"], data, **TRAIN), out=place / "even")
    before = run.verdict
    found = audit(run, ["who"], place / "terms.yaml")
    assert [one for one in found["findings"] if one["severity"] == "blocker"] == []
    assert finding(found, "groups-even")
    assert before is not None and run.verdict is not None and run.verdict["verdict"] == before["verdict"]


@pytest.mark.parametrize("means", ["reweighting", "removal", "counterfactual", "adversarial"])
def test_each_correction_lowers_the_flip_rate_and_tells_its_cost(
    means: str, biased: luthier.Run, place: Path, tmp_path: Path
) -> None:
    written = correct(biased, means, out=tmp_path / "corrected")
    assert written["next"][0] == f"luthier train {tmp_path / 'corrected' / 'recipe.yaml'}"
    test = {row["id"]: row["text"] for row in read_jsonl(tmp_path / "corrected" / "test.jsonl")}
    kept = {row["id"] for row in read_jsonl(biased.folder.predictions / "test.jsonl")}
    assert set(test) == kept
    # Of the rows two in five are left, or the adversary slows what is learned of them.
    longer = ["train.epochs=12"] if means in ("removal", "adversarial") else []
    run = luthier.train(tmp_path / "corrected" / "recipe.yaml", out=tmp_path / "run", overrides=longer)
    assert {row["id"] for row in read_jsonl(run.folder.predictions / "test.jsonl")} == kept
    found = audit(run, ["who"], place / "terms.yaml")
    compared = finding(found, "audit-compared")
    assert compared["severity"] == "note", compared["sentence"]
    assert compared["numbers"]["flips"] < 0.75 * compared["numbers"]["flips_before"]
    mean, low, high = compared["numbers"]["quality_change"]
    assert low <= mean <= high and "mean quality of an answer" in compared["sentence"]
    change = compared["numbers"]["flips_change"]
    assert change[0] == pytest.approx(compared["numbers"]["flips"] - compared["numbers"]["flips_before"], abs=1e-6)
    assert change[1] <= change[0] <= change[2] < 0 and "helped, beside biased" in compared["sentence"]
    scores = [one.evaluation["scores"]["accuracy"] for one in (biased, run) if one.evaluation]
    assert mean == pytest.approx(scores[1] - scores[0], abs=1e-6)
    assert scores[1] > 0.7  # it learned something, and did not lower its flips by answering alike whatever is asked
    if means == "counterfactual":  # a second set of copies would bring nothing
        assert all("--correct counterfactual" not in one["remedy"] for one in found["findings"])
    page = run.folder.audit_page.read_text()
    assert "Before: biased" in page and "what it brought and what it cost" in page
    for name in ("flips_change", "quality_change"):
        mean, low, high = (100 * value for value in compared["numbers"][name])
        assert f"{mean:+.1f} points ({low:+.1f} to {high:+.1f})".replace("-", "\N{MINUS SIGN}") in page
    split = {name: read_jsonl(tmp_path / "corrected" / f"{name}.jsonl") for name in ("validation", "test")}
    assert 0.5 < _with_group(split["validation"]) < 1.5 and _with_group(split["test"]) > 3
    tensors = [path for path in run.folder.model.rglob("*.safetensors") if b"group_adversary" in path.read_bytes()]
    assert tensors == []


def _with_group(rows: Any) -> float:
    """How many rows have the label that goes with their group, for one that has the other."""
    told = [(row["label"] == "positive") == (row["who"] == "female") for row in rows]
    return sum(told) / (len(told) - sum(told))


def test_a_correction_that_does_nothing_is_told(
    biased: luthier.Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin: every weight is 1. The run is that from before, and the audit says so."""
    monkeypatch.setattr("luthier.run.correction.reweighted", lambda groups, labels: np.ones(len(labels)))
    correct(biased, "reweighting", out=tmp_path / "corrected")
    run = luthier.train(tmp_path / "corrected" / "recipe.yaml", out=tmp_path / "run")
    compared = finding(audit(run, ["who"], place / "terms.yaml"), "audit-compared")
    assert compared["severity"] == "warning" and compared["remedy"]
    assert "did not help" in compared["sentence"] or "is not shown to have helped" in compared["sentence"]


def test_an_adversary_that_leaves_nothing_to_learn_has_not_helped(
    biased: luthier.Run, place: Path, tmp_path: Path
) -> None:
    """Answers that are alike whatever is asked do not flip, and that is no help."""
    correct(biased, "adversarial", out=tmp_path / "corrected")
    strong = ["train.debias.strength=100", "train.epochs=2"]
    run = luthier.train(tmp_path / "corrected" / "recipe.yaml", out=tmp_path / "run", overrides=strong)
    compared = finding(audit(run, terms=place / "terms.yaml"), "audit-compared")
    assert len({line["prediction"] for line in read_jsonl(run.folder.predictions / "test.jsonl")}) == 1
    assert compared["numbers"]["flips"] == 0 and compared["severity"] == "warning"
    assert "did not help" in compared["sentence"] and "whatever is asked" in compared["sentence"]


def test_a_filter_is_drafted_and_applied(biased: luthier.Run, place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "biased"
    shutil.copytree(biased.path, copy)
    run = luthier.run.load(copy)
    written = correct(run, "filter", out=tmp_path / "rules")
    before = read_json(run.folder.audit)["swaps"][0]["flips"]
    assert written["next"][0].startswith("cp ")
    shutil.copy(tmp_path / "rules" / "rules.yaml", run.folder.rules)
    found = audit(run, ["who"], place / "terms.yaml")
    assert found["swaps"][0]["flips"] < before
    assert finding(found, "audit-compared")["numbers"]["quality_change"][0] < 0
    told = run.predict([{"text": "anna is the film of"}, {"text": "the film is of a house"}])
    assert {line["prediction"] for line in told[1:]} <= {"negative", "positive"}
    run.folder.rules.write_text("rules:\n- {in: input, words: [anna], then: refuse}\n")
    refused, plain = run.predict([{"text": "anna is lovely"}, {"text": "ben is lovely"}])
    assert refused["prediction"] is None and refused["refused"] == "rule 1" and "probabilities" not in refused
    assert plain["prediction"] in ("negative", "positive")


def test_the_threshold_of_a_drafted_rule() -> None:
    """The lowest confidence that leaves half of the flips; where refusals would flip as often, all are refused."""
    from luthier.run.correction import _threshold

    pairs = [(0.6, 0.6, True)] * 4 + [(0.9, 0.9, False)] * 16
    below, left, refused = _threshold(pairs)
    assert 0.6 < below < 0.61 and (left, refused) == (0.0, pytest.approx(0.2))
    assert _threshold([(0.6, 0.9, True), (0.9, 0.6, True)]) == (0.0, 0.0, 1.0)


def test_validation_rows_that_name_no_group_all_stay() -> None:
    from luthier.run.correction import _validation

    rows = [Row(str(n), {"text": "rain", "label": "ab"[n % 2]}) for n in range(80)]
    named = [Row(row.id, {**row.fields, "who": "xy"[n % 3 == 0]}) for n, row in enumerate(rows)]
    form = TASKS["classification"].form
    assert _validation(rows, form, "who", 7) == (rows, "")
    kept, said = _validation([*rows, *named[:79]], form, "who", 7)
    assert len(kept) < 159 and "validation rows were left out" in said


def test_an_audit_from_before_means_were_kept_is_held_against(biased: luthier.Run, tmp_path: Path) -> None:
    """Beside rules the old audit is this run's own, or that of the run that its data was corrected from."""
    from luthier.run.auditing import ORIGIN, _before

    shutil.copytree(biased.path, tmp_path / "biased")
    run = luthier.run.load(tmp_path / "biased")
    run.folder.rules.write_text("rules:\n- {in: input, words: [anna], then: refuse}\n")
    old = read_json(run.folder.audit)
    write_json(run.folder.audit, {**old, "rules": "some", "before": old})
    told = _before(run)
    assert told is not None and (told.means, told.by, told.audit["run"]) == ("filter", "", "biased")
    write_json(run.folder.audit, {**old, "rules": "some", "before": {**old, "run": "another"}})
    assert _before(run) is None
    data = tmp_path / "rows.jsonl"
    write_json(data.parent / ORIGIN, {"origin": str(biased.path), "means": "removal", "by": "who"})
    recipe = run.recipe.model_copy(update={"data": run.recipe.data.model_copy(update={"train": str(data)})})
    write_text(run.folder.recipe, config.dump(recipe))
    told = _before(luthier.run.load(run.path))
    assert told is not None and (told.means, told.by) == ("removal", "who")


def test_what_cannot_be_audited_is_refused(biased: luthier.Run, place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='column "hwo"') as error:
        audit(biased, ["hwo"], place / "terms.yaml")
    assert '"who"' in error.value.fix
    crows = tmp_path / "crows.csv"
    crows.write_text("sent_more,sent_less,stereo_antistereo,bias_type\na,b,stereo,x\n")
    with pytest.raises(InputError, match="CrowS-Pairs asks a language model"):
        audit(biased, crows=crows)
    with pytest.raises(InputError, match="there already"):
        correct(biased, "removal", out=place)
    copy = tmp_path / "gone"
    shutil.copytree(biased.path, copy)
    (copy / "predictions" / "test.jsonl").unlink()
    with pytest.raises(RunError, match="no answered test rows"):
        audit(luthier.run.load(copy))


def test_on_the_command_line(
    biased: luthier.Run,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "run"
    shutil.copytree(biased.path, copy)
    terms = str(place / "terms.yaml")
    assert main(["audit", "run", "--groups", "who", "--terms", terms]) == 0
    said = capsys.readouterr().out
    assert "groups swapped" in said and "by who" in said and "page: " in said
    assert max(map(len, said.splitlines())) <= 80
    assert main(["audit", "run", "--groups", "who", "--terms", terms, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["swaps"][0]["axis"] == "people"
    assert main(["audit", "run", "--correct", "removal"]) == 0
    assert "luthier train corrected-removal/recipe.yaml" in capsys.readouterr().out
    assert main(["audit", "run", "--correct", "remove"]) == 2
    assert 'Did you mean "removal"' in capsys.readouterr().err
    assert main(["audit", "run", "--out", "x"]) == 2
    capsys.readouterr()
    assert main(["verdict", "run"]) == 1
