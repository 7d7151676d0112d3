"""Every cell of the grid tuned once for all tests here: a dozen rows learned by heart."""

from __future__ import annotations

from pathlib import Path

import pytest
from grid_cells import GRID, recipe

import luthier


@pytest.fixture(scope="session")
def grid(
    tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]
) -> dict[tuple[str, str, str], luthier.Run]:
    place = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_HOME", str(place / "home"))
        patch.setattr("luthier.run.prove.write_report", lambda path, content: path.write_text("<html>"))
        return {
            (task, method, name): luthier.train(
                recipe(place, models[name], task, method), out=place / f"{task}-{method}-{name}"
            )
            for task, method, name in GRID
        }
