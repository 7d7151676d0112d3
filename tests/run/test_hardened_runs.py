"""A run trained under changes of its embeddings beside its twin without, whichever of the two came first."""

from __future__ import annotations

import luthier


def found(run: luthier.Run) -> dict[str, dict]:
    return {one["id"]: one for one in run.findings if one["id"].startswith("hardening")}


def test_a_twin_is_found_among_earlier_runs_and_else_its_command_is_given(recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "home"))
    quiet = {"label_errors": False, "learning_curve": False, "variety": False, "general": False, "swaps": 0}
    made = lambda seed=7, **train: {**recipe(seed=seed, epochs=1, **train), "evidence": quiet}
    first = luthier.train(made(adversarial="fgm"), out=tmp_path / "first")
    (told,) = found(first).values()
    assert told["id"] == "hardening-not-shown" and "train.adversarial: fgm" in told["sentence"]
    assert told["remedy"].endswith(f"luthier train {first.folder.recipe} --set train.adversarial=none")
    other = luthier.train(made(seed=8), out=tmp_path / "seed")
    assert not found(other)  # another seed, so other weights to begin with and other rewritten rows
    plain = luthier.train(made(), out=tmp_path / "plain")
    (told,) = found(plain).values()
    assert told["numbers"]["run"] == "plain" and "fgm" in told["numbers"]["setting"] and told["numbers"]["rows"] >= 20
    again = luthier.train(made(neftune_noise_alpha=5), out=tmp_path / "noise")
    (told,) = found(again).values()
    assert told["numbers"]["run"] == "plain" and "neftune_noise_alpha: 5" in told["sentence"]
