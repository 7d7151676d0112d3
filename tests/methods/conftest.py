"""Every cell of the grid tuned once for all tests here: four rows learned by heart."""

from __future__ import annotations

from pathlib import Path

import pytest
from grid_cells import CELLS, TAUGHT, Cell, recipe, teach

import luthier


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> dict[str, Path]:
    """Name -> folder of a base model: random encoders, and language models that were taught a little."""
    place = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_HOME", str(place / "home"))
        patch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
        return {**models, **{name: teach(place, name) for name in TAUGHT}}


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory, bases: dict[str, Path]) -> dict[Cell, luthier.Run]:
    place = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_HOME", str(place / "home"))
        patch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
        return {
            cell: luthier.train(recipe(place, bases[cell.model], cell), out=place / "-".join(cell)) for cell in CELLS
        }
