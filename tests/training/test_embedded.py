"""Noise and worst changes of input embeddings: their size, their exactness under any cut, and that runs carry on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_fakes import digest, largest_gap, losses, make, weights
from torch import nn

import tiny
from luthier.engine.device import Machine
from luthier.errors import ModelError
from luthier.training import Step, TrainOptions, fit
from luthier.training.embedded import Embedded
from luthier.training.row_noise import RowNoise

WAYS: dict[str, dict[str, Any]] = {
    "neftune": {"neftune_noise_alpha": 20.0},
    "fgm": {"adversarial": "fgm"},
    "freelb": {"adversarial": "freelb", "adversarial_steps": 3},
    "both": {"adversarial": "freelb", "neftune_noise_alpha": 5.0},
}
IDS, MASK = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


class Toy(nn.Module):
    """Rows of embedded tokens, summed in some way that is not linear: a loss a row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 6)
        self.layer = nn.Linear(6, 4)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (self.layer(self.embedding(ids)).sin() * mask[..., None]).sum((1, 2)).square()


def embedded(model: nn.Module, **options: Any) -> Embedded:
    return Embedded.of(model, TrainOptions(**options))


def run_on(model: Toy, subject: Embedded, ids: torch.Tensor, mask: torch.Tensor, seen: list | None = None) -> Any:
    def run(part: float) -> torch.Tensor:
        with subject.during({"input_ids": ids, "attention_mask": mask}):
            loss = model(ids, mask)
        if seen is not None:
            seen.append(loss.detach())
        (loss.sum() * part).backward()
        return loss.detach().sum()

    return run


# Sizes


def test_noise_is_uniform_by_real_length_and_never_on_padding() -> None:
    model, found = Toy(), []
    subject = embedded(model, neftune_noise_alpha=8.0)
    clean = model.embedding(IDS).detach()
    for _ in range(300):
        with subject.during({"input_ids": IDS, "attention_mask": MASK}):
            found.append(model.embedding(IDS).detach() - clean)
    noise = torch.stack(found)
    assert noise[:, 1, 2:].abs().max() == 0
    for row, length in ((0, 4), (1, 2)):
        bound = 8.0 / (length * 6) ** 0.5
        own = noise[:, row, :length]
        assert 0.99 * bound < own.abs().max() <= bound * 1.0001
        assert own.std() == pytest.approx(bound / 3**0.5, rel=0.03)
        assert own.mean().abs() < 0.03 * bound
    assert torch.equal(model.embedding(IDS), clean), "outside of a pass nothing is added"


def test_fgm_is_one_step_along_the_gradient_of_each_row() -> None:
    model = Toy()
    seen: list[torch.Tensor] = []
    subject = embedded(model, adversarial="fgm", adversarial_epsilon=0.5)
    subject.passes(run_on(model, subject, IDS, MASK, seen))
    given = {name: p.grad.clone() for name, p in model.named_parameters()}
    # By hand, row by row and without padding.
    model.zero_grad()
    expected = []
    for row, length in ((0, 4), (1, 2)):
        states = model.embedding(IDS[row, :length])
        lost = lambda x: model.layer(x).sin().sum().square()
        (upward,) = torch.autograd.grad(lost(states), states, retain_graph=True)
        bound = 0.5 * states.detach().norm(dim=1).mean()
        worst = lost(states + bound * upward / upward.norm())
        expected.append(worst.detach())
        ((lost(states) + worst) / 2).backward()
    assert seen[1] == pytest.approx(torch.stack(expected).numpy(), rel=1e-5)
    assert (seen[1] > seen[0]).all()
    for name, parameter in model.named_parameters():
        assert torch.allclose(given[name], parameter.grad, rtol=1e-4, atol=1e-6), name


