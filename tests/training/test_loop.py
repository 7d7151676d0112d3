"""The loop: the same mathematics however a step is cut or shared, and a run that goes on as if never stopped."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from loop_fakes import digest, largest_gap, losses, make, shared_run, weights

from luthier.engine.inference import logits_of
from luthier.errors import ModelError, ResourceError, RunError
from luthier.training import Phase, Resumed, Saved, Scored, Started, Step, Stopped, Training, fit
from luthier.training import loop as loop_module
from luthier.training.checkpoint import complete
from luthier.training.events import Event
from luthier.training.optimizer import make_optimizer, rate

GOLDEN = Path(__file__).parent / "golden_losses.json"


# One step, cut in any number of pieces


def trained_in_pieces(folder: Path, model: Path, budget: int) -> tuple[list[float], dict[str, torch.Tensor], float]:
    """Twenty steps of eight rows of 3 to 200 tokens: losses, weights, pieces a step."""
    training = make(
        folder,
        model,
        rows=160,
        longest=200,
        dropout=0.0,
        epochs=1,
        token_budget=budget,
        learning_rate=2e-4,
        scored=False,
    )
    found = losses(list(fit(training)))
    assert len(found) == 20
    assert sorted(i for piece in training.examples.taken for i in piece) == list(range(160))
    return found, weights(training), len(training.examples.taken) / 20


def gaps(models: dict[str, Path], place: Path) -> tuple[float, float, list[float]]:
    whole, final, one = trained_in_pieces(place / "whole", models["bert"], 10**6)
    assert one == 1
    loss_gap = weight_gap = 0.0
    pieces = []
    for budget in (900, 400, 1):
        cut, other, count = trained_in_pieces(place / str(budget), models["bert"], budget)
        loss_gap = max(loss_gap, *(abs(a - b) for a, b in zip(whole, cut)))
        weight_gap = max(weight_gap, largest_gap(final, other))
        pieces.append(count)
    return loss_gap, weight_gap, pieces


def test_cutting_a_step_into_more_pieces_changes_nothing(models, tmp_path: Path) -> None:
    loss_gap, weight_gap, pieces = gaps(models, tmp_path)
    assert pieces == sorted(pieces)
    assert pieces[0] < 3
    assert pieces[-1] == 8
    assert loss_gap <= 1e-5
    assert weight_gap <= 1e-5


def test_the_mean_of_micro_batch_means_would_be_noticed(
    models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mistake that training loops made until 2024, put in by hand: the bar above must not pass."""

    def naive(self, indices: np.ndarray) -> float:
        t = self.t
        cuts = loop_module.micro_batches(indices, t.examples.lengths, int(t.options.token_budget))
        total = 0.0
        for piece in cuts:
            batch = t.examples.batch(piece)
            loss = t.objective.loss(logits_of(t.model, batch), batch) / len(piece) / len(cuts)
            loss.backward()
            total += float(loss.detach())
        return total

    monkeypatch.setattr(loop_module._Stepper, "_backward", naive)
    loss_gap, weight_gap, _ = gaps(models, tmp_path)
    assert loss_gap > 1e-3
    assert weight_gap > 1e-4


def test_two_processes_learn_what_one_does(models, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tests = Path(__file__).parent
    env = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join([str(tests.parent), *sys.path]),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, str(tests / "loop_fakes.py"), str(tmp_path), str(models["bert"])]
    both = [
        subprocess.Popen(command, env={**env, "RANK": r, "LOCAL_RANK": r}, stderr=subprocess.PIPE, text=True)
        for r in "01"
    ]
    alone = {method: shared_run(method, tmp_path / "alone", models["bert"]) for method in ("full", "frozen", "lora")}
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for rank in "01":
        given = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        for method, one in alone.items():
            assert len(given[method]["losses"]) == 12
            assert max(abs(a - b) for a, b in zip(given[method]["losses"], one["losses"])) <= 1e-5, method
            off = np.abs(np.subtract(given[method]["weights"], one["weights"]))
            assert np.quantile(off, 0.97) <= 1e-5, method  # the others are key biases, see largest_gap
            assert given[method]["pieces"] < one["pieces"] + 12, method


