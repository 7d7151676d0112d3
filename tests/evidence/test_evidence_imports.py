"""The room is light to enter: nothing heavy is imported before it is used."""

import subprocess
import sys
from pathlib import Path

import luthier.evidence

ROOM = Path(luthier.evidence.__file__).parent


def test_importing_every_file_imports_nothing_heavy():
    paths = (path.relative_to(ROOM).with_suffix("") for path in ROOM.rglob("*.py") if path.stem != "__init__")
    names = sorted(".".join(path.parts) for path in paths)
    assert len(names) >= 40
    heavy = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "jinja2", "pandas")
    code = ";".join(
        ["import sys", *(f"import luthier.evidence.{name}" for name in names),
         f"print([name for name in {heavy!r} if name in sys.modules])"]
    )  # fmt: skip
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOM.parents[1], check=True)
    assert run.stdout.strip() == "[]"