def test_freelb_climbs_inside_its_ball() -> None:
    model, rises = Toy(), []
    for seed in range(20):
        torch.manual_seed(seed)
        subject = embedded(model, adversarial="freelb", adversarial_epsilon=0.3, adversarial_steps=4)
        seen: list[torch.Tensor] = []
        norms: list[torch.Tensor] = []
        plain = run_on(model, subject, IDS, MASK, seen)

        def run(part: float, subject: Embedded = subject, norms: list = norms, plain: Any = plain) -> torch.Tensor:
            loss = plain(part)
            norms.append(subject.adversary.changes["input_ids"].detach().flatten(1).norm(dim=1))
            return loss

        subject.passes(run)
        bound = subject.adversary.bounds["input_ids"]
        assert bound == pytest.approx(
            0.3 * np.array([model.embedding(IDS[i, :n]).norm(dim=1).mean().item() for i, n in ((0, 4), (1, 2))])
        )
        assert len(norms) == 4
        assert all((norm <= bound * 1.0001).all() for norm in norms)
        assert (norms[0] < bound * 0.9).all()
        assert subject.adversary.changes["input_ids"][1, 2:].abs().max() == 0
        rises.append((seen[-1] > seen[0]).float().mean())
        subject.close()
    assert np.mean(rises) > 0.9
    model.zero_grad()
    assert model.embedding(IDS).requires_grad


def test_freelb_keeps_dropouts_masks_from_step_to_step() -> None:
    model, masks = Toy(), []
    subject = embedded(model, adversarial="freelb", adversarial_steps=3)

    def run(part: float) -> torch.Tensor:
        with subject.during({"input_ids": IDS, "attention_mask": MASK}):
            loss = model(IDS, MASK).sum()
        masks.append(torch.rand(5))
        (loss * part).backward()
        return loss.detach()

    subject.passes(run)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[1], masks[2])
    assert not torch.equal(masks[0], torch.rand(5))


def test_an_embedding_that_is_not_trained_may_be_changed() -> None:
    model = Toy()
    model.embedding.requires_grad_(False)
    subject = embedded(model, adversarial="fgm")
    seen: list[torch.Tensor] = []
    subject.passes(run_on(model, subject, IDS, MASK, seen))
    assert (seen[1] > seen[0]).all()
    assert model.embedding.weight.grad is None


def test_a_decoders_own_words_and_other_models_are_left_alone() -> None:
    model = Toy()
    subject = embedded(model, neftune_noise_alpha=8.0)
    other = torch.tensor([[7, 8, 9, 1], [2, 3, 4, 5]])
    clean = model.embedding(other).detach()
    with subject.during({"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": other}):
        assert torch.equal(model.embedding(other), clean)
        changed = IDS.clone()  # a task may hide some words and so make a tensor of its own
        assert not torch.equal(model.embedding(changed), model.embedding.weight[IDS])
    subject.close()
    with subject.during({"input_ids": IDS, "attention_mask": MASK}):
        assert torch.equal(model.embedding(IDS), model.embedding.weight[IDS])


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_an_encoder_decoder_is_changed_where_it_reads(tmp_path: Path, architecture: str) -> None:
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(tiny.save_model(tmp_path, architecture)).eval()
    batch = {"input_ids": IDS + 5, "attention_mask": MASK, "decoder_input_ids": IDS[:, :3] + 6}
    encoder = lambda: model.get_encoder()(input_ids=batch["input_ids"], attention_mask=MASK).last_hidden_state
    decoder = lambda: model.get_decoder()(input_ids=batch["decoder_input_ids"]).last_hidden_state
    clean = encoder().detach(), decoder().detach()
    subject = embedded(model, neftune_noise_alpha=50.0)
    with subject.during(batch):
        changed = encoder().detach(), decoder().detach()
    assert (changed[0] - clean[0])[MASK == 1].abs().max() > 0.01
    assert torch.equal(changed[1], clean[1])


def test_rows_draw_the_same_in_any_company() -> None:
    noise, real = RowNoise(), torch.tensor([[True] * 3, [True, True, False], [True, False, False]])
    torch.manual_seed(5)
    noise.begin(3)
    whole = noise("a", real, 4)
    torch.manual_seed(5)
    parts = []
    for i, length in enumerate((3, 2, 1)):
        noise.begin(1)
        parts.append(noise("a", real[i : i + 1, :length], 4)[0])
    for i, part in enumerate(parts):
        assert torch.equal(whole[i, : len(part)], part)
    assert not torch.equal(noise("a", real[2:, :1], 4), noise("b", real[2:, :1], 4))


# In the loop


def in_pieces(folder: Path, model: Path, budget: int, way: str) -> tuple[list[float], dict[str, torch.Tensor], float]:
    settings = {"epochs": 1, "learning_rate": 2e-4, "scored": False, "dropout": 0.0}
    training = make(folder, model, rows=80, longest=60, token_budget=budget, **settings, **WAYS[way])
    found = losses(list(fit(training)))
    return found, weights(training), len(training.examples.taken) / len(found)