# Carried on


def cut_after(step: int) -> Callable[[Training], list]:
    """Killed: nothing more is saved once this step is done."""

    def run(training: Training) -> list:
        events = []
        for event in fit(training):
            events.append(event)
            if isinstance(event, Step) and event.step == step:
                break
        return events

    return run


def asked_to_stop_after(step: int) -> Callable[[Training], list]:
    """A signal: the loop saves and stops by itself."""

    def run(training: Training) -> list:
        done: list = []
        training.stop = lambda: any(isinstance(e, Step) and e.step == step for e in done)
        for event in fit(training):
            done.append(event)
        assert isinstance(done[-1], Stopped)
        assert done[-1].reason == "signal"
        assert not any(isinstance(e, Scored) and e.step == step for e in done)
        return done

    return run


CUTS = {
    "killed before the first checkpoint": [cut_after(1)],
    "killed in the middle of an epoch": [cut_after(5)],
    "killed at the edge of an epoch": [cut_after(6)],
    "killed one step after a checkpoint": [cut_after(9)],
    "killed three times": [cut_after(3), cut_after(7), cut_after(11)],
    "stopped in the middle of an epoch": [asked_to_stop_after(5)],
    "stopped where a scoring was due": [asked_to_stop_after(8)],
    "stopped at the edge of an epoch": [asked_to_stop_after(6)],
    "stopped at the last step": [asked_to_stop_after(12)],
    "killed at the last step": [cut_after(12)],
    "stopped, then killed": [asked_to_stop_after(4), cut_after(10)],
}
OPTIONS = {"save_steps": 4, "eval_steps": 2, "token_budget": 40, "early_stopping_patience": 0}


def scorings(events: list) -> dict[int, tuple[float, float, float, bool]]:
    return {e.step: (e.loss, e.train_loss, e.score, e.best) for e in events if isinstance(e, Scored)}


@pytest.fixture(scope="module")
def uninterrupted(models, tmp_path_factory: pytest.TempPathFactory):
    training = make(tmp_path_factory.mktemp("whole"), models["bert"], **OPTIONS)
    events = list(fit(training))
    return training, events, digest(training)


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_a_run_that_is_carried_on_ends_as_one_that_never_stopped(models, tmp_path: Path, uninterrupted, cuts) -> None:
    whole, expected, final = uninterrupted
    steps: dict[int, float] = {}
    taken: dict[int, list[list[int]]] = {}
    scored: dict[int, tuple] = {}
    for cut in [*cuts, lambda training: list(fit(training))]:
        training = make(tmp_path, models["bert"], **OPTIONS)
        torch.manual_seed(12345)  # a new process draws whatever it likes before it resumes
        if not complete(tmp_path):
            torch.manual_seed(7)
        events = cut(training)
        scored |= scorings(events)
        place = 0
        for event in events:
            if isinstance(event, Step):
                size = 0
                start = place
                while size < event.examples:
                    size += len(training.examples.taken[place])
                    place += 1
                taken[event.step] = training.examples.taken[start:place]
                steps[event.step] = event.loss
    assert [steps[s] for s in sorted(steps)] == losses(expected)
    assert len(steps) == 12
    assert [piece for s in sorted(taken) for piece in taken[s]] == whole.examples.taken
    assert scored == scorings(expected)
    assert digest(training) == final
    last = events[-1]
    assert isinstance(last, Stopped)
    assert (last.reason, last.best_step, last.best_score) == (
        expected[-1].reason,
        expected[-1].best_step,
        expected[-1].best_score,
    )


def test_dropout_takes_part_in_what_is_carried_on(models, tmp_path: Path, uninterrupted) -> None:
    """A guard for the test above: without the saved state of randomness it could not pass."""
    assert losses(uninterrupted[1]) != losses(list(fit(make(tmp_path / "a", models["bert"], dropout=0.0, **OPTIONS))))
    cut_after(5)(make(tmp_path / "b", models["bert"], **OPTIONS))
    (saved,) = complete(tmp_path / "b")[-1:]
    original = loop_module.checkpoint.restore_random
    loop_module.checkpoint.restore_random = lambda random: None
    try:
        training = make(tmp_path / "b", models["bert"], **OPTIONS)
        torch.manual_seed(1)
        again = losses(list(fit(training)))
    finally:
        loop_module.checkpoint.restore_random = original
    assert saved.name == "step-000004"
    assert again != losses(uninterrupted[1])[4:]


