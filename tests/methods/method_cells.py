"""A method on a random stock model in memory: a few steps on a batch of tokens, then to disk and back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

import architectures
from luthier.engine.inference import without_prompt
from luthier.methods import METHODS, Method
from luthier.models.quiet import quiet_transformers

SEQUENCE = "AutoModelForSequenceClassification"


def make(name: str, **options: Any) -> Method:
    return METHODS[name](METHODS[name].Options(**options))


def given(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the model gives at the batch's own tokens: logits, or the last hidden states."""
    out = model(**batch)
    if hasattr(out, "start_logits"):
        return without_prompt(torch.stack([out.start_logits, out.end_logits], -1), batch)
    return without_prompt(out.logits if hasattr(out, "logits") else out.last_hidden_state, batch)


def tuned(method: Method, name: str, auto_class: str, steps: int = 5) -> Any:
    """The architecture tuned for some steps towards ones; the gradients of the last are still there."""
    model = method.apply(architectures.stock(name, auto_class), architectures.head(auto_class))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    batch = architectures.rows(name)
    for _ in range(steps):
        optimizer.zero_grad()
        states = given(model.train(), batch)
        ((states - 1) * torch.linspace(0.5, 1.5, states.shape[-1])).square().mean().backward()
        optimizer.step()
    return model.eval()


def saved(method: Method, model: Any, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        method.save(model, folder, "some-base")
    return folder


def loaded(method: Method, folder: Path, name: str, auto_class: str) -> Any:
    """What is on disk, on a stock model whose head was drawn anew."""

    def build(source: Any, fresh: bool, /, **settings: Any) -> Any:
        model, other = (architectures.stock(name, auto_class, seed) for seed in (0, 1))
        head = architectures.head(auto_class)
        from luthier.engine.heads import head_parameters

        with torch.no_grad():
            for parameter, new in zip(head_parameters(model, head).values(), head_parameters(other, head).values()):
                parameter.copy_(new)
        return model

    return method.load(folder, SimpleNamespace(), architectures.head(auto_class), build)


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
