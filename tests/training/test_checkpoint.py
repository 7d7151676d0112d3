"""Checkpoints: what is saved comes back bit for bit, the damaged are passed over, and the best and newest stay."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from luthier import runs
from luthier.errors import RunError
from luthier.files import clean_staging, publish, sha256_of, verified
from luthier.training import checkpoint
from luthier.training.checkpoint import Position

FILES = [
    "manifest.json",
    "optimizer.safetensors",
    "position.json",
    "random.safetensors",
    "trained.safetensors",
]


def tensors(step: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(step)
    return {
        "w": torch.randn(4, 4).T,  # not contiguous
        "half": torch.randn(3).to(torch.bfloat16),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
        "one": torch.tensor(2.5),
    }


def save(folder: Path, step: int, **facts: object) -> Path:
    position = Position(step=step, **facts)  # type: ignore[arg-type]
    return checkpoint.save(folder, position, tensors(step), {"w/step": torch.tensor(float(step))})


def damage(path: Path, name: str = "trained.safetensors") -> None:
    data = bytearray((path / name).read_bytes())
    data[-1] ^= 1
    (path / name).write_bytes(data)


def steps(folder: Path) -> list[int]:
    return [int(p.name.removeprefix("step-")) for p in checkpoint.complete(folder)]


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    facts = {
        "best_step": 3,
        "best_score": 0.1 + 0.2,
        "misses": 1,
        "train_loss": 1 / 3,
        "over": "",
        "fixed": {"a": [1]},
    }
    torch.manual_seed(99)
    position = Position(step=7, **facts)  # type: ignore[arg-type]
    given = tensors(7)
    torch.manual_seed(5)
    torch.rand(3)
    path = checkpoint.save(tmp_path, position, given, {"w/exp_avg": given["w"]})
    expected = torch.rand(4)
    assert path.name == "step-000007" and sorted(p.name for p in path.iterdir()) == FILES
    back, trained, optimizer, random = checkpoint.load(path)
    assert back == position
    assert trained.keys() == given.keys() and optimizer.keys() == {"w/exp_avg"}
    for name, value in given.items():
        assert trained[name].dtype == value.dtype and trained[name].shape == value.shape
        assert bits(trained[name]) == bits(value)
    assert torch.equal(optimizer["w/exp_avg"], given["w"])
    torch.manual_seed(1)
    checkpoint.restore_random(random)
    assert torch.equal(torch.rand(4), expected)
    assert bits(checkpoint.trained_tensors(path)["odd"]) == bits(given["odd"])


def test_damaged_checkpoints_are_passed_over(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "absent") is None
    for step in (10, 20, 200000, 1000000):
        save(tmp_path, step)
    assert steps(tmp_path) == [10, 20, 200000, 1000000]
    damage(tmp_path / "step-1000000")
    assert checkpoint.newest(tmp_path) == tmp_path / "step-200000"
    seen = 0
    for name in FILES:  # a file missing, cut to nothing, or flipped; and one that no manifest names
        for how in ("gone", "empty", "flipped", "unnamed"):
            shutil.rmtree(tmp_path / "step-200000", ignore_errors=True)
            path = save(tmp_path, 200000)
            if how == "gone":
                (path / name).unlink()
            elif how == "empty":
                (path / name).write_bytes(b"")
            elif how == "flipped" and name != "manifest.json":
                damage(path, name)
            elif how == "unnamed" and name != "manifest.json":
                manifest = verified(path)
                del manifest[name]
                runs.write_json(path / "manifest.json", manifest)
            else:
                continue
            assert checkpoint.newest(tmp_path) == tmp_path / "step-000020", (name, how)
            for read in (checkpoint.load, checkpoint.trained_tensors):
                with pytest.raises(RunError):
                    read(path)
            seen += 1
    assert seen == 18
    for step in (10, 20):
        damage(tmp_path / f"step-{step:06d}", "position.json")
    shutil.rmtree(tmp_path / "step-200000")
    assert checkpoint.newest(tmp_path) is None


def test_of_several_missing_files_the_first_by_name_is_said(tmp_path: Path) -> None:
    path = save(tmp_path, 10)
    manifest = verified(path)
    for pair in itertools.combinations(FILES[1:], 2):
        runs.write_json(path / "manifest.json", {k: v for k, v in manifest.items() if k not in pair})
        with pytest.raises(RunError, match=f"{pair[0]} is missing"):
            checkpoint.load(path)


def test_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 5)
    for name in ("step-5", "step-000005.bak", "xstep-000006", "step-00000a", "step-000009"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-000008").write_text("")
    assert steps(tmp_path) == [5]
    assert save(tmp_path, 9) == tmp_path / "step-000009"  # takes the place of an empty one
    assert steps(tmp_path) == [5, 9]


def test_a_step_saved_before_is_kept_if_whole_and_replaced_if_not(tmp_path: Path) -> None:
    path = save(tmp_path, 10)
    stamp = (path / "manifest.json").stat().st_mtime_ns
    save(tmp_path, 10)
    assert (path / "manifest.json").stat().st_mtime_ns == stamp
    damage(path)
    save(tmp_path, 10)
    assert checkpoint.newest(tmp_path) == path
    # Training went on from step 10, because 20 was damaged: what it saves on the way outlives 20.
    damage(save(tmp_path, 20))
    save(tmp_path, 15)
    checkpoint.prune(tmp_path, 10, 2)
    assert steps(tmp_path) == [10, 15]


def test_prune_keeps_the_best_and_the_newest(tmp_path: Path) -> None:
    cases = [
        (0, 3, [40, 50, 60]),
        (10, 3, [10, 50, 60]),
        (60, 3, [40, 50, 60]),
        (50, 2, [50, 60]),
        (30, 2, [30, 60]),
        (99, 2, [50, 60]),
        (10, 9, [10, 20, 30, 40, 50, 60]),
    ]
    for number, (best, limit, left) in enumerate(cases):
        folder = tmp_path / str(number)
        for step in range(10, 70, 10):
            save(folder, step)
        (folder / "step-000001").mkdir()  # somebody else's
        checkpoint.prune(folder, best, limit)
        assert steps(folder) == left
        assert (folder / "step-000001").is_dir()
    assert len(cases) == 7


def test_a_cut_while_pruning_leaves_nothing_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step)

    def cut(path: Path, **_: object) -> None:
        (Path(path) / "trained.safetensors").unlink()  # some files are gone, the manifest is not
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.prune(tmp_path, 20, 2)
    assert steps(tmp_path) == [20, 30, 40]
    for path in checkpoint.complete(tmp_path):
        checkpoint.load(path)
    clean_staging(tmp_path)
    checkpoint.prune(tmp_path, 20, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000020", "step-000040"]


def test_another_versions_checkpoint_is_refused(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        for name in ("trained", "optimizer", "random"):
            save_file({}, folder / f"{name}.safetensors")
        runs.write_json(folder / "position.json", {"step": 1, "epoch": 2})

    publish(tmp_path / "step-000001", write)
    with pytest.raises(RunError, match="written by another version"):
        checkpoint.load(tmp_path / "step-000001")


def test_what_differs_is_said() -> None:
    then = {"threads": 2, "recipe": "a", "gone": 1}
    assert checkpoint.same(then, {"threads": 2, "recipe": "a"}) == []
    assert checkpoint.same(then, {"threads": 4, "new": None, "recipe": "b"}) == [
        "threads: 2 then, 4 now",
        'recipe: "a" then, "b" now',
    ]


@pytest.mark.parametrize(
    "changes", [{"step": "6"}, {"step": True}, {"over": None}, {"fixed": []}, {"best_score": "high"}, {"misses": 1.5}]
)
def test_a_position_of_other_kinds_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """Whoever can change a checkpoint can change its manifest, too."""
    tensors = {"w": torch.zeros(2)}
    path = checkpoint.save(tmp_path, checkpoint.Position(step=6, best_score=None), tensors, tensors)
    assert checkpoint.load(path)[0].step == 6
    told = json.loads((path / "position.json").read_text())
    (path / "position.json").write_text(json.dumps({**told, **changes}))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["position.json"] = sha256_of(path / "position.json")
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="it is damaged") as caught:
        checkpoint.load(path)
    assert caught.value.where.endswith("position.json")


def test_tensors_that_are_none_are_refused(tmp_path: Path) -> None:
    tensors = {"w": torch.zeros(2)}
    path = checkpoint.save(tmp_path, checkpoint.Position(step=6), tensors, tensors)
    (path / "optimizer.safetensors").write_bytes(b"cposix\nsystem\n(Vls\ntR.")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["optimizer.safetensors"] = sha256_of(path / "optimizer.safetensors")
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="it holds no tensors"):
        checkpoint.load(path)