def test_a_resume_says_where_it_goes_on(models, tmp_path: Path) -> None:
    cut_after(7)(make(tmp_path, models["bert"], **OPTIONS))
    events = list(fit(make(tmp_path, models["bert"], **OPTIONS)))
    saved = int(complete(tmp_path)[0].name.split("-")[1])
    assert saved >= 1
    assert isinstance(events[0], Resumed)
    assert isinstance(events[1], Started)
    assert events[1].step == events[0].from_step
    first = next(e for e in events if isinstance(e, Step))
    assert first.step == events[0].from_step + 1


def test_other_conditions_are_refused_on_resume(models, tmp_path: Path) -> None:
    cut_after(5)(make(tmp_path, models["bert"], **OPTIONS))
    training = make(tmp_path, models["bert"], **OPTIONS)
    training.fixed = {"seed": 8, "threads": 4}
    with pytest.raises(RunError) as caught:
        list(fit(training))
    assert "seed: 7 then, 8 now" in str(caught.value)
    assert "threads" in str(caught.value)


def test_two_seeds_differ_and_one_does_not(models, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((7, 7, 8)):
        training = make(tmp_path / str(number), models["bert"], seed=seed, epochs=1, scored=False)
        list(fit(training))
        found.append(digest(training))
    assert found[0] == found[1] != found[2]


# Scores, and what they decide


def scripted(training: Training, scores: list[float]) -> dict[int, dict[str, torch.Tensor]]:
    """Validation scores as given; the weights that each was given for."""
    at: dict[int, dict[str, torch.Tensor]] = {}
    left = iter(scores)

    def score(model: torch.nn.Module) -> tuple[float, float, dict[str, float]]:
        at[len(at) + 1] = weights(training)
        return next(left), 0.5, {"macro_f1": 0.5}

    training.score = score
    return at


@pytest.mark.parametrize(
    ("scores", "patience", "scorings", "best", "reason"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2, 6, 6, "finished"),
        ([0.1, 0.5, 0.4, 0.3, 0.9, 0.9], 2, 4, 2, "early-stopping"),
        ([0.5, 0.5, 0.5, 0.9, 0.9, 0.9], 2, 3, 1, "early-stopping"),
        ([0.5, 0.4, 0.6, 0.5, 0.7, 0.6], 2, 6, 5, "finished"),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 0, 6, 1, "finished"),
        ([0.9, 0.4, 0.3, 0.2, 0.1, 0.0], 1, 2, 1, "early-stopping"),
        ([0.1, 0.2, 0.3, 0.4, 0.9, 0.8], 1, 6, 5, "finished"),
    ],
)
def test_the_best_weights_are_kept_and_put_back(
    models, tmp_path: Path, scores, patience, scorings, best, reason
) -> None:
    training = make(
        tmp_path,
        models["bert"],
        eval_steps=2,
        save_steps=3,
        save_total_limit=2,
        early_stopping_patience=patience,
    )
    at = scripted(training, scores)
    events = list(fit(training))
    assert len(at) == scorings
    assert (events[-1].reason, events[-1].best_step) == (reason, 2 * best)
    assert events[-1].best_score == max(scores[:scorings])
    final = weights(training)
    assert all(torch.equal(final[name], at[best][name]) for name in final)
    kept = [int(p.name.split("-")[1]) for p in complete(tmp_path)]
    assert 2 * best in kept
    assert len(kept) <= 2
    assert kept[-1] == 2 * scorings, "the last one too: a resume finds training over"


def test_checkpoints_are_pruned_to_the_best_and_the_newest(models, tmp_path: Path) -> None:
    training = make(tmp_path, models["bert"], eval_steps=3, save_steps=1, save_total_limit=3, early_stopping_patience=0)
    scripted(training, [0.9, 0.1, 0.1, 0.1])
    held = []
    for event in fit(training):
        if isinstance(event, Saved):
            held.append([int(p.name.split("-")[1]) for p in complete(tmp_path)])
    assert len(held) == 12
    assert max(map(len, held)) == 3
    assert held[-1] == [3, 11, 12]
    assert all(3 in some for some in held[2:])