def gaps(model: Path, place: Path, way: str) -> tuple[float, float]:
    whole, final, one = in_pieces(place / "whole", model, 10**6, way)
    cut, other, many = in_pieces(place / "cut", model, 60, way)
    assert one == 1
    assert many > 3
    return max(abs(a - b) for a, b in zip(whole, cut)), largest_gap(final, other)


@pytest.mark.parametrize("way", WAYS)
def test_cutting_a_step_into_more_pieces_changes_nothing(models, tmp_path: Path, way: str) -> None:
    loss_gap, weight_gap = gaps(models["bert"], tmp_path, way)
    assert loss_gap <= 1e-5
    assert weight_gap <= 5e-5  # Adam scales up the rounding of small gradients, of which worst changes make more


def test_noise_drawn_batch_by_batch_would_be_noticed(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual way, put in by hand: one draw for the padded batch, divided by its padded length."""

    def naive(self: RowNoise, who: str, real: torch.Tensor, width: int) -> torch.Tensor:
        return torch.rand(*real.shape, width) * 2 - 1

    monkeypatch.setattr(RowNoise, "__call__", naive)
    loss_gap, weight_gap = gaps(models["bert"], tmp_path, "neftune")
    assert max(loss_gap, weight_gap) > 1e-4


def test_a_change_bounded_for_the_batch_as_one_would_be_noticed(
    models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.training.adversarial._norm", lambda change: change.norm().view(1, 1, 1))
    assert gaps(models["bert"], tmp_path, "fgm")[1] > 1e-4


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_carried_on_ends_as_one_that_never_stopped(models, tmp_path: Path, way: str) -> None:
    settings = {"rows": 40, "epochs": 1, "save_steps": 2, "token_budget": 40, "scored": False, **WAYS[way]}
    whole = make(tmp_path / "whole", models["bert"], **settings)
    expected = losses(list(fit(whole)))
    cut = make(tmp_path / "cut", models["bert"], **settings)
    for event in fit(cut):
        if isinstance(event, Step) and event.step == 3:
            break
    again = make(tmp_path / "cut", models["bert"], **settings)
    torch.manual_seed(12345)
    assert losses(list(fit(again))) == expected[2:]
    assert digest(again) == digest(whole)
    plain = make(tmp_path / "plain", models["bert"], **{**settings, **NOTHING})
    assert losses(list(fit(plain))) != expected


NOTHING = {"neftune_noise_alpha": 0.0, "adversarial": "none", "adversarial_steps": 2}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_trains_in_bf16_with_any_method_that_reads_words(models, tmp_path: Path, method: str) -> None:
    for name in ("bert", "roberta"):
        settings = {**WAYS["both"], "neftune_noise_alpha": 0.5, "adversarial_epsilon": 0.1}
        settings |= {"epochs": 20, "save_steps": 1000, "learning_rate": 4e-3, "schedule": "constant"}
        training = make(tmp_path / name, models[name], method=method, rows=16, scored=False, **settings)
        training.machine = Machine("cpu", "bfloat16", "test", 1)
        found = losses(list(fit(training)))
        assert np.isfinite(found).all()
        assert np.mean(found[-8:]) < 0.5 * np.mean(found[:8]), name
        embedding = training.model.get_input_embeddings()
        assert not embedding._forward_hooks, "nothing stays behind"


def test_where_nothing_is_embedded_or_rows_hang_together_it_is_refused(models, tmp_path: Path) -> None:
    for way in WAYS:
        with pytest.raises(ModelError, match="embeds no tokens"):
            list(fit(make(tmp_path / way, models["bert"], method="frozen", **WAYS[way])))
    coupled = make(tmp_path / "c", models["bert"], adversarial="fgm")
    coupled.objective.couples = True
    with pytest.raises(ModelError, match="no row has a worst change of its own"):
        list(fit(coupled))


def test_the_loss_that_is_told_is_that_of_the_first_pass(models, tmp_path: Path) -> None:
    """So that it can be held against validation's."""
    settings = {"rows": 16, "epochs": 1, "dropout": 0.0, "scored": False, "learning_rate": 1e-9}
    plain = losses(list(fit(make(tmp_path / "a", models["bert"], **settings))))
    fgm = losses(list(fit(make(tmp_path / "b", models["bert"], adversarial_epsilon=5.0, **WAYS["fgm"], **settings))))
    assert fgm == pytest.approx(plain, abs=1e-6)
