"""Links out of a model's folder, and tokenizers that burst a text, beside the same without the fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import ModelError
from luthier.models import load_tokenizer, resolve
from luthier.models.folder_files import refuse_growth, refuse_links


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json", "vocab.txt", "1_Pooling/config.json"])
def test_a_link_to_elsewhere_is_refused(name: str, bert: Path, copy: Callable[..., Path], tmp_path: Path) -> None:
    folder, private = copy(bert), tmp_path / "private"
    private.write_text("{}")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text("{}")
    refuse_links(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(private)
    with pytest.raises(ModelError, match="a link to a file outside") as caught:
        resolve(str(folder))
    assert name in caught.value.where


def test_links_that_lead_nowhere_else_are_fine(bert: Path, copy: Callable[..., Path], tmp_path: Path) -> None:
    """Weights on another disk, a name for a file of the folder, and the cache of the hub, whose files are all links."""
    folder = copy(bert)
    shutil.move(folder / "model.safetensors", tmp_path / "weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "weights")
    (folder / "special.json").symlink_to("config.json")
    (tmp_path / "by-another-name").symlink_to(folder)
    assert resolve(str(tmp_path / "by-another-name")).parameters
    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for path in bert.iterdir():
        shutil.copy(path, cache / "blobs" / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert load_tokenizer(resolve(str(snapshot)))
    (cache / "blobs" / "config.json").unlink()
    (cache / "blobs" / "config.json").symlink_to(bert / "config.json")
    with pytest.raises(ModelError, match="a link to a file outside"):
        resolve(str(snapshot))


def _replace(before: str | None, after: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": ".+"} if before is None else {"String": before}, "content": after}


BURSTS = {
    "twice as long, 40 times": [_replace("a", "aa")] * 40,
    "one feeds the next": [_replace(*pair) for pair in [("a", "b" * 50), ("b", "c" * 50)]],
    "by a pattern": [_replace(None, "x" * 60)] * 2,
}
FINE = {
    "signs that feed nothing": [_replace(sign, f"({sign.encode().hex()})") for sign in "ÄÖÜßéèàçñø"],
    "as T5 has it": [_replace("``", '"'), _replace("''", '"'), _replace(" ", "▁")],
    "shorter": [_replace("aaaa", "a")] * 100,
}


@pytest.mark.parametrize("name", [*BURSTS, *FINE])
def test_replacements_that_burst_a_text(name: str, bert: Path, copy: Callable[..., Path]) -> None:
    folder = copy(bert)
    told = json.loads((folder / "tokenizer.json").read_text())
    told["normalizer"] = {"type": "Sequence", "normalizers": {**BURSTS, **FINE}[name]}
    (folder / "tokenizer.json").write_text(json.dumps(told))
    if name in FINE:
        refuse_growth(folder)
        return
    with pytest.raises(ModelError, match="times as long as it was") as caught:
        load_tokenizer(resolve(str(folder)))
    assert caught.value.where == str(folder / "tokenizer.json")