def test_without_validation_the_last_weights_stay(models, tmp_path: Path) -> None:
    training = make(tmp_path, models["bert"], scored=False)
    events = list(fit(training))
    assert not any(isinstance(e, Scored) for e in events)
    assert (events[-1].reason, events[-1].best_step, events[-1].best_score) == ("finished", 0, None)


def test_the_loss_that_scores_report_is_the_mean_since_the_last(models, tmp_path: Path) -> None:
    events = list(fit(make(tmp_path, models["bert"], rows=44, eval_steps=4, early_stopping_patience=0)))
    weight, total, checked = 0, 0.0, 0
    for event in events:
        if isinstance(event, Step):
            weight, total = weight + event.examples, total + event.loss * event.examples
        if isinstance(event, Scored):
            assert event.train_loss == pytest.approx(total / weight, rel=1e-6)
            weight, total = 0, 0.0
            checked += 1
    assert checked == 3
    assert [e.examples for e in events if isinstance(e, Step)].count(4) == 2, "one smaller batch an epoch"


def test_half_an_epoch_is_half_of_one(models, tmp_path: Path) -> None:
    training = make(tmp_path, models["bert"], epochs=0.5)
    steps = [e for e in fit(training) if isinstance(e, Step)]
    assert len(steps) == 3
    assert steps[-1].epoch == 0.5


def test_every_setting_has_an_effect(models, tmp_path: Path) -> None:
    changes = {
        "epochs": 1.5, "learning_rate": 1e-3, "batch_size": 12, "weight_decay": 0.5,
        "warmup_ratio": 0.5, "schedule": "cosine", "clip": 0.01,
    }  # fmt: skip
    found = {}
    for name, value in {"seed": 7, **changes}.items():
        training = make(tmp_path / name, models["bert"], scored=False, **{name: value})
        list(fit(training))
        found[name] = digest(training)
    assert len(set(found.values())) == 8, found


# What goes wrong


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_no_number_stops_before_the_update_and_names_its_rows(
    models, tmp_path: Path, where: str
) -> None:
    training = make(tmp_path, models["bert"], save_steps=2, eval_steps=100)
    plain = training.objective.loss

    class Poisoned:
        calls, couples = 0, False
        weights = staticmethod(training.objective.weights)
        forward = staticmethod(training.objective.forward)

        def loss(self, logits, batch):
            self.calls += 1
            loss = plain(logits, batch)
            if self.calls < 3:
                return loss
            return loss * math.nan if where == "loss" else loss + 1e-30 * torch.sqrt(logits.sum() * 0)

    training.objective = Poisoned()
    before, events = {}, []
    with pytest.raises(ModelError) as caught:
        for event in fit(training):
            events.append(event)
            before = weights(training)
    assert [e.step for e in events if isinstance(e, Step)] == [1, 2]
    assert (events[-1].kind, events[-1].stops) == ("not-finite", True)
    after = weights(training)
    assert all(torch.equal(after[name], before[name]) for name in after)
    rows = [int(i) for i in training.examples.taken[-1]]
    named = str(caught.value).split("training rows ")[1].split(")")[0]
    assert sorted(map(int, named.split(", "))) == sorted(rows)
    assert "step 3" in str(caught.value)
    assert [p.name for p in complete(tmp_path)] == ["step-000002"]


def test_a_model_with_nothing_to_train_is_refused(models, tmp_path: Path) -> None:
    training = make(tmp_path, models["bert"])
    training.model.requires_grad_(False)
    with pytest.raises(ModelError, match="no weight is trained"):
        list(fit(training))


# The optimizer


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_the_rate_rises_and_falls(steps: int, warmup: float, schedule: str) -> None:
    rates = [rate(step, steps, warmup, schedule) for step in range(steps)]
    rising = round(steps * warmup)
    assert all(0 < r <= 1 for r in rates)
    assert rates[:rising] == sorted(rates[:rising])
    assert rates[rising:] == sorted(rates[rising:], reverse=True)
    if rising < steps:
        assert rates[rising] == 1.0
        if schedule != "constant" and steps - rising > 1:
            assert rates[-1] < rates[rising]


