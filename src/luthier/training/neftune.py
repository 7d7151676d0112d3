"""Noise on input embeddings (NEFTune: Jain et al. 2023, arxiv.org/abs/2310.05914)."""

from __future__ import annotations

from torch import Tensor

from .row_noise import RowNoise


class Neftune:
    """Uniform noise of -1..1, times alpha over the root of a row's real tokens times the embedding's width."""

    def __init__(self, alpha: float, noise: RowNoise) -> None:
        self.alpha, self.noise = alpha, noise

    def __call__(self, name: str, embedded: Tensor, real: Tensor) -> Tensor:
        width = embedded.shape[-1]
        size = (real.sum(1).clamp(min=1) * width).float().sqrt()
        return self.noise(f"neftune {name}", real, width) * (self.alpha / size)[:, None, None]