def test_the_rate_of_each_step_is_the_one_used(models, tmp_path: Path) -> None:
    training = make(tmp_path, models["bert"], warmup_ratio=0.25, learning_rate=1e-3)
    used = [e.learning_rate for e in fit(training) if isinstance(e, Step)]
    assert used == pytest.approx([1e-3 * rate(step, 12, 0.25, "linear") for step in range(12)])
    assert used[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])


def test_only_matrices_decay_and_only_what_is_trained_is_given_to_the_optimizer(models, tmp_path: Path) -> None:
    training = make(tmp_path, models["bert"], method="lora")
    groups = make_optimizer(training.model, 1e-3, 0.1).param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert all(p.ndim >= 2 for p in groups[0]["params"])
    assert all(p.ndim < 2 for p in groups[1]["params"])
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in training.model.parameters())


def test_gradients_are_clipped(models, tmp_path: Path) -> None:
    free = [e.gradient_norm for e in fit(make(tmp_path / "a", models["bert"], clip=0, epochs=1)) if isinstance(e, Step)]
    assert max(free) > 0.5
    training = make(tmp_path / "b", models["bert"], clip=0.25, epochs=1)
    norms = []
    original = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        norms.append(
            float(
                torch.nn.utils.get_total_norm(
                    [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
                )
            )
        )
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        list(fit(training))
    assert len(norms) == 6
    assert max(norms) <= 0.25 * 1.001


def test_the_first_twenty_losses_are_those_on_file(models, tmp_path: Path) -> None:
    """A change that moves them says so, and writes new ones: LUTHIER_WRITE_GOLDEN=1 pytest tests/training."""
    found = losses(
        list(fit(make(tmp_path, models["bert"], rows=80, batch_size=8, epochs=2, early_stopping_patience=0)))
    )
    assert len(found) == 20
    if os.environ.get("LUTHIER_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps([round(x, 7) for x in found], indent=1) + "\n")
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)


# A disk that is full


def test_a_checkpoint_waits_for_room(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is some; then all is as if there always had been."""
    monkeypatch.setattr(loop_module, "DISK_PAUSE", 0.05)
    training = make(tmp_path / "whole", models["bert"], save_steps=5)
    whole = losses(list(fit(training)))
    refusals = iter([True, False, True, True, False])
    waiting = make(tmp_path / "waiting", models["bert"], save_steps=5)

    def full() -> None:
        if next(refusals, False):
            raise ResourceError("there is no room", where=str(tmp_path))

    waiting.before_saving = full
    events = list(fit(waiting))
    said = [event for event in events if isinstance(event, Phase) and event.unit == "seconds"]
    assert len(said) >= 3 and all("waiting for room" in event.what and str(tmp_path) in event.what for event in said)
    assert losses(events) == whole and digest(waiting) == digest(training)
    assert [p.name for p in complete(tmp_path / "waiting")] == [p.name for p in complete(tmp_path / "whole")]


@pytest.mark.parametrize("asked", [False, True])
def test_and_gives_up_after_a_time_or_when_asked_to(
    asked: bool, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "DISK_WAIT", 60.0 if asked else 0.3)
    monkeypatch.setattr(loop_module, "DISK_PAUSE", 30.0 if asked else 0.1)
    training = make(tmp_path, models["bert"], save_steps=3, scored=False)
    seen: list[Event] = []
    full = [False]

    def before_saving() -> None:
        if full[0]:
            raise ResourceError("there is no room", where=str(tmp_path))

    training.before_saving = before_saving
    training.stop = lambda: asked and any(isinstance(event, Phase) for event in seen)
    start = time.monotonic()
    with pytest.raises(ResourceError, match="there is no room"):
        for event in fit(training):
            seen.append(event)
            full[0] = full[0] or isinstance(event, Saved)
    assert time.monotonic() - start < 20
    assert [p.name for p in complete(tmp_path)] == ["step-000003"]
    assert any(isinstance(event, Phase) for event in seen)
