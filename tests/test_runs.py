"""The run folder survives what happens to it: cuts at any step, flipped bytes, full disks, two processes at once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from luthier import files, processes, runs
from luthier.errors import ResourceError, RunError
from luthier.files import (
    REPLACED,
    STAGING,
    clean_staging,
    discard,
    publish,
    read_json,
    read_jsonl,
    read_log,
    verified,
    write_json,
    write_jsonl,
    write_new,
    write_text,
)
from luthier.runs import RunFolder, count_test, find_run, known_runs, new_run, newest_unfinished


class Cut(BaseException):
    """The process ends here: nothing after this line runs but `finally`, and a kill would not run even that."""


class Disk:
    """Records what reaches the disk in order, and cuts, or fills up, at the chosen step."""

    STEPS = ("fsync", "replace", "rename", "rmtree", "unlink")

    def __init__(self, patch: pytest.MonkeyPatch, stop_at: int = -1, fault: BaseException | None = None) -> None:
        self.log: list[tuple[str, str]] = []
        self.stop_at, self.fault = stop_at, fault or Cut()
        self.cut = False
        for module, name in (
            (os, "fsync"),
            (os, "replace"),
            (os, "rename"),
            (os, "unlink"),
            (shutil, "rmtree"),
        ):
            patch.setattr(module, name, self._watched(getattr(module, name), name))

    def _watched(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if self.cut and isinstance(self.fault, Cut):
                return None  # a dead process cleans nothing up
            if name == "rmtree" and kwargs.get("ignore_errors") and not Path(args[0]).exists():
                return None
            if name != "unlink":
                if len(self.log) == self.stop_at and not self.cut:
                    self.cut = True
                    raise self.fault
                place = f"/proc/self/fd/{args[0]}" if name == "fsync" else args[-1]
                self.log.append((name, os.path.realpath(place)))
            return real(*args, **kwargs)

        return step


def two_files(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "a.txt").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "b.txt").write_text(text * 100)

    return write


def content(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_write_text_survives_a_cut_at_every_step(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_text(path, "old")
    for step in range(4):
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, step)
            if step < 3:
                with pytest.raises(Cut):
                    write_text(path, "new")
            else:
                write_text(path, "new")
        assert path.read_text() == ("old" if step < 2 else "new")
        assert [name for name, _ in disk.log] == ["fsync", "replace", "fsync"][:step]
        clean_staging(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["status.json"]
    assert disk.log[1:] == [("replace", str(path)), ("fsync", str(tmp_path))]
    assert Path(disk.log[0][1]).name == f"{STAGING}{os.getpid()}-status.json"


def order_is_safe(log: list[tuple[str, str]], final: Path, files: int) -> bool:
    """Every file, then the manifest, then the folder are synced; then comes the name, then the parent's sync."""
    named = [i for i, (step, place) in enumerate(log) if step == "rename" and place == str(final)]
    if len(named) != 1:
        return False
    before, after = log[: named[0]], log[named[0] + 1 :]
    synced = [place for step, place in before if step == "fsync"]
    manifest = [i for i, (step, place) in enumerate(before) if step == "replace" and place.endswith("/manifest.json")]
    return (
        len(manifest) == 1
        and len({place for step, place in before[: manifest[0]] if step == "fsync"}) >= files + 2  # + inner, manifest
        and before[-1] == ("fsync", str(Path(before[manifest[0]][1]).parent))
        and len(synced) >= files + 3
        and ("fsync", str(final.parent)) in after[:1]
    )


def test_publish_writes_in_the_order_that_a_power_cut_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = tmp_path / "step-000001"
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        publish(final, two_files("x"))
    assert order_is_safe(disk.log, final, files=2)
    assert list(json.loads((final / "manifest.json").read_text())) == ["a.txt", "inner/b.txt"]

    # Broken twins: one that names the folder before it is synced, one that forgets the parent, one without files.
    log, twins = disk.log, 0
    rename = next(i for i, (step, _) in enumerate(log) if step == "rename")
    for broken in (
        [log[rename], *log[:rename], *log[rename + 1 :]],
        log[: rename + 1],
        log[2:],
        [entry for entry in log if not entry[1].endswith("manifest.json")],
        [*log[: rename - 1], *log[rename:]],
    ):
        assert not order_is_safe(broken, final, files=2)
        twins += 1
    assert twins == 5


@pytest.mark.parametrize("replace", [False, True])
def test_publish_survives_a_cut_at_every_step(tmp_path: Path, replace: bool) -> None:
    """After each cut and a clean-up the name holds all of the old or all of the new."""
    seen, states = 0, set()
    for step in range(40):
        place = tmp_path / str(step)
        final = place / "model"
        if replace:
            publish(final, two_files("old"))
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, step)
            with contextlib.suppress(Cut):
                publish(final, two_files("new"), replace=replace)
        clean_staging(place)
        if final.exists():
            verified(final)
            states.add(content(final)["a.txt"])
        else:
            assert not replace
            states.add("")
        assert {p.name for p in place.iterdir()} <= {"model"}
        seen += 1
        if not disk.cut:
            assert content(final)["a.txt"] == "new"
            break
    assert states == ({"old", "new"} if replace else {"", "new"})
    assert 8 < seen < 20


def test_discard_survives_a_cut_at_every_step(tmp_path: Path) -> None:
    seen = 0
    for step in range(4):
        folder = tmp_path / str(step) / "step-000001"
        publish(folder, two_files("x"))
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, step)
            with contextlib.suppress(Cut):
                discard(folder)
        clean_staging(folder.parent)
        assert [p.name for p in folder.parent.iterdir()] == (["step-000001"] if step == 0 else [])
        seen += disk.cut
    assert seen == 3


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        two_files("x")(folder)
        raise ValueError("no")

    publish(tmp_path / "model", two_files("old"))
    with pytest.raises(ValueError, match="no"):
        publish(tmp_path / "model", write, replace=True)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert content(tmp_path / "model")["a.txt"] == "old"


def test_verified_sees_every_flipped_byte(tmp_path: Path) -> None:
    folder, draw, seen = tmp_path / "m", random.Random(0), 0
    publish(folder, two_files("hello"))
    assert set(verified(folder)) == {"a.txt", "inner/b.txt"}
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    for _ in range(20):
        path = draw.choice(files)
        data = path.read_bytes()
        at = draw.choice([i for i, byte in enumerate(data) if byte not in b" \n"])
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << draw.randrange(7)]) + data[at + 1 :])
        with pytest.raises(RunError, match=r"(not what was saved|damaged|cannot be read)"):
            verified(folder)
        path.write_bytes(data)
        seen += 1
    assert seen == 20
    for damage in ("cut", "gone"):
        data = files[0].read_bytes()
        files[0].write_bytes(data[:-1]) if damage == "cut" else files[0].unlink()
        with pytest.raises(RunError, match=r"a\.txt: the file is not what was saved"):
            verified(folder)
        files[0].write_bytes(data)
    for text in ("", "[]", "null", "\0" * 100):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(RunError, match="damaged"):
            verified(folder)


DECOYS = [
    "step-000010", "step-000010.tmp", "tmp-step-000010", "checkpoint-10", "model.incomplete", ".tmp",
    ".staging", "tmp", "staging", "luthier-staging-1-a", ".luthier", ".luthier-staging", ".luthier-staging-",
    ".luthier-staging-notes", ".luthier-staging-a-b", ".luthier-staging-1", ".luthier-staging-1-",
    ".luthier-staging-1x-b", " .luthier-staging-1-b", "x.luthier-staging-1-b", ".Luthier-staging-1-b",
    ".luthier-stagings-1-b", ".luthier_staging-1-b", "xluthier-staging-1-b", ".luthier-replaced-",
    ".luthier-replaced-model", ".luthier-replaced-1", "luthier-replaced-1-b", ".luthier-replaced--b",
    ".cache", "cache", "old", "model-old", "model.bak", "model~", "#model#", "lost+found", ".git", ".trash",
    "unfinished", "manifest.json", "status.json", "events.jsonl", "partial", "model.part", ".nfs0001", "core",
    "step-999999-staging", ".luthier-staging--1-b", ".luthier-staging-1.5-b",
]  # fmt: skip


def test_clean_up_deletes_only_what_carries_our_marker(tmp_path: Path) -> None:
    assert len(set(DECOYS)) == 50
    for i, name in enumerate(DECOYS):
        (tmp_path / name).mkdir() if i % 2 else (tmp_path / name).write_text("x")
    alive = f"{STAGING}1-other-process"
    (tmp_path / alive).mkdir()
    ours = [
        f"{STAGING}{2**22 + 7}-step-000001",
        f"{STAGING}{os.getpid()}-a.json",
        f"{REPLACED}{2**22 + 7}-model",
    ]
    for name in ours:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    (tmp_path / "model").mkdir()
    (tmp_path / f"{STAGING}{2**22 + 9}-link").symlink_to(tmp_path / "old")
    clean_staging(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {*DECOYS, "model", alive}
    clean_staging(tmp_path / "absent")


def test_runs_are_numbered_by_two_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom luthier.runs import new_run\nsys.stdin.readline()\n"
        "base = pathlib.Path(sys.argv[1])\n"
        "for _ in range(20): print(new_run(None, base, 'classification-full', base / 'home').name)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=-1, stdout=-1, text=True) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    names = [name for process in both for name in process.communicate()[0].split()]
    assert sorted(names) == [f"{n:04d}-classification-full" for n in range(1, 41)]
    assert len(read_log(tmp_path / "home" / "runs.jsonl")) == 40


def test_a_number_taken_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, taken = Path.mkdir, []

    def slower(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name[:4].isdigit() and len(taken) < 3:
            make(path)  # the other process was quicker
            taken.append(path.name)
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", slower)
    assert new_run(None, tmp_path, "k", tmp_path / "home").name == "0004-k"
    assert taken == ["0001-k", "0002-k", "0003-k"]


def test_numbers_go_on_from_the_highest(tmp_path: Path) -> None:
    for name in ("0007-x", "0003-y", "notes", "12-z", "99999999999-far", "٠٠٠٩-x"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert new_run(None, tmp_path, "lora", tmp_path / "home").name == "0008-lora"
    (tmp_path / "runs" / "9999-x").mkdir()
    assert new_run(None, tmp_path, "lora", tmp_path / "home").name == "10000-lora"
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="no folder can be made here"):
        new_run(None, tmp_path / "file", "lora", tmp_path / "home")


def test_out(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("absent/deep", "empty", "begun"):
        out = tmp_path / name
        if name != "absent/deep":
            out.mkdir()
        if name == "begun":  # killed before its first status was whole
            (out / f"{STAGING}77-status.json").write_text("{")
        run = new_run(out, tmp_path, "k", home)
        assert run.path == out and out.is_dir()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "recipe.yaml").write_text("mine")
    file = tmp_path / "file"
    file.write_text("")
    wrong = {foreign: "the folder is not empty", file: "this is a file", file / "x": "no folder can be made"}
    for out, words in wrong.items():
        with pytest.raises(RunError, match=words) as caught:
            new_run(out, tmp_path, "k", home)
        assert "--out" in caught.value.fix and "resume" not in caught.value.fix
    run = new_run(tmp_path / "r", tmp_path, "k", home)
    run.set_status("failed", error="the data has errors")
    write_json(run.data, {})
    assert new_run(run.path, tmp_path, "k", home).path == run.path, "refused before training: never begun"
    assert not any(run.path.iterdir())
    run.set_status("failed")
    (run.path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        new_run(run.path, tmp_path, "k", home)
    assert (run.path / "notes.txt").read_text() == "mine"
    (run.checkpoints / "step-000001").mkdir(parents=True)
    for state, goes_on in (("stopped", True), ("failed", True), ("finished", False)):
        run.set_status(state)
        with pytest.raises(RunError, match="not empty") as caught:
            new_run(run.path, tmp_path, "k", home)
        assert ("luthier resume" in caught.value.fix) == goes_on
    assert (foreign / "recipe.yaml").read_text() == "mine"


def test_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    assert run.status()["state"] == "failed" and not run.finished()
    run.set_status("running", step=3, base="/x")
    first = run.status()
    assert (first["state"], first["step"], first["pid"], first["verdict"]) == (
        "running",
        3,
        os.getpid(),
        None,
    )
    run.set_status("failed", error="no memory")
    run.set_status("running")
    assert "error" not in run.status() and run.status()["base"] == "/x" and run.status()["id"] == first["id"]
    with pytest.raises(ValueError, match="done"):
        run.set_status("done")

    def with_process(**facts: Any) -> str:
        write_json(run.status_file, {**first, **facts})
        return run.status()["state"]

    dead = subprocess.Popen(["sleep", "60"])
    began = int(processes.start_of(dead.pid) or 0) / os.sysconf("SC_CLK_TCK")
    assert abs(began - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert with_process(pid=dead.pid, pid_start=processes.start_of(dead.pid)) == "running"
    dead.kill()
    while (Path("/proc") / str(dead.pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert with_process(pid=dead.pid, pid_start=None) == "stopped"  # ended, and nobody asked for its exit status
    dead.wait()
    assert with_process(pid=dead.pid, pid_start=None) == "stopped"
    assert with_process() == "running"
    assert with_process(pid_start=None) == "running"
    assert with_process(pid_start="12345") == "stopped"  # another process has the number now
    assert with_process(pid=1, pid_start="0") == "stopped"
    for pid in (0, -1, True, None, "7", 2**70):
        assert with_process(pid=pid) == "stopped"
    assert with_process(state="finished", pid=dead.pid) == "finished" and run.finished()
    monkeypatch.setattr(processes, "start_of", lambda pid: None)  # a system without /proc
    assert with_process(pid_start=None) == "running"
    for text in ("", "[]", '{"state": "odd"}', "{}", '{"state": "run'):
        run.status_file.write_text(text)
        with pytest.raises(RunError, match=r"status\.json"):
            run.status()


def test_find_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    made = [new_run(None, tmp_path, kind, home) for kind in ("qa-lora", "qa-full", "never-begun")]
    for run in made[:2]:
        run.set_status("finished")
    elsewhere = new_run(tmp_path / "else" / "where", tmp_path, "k", home)
    elsewhere.set_status("stopped")
    forms = {
        "1": made[0], "0001": made[0], "2": made[1], "0002-qa-full": made[1], str(made[0].path): made[0],
        f"{made[0].path}/": made[0], "last": elsewhere, str(elsewhere.path): elsewhere,
    }  # fmt: skip
    for name, run in forms.items():
        assert find_run(name, home, tmp_path).path == run.path, name
    assert len(forms) == 8
    wrong = {
        "3": "no such run", "0002-qa-ful": 'Did you mean "0002-qa-full"', "²": "no such run", "٢": "no such run",
        str(tmp_path): "holds no run", str(made[2].path): "holds no run", "~nobody-at-all/x": "no such run",
        "x" * 5000: "no such run", "a\0b": "no such run", "9" * 5000: "no such run", "": "",
    }  # fmt: skip
    for name, words in wrong.items():
        with pytest.raises(RunError) as caught:
            find_run(name, home, tmp_path)
        assert words in str(caught.value) and caught.value.fix
    assert len(wrong) == 11
    with pytest.raises(RunError, match="no run yet"):
        find_run("last", tmp_path / "no-home", tmp_path / "nowhere")
    assert find_run("last", tmp_path / "no-home", tmp_path).path == made[1].path
    for i in range(3, 25):  # 10000 comes after 9999, and the newest names are offered
        RunFolder(tmp_path / "runs" / f"{9980 + i}-k").set_status("finished")
    assert find_run("last", tmp_path / "no-home", tmp_path).name == "10004-k"
    monkeypatch.chdir(made[0].path)
    assert find_run(".", home, tmp_path).path == Path()


def test_the_list_of_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert known_runs(home) == [] and newest_unfinished(home) is None
    made = [new_run(tmp_path / name, tmp_path, "k", home) for name in ("a", "b", "c", "d", "e")]
    for run, state in zip(made, ("stopped", "failed", "finished", "running", "stopped")):
        run.set_status(state)
        run.recipe.write_text("")
    assert [p.name for p in known_runs(home)] == ["a", "b", "c", "d", "e"]
    with (home / "runs.jsonl").open("a") as file:
        file.write('[1]\n"x"\n{"path": 3}\n{"time": 1}\n{"path": "/a')  # cut by a crash
    shutil.rmtree(made[0].path)
    new_run(made[0].path, tmp_path, "k", home).set_status("failed")
    made[0].recipe.write_text("")
    assert [p.name for p in known_runs(home)] == ["b", "c", "d", "e", "a"]
    assert newest_unfinished(home).name == "a"  # type: ignore[union-attr]
    made[0].set_status("failed", refused=True)
    assert newest_unfinished(home).name == "e" and find_run("last", home, tmp_path).name == "e"  # type: ignore[union-attr]
    assert made[0].refused() and not made[4].refused()
    made[0].set_status("failed")
    assert find_run("last", home, tmp_path).name == "a"
    made[0].recipe.unlink()
    assert newest_unfinished(home).name == "e", "killed as it was begun"  # type: ignore[union-attr]
    shutil.rmtree(made[0].path)
    made[4].status_file.write_text("{")  # a damaged one stands in no other's way
    assert newest_unfinished(home).name == "b"  # type: ignore[union-attr]


def test_the_ledger_counts_runs_not_folders(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for n, name in enumerate(("a", "b", "c"), 1):
        run = new_run(tmp_path / name, tmp_path, "k", home)
        run.set_status("running")
        assert [count_test("rows", run.path, home) for _ in range(2)] == [n, n]
    assert count_test("other rows", tmp_path / "a", home) == 1
    shutil.move(tmp_path / "a", tmp_path / "moved")
    assert count_test("rows", tmp_path / "moved", home) == 3
    RunFolder(tmp_path / "moved").set_status("finished")
    assert count_test("rows", tmp_path / "moved", home) == 3
    new_run(tmp_path / "a", tmp_path, "k", home).set_status("running")  # the same place, another run
    assert count_test("rows", tmp_path / "a", home) == 4
    inner = RunFolder(tmp_path / "a" / "without-made-rows")
    inner.path.mkdir()
    inner.set_status("running")
    assert count_test("rows", inner.path, home) == 4  # made to hold the run against, whose folder it lies in
    with (home / "tests.jsonl").open("a") as file:
        file.write('{"test": "rows", "ru')
    new_run(tmp_path / "e", tmp_path, "k", home).set_status("running")
    assert [count_test("rows", tmp_path / "e", home) for _ in range(2)] == [5, 5]
    assert len(read_log(home / "tests.jsonl")) == 6  # one line each, and one for the other rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "append", _full)
        assert count_test("rows", tmp_path / "never-begun", home) == 6


def _full(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_with_path_and_bytes(tmp_path: Path) -> None:
    """At every step, whoever says it first: what was saved before stays, and nothing half stands under a name."""
    seen = 0
    text, final = tmp_path / "a.json", tmp_path / "model"
    write_text(text, "old")
    publish(final, two_files("old"))
    before = {p.name for p in tmp_path.iterdir()}

    def new(folder: Path) -> None:
        two_files("new")(folder)
        write_json(folder / "c.json", 1)

    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        for step in range(14):
            with pytest.MonkeyPatch.context() as patch:
                disk = Disk(patch, step, OSError(number, "x"))
                try:
                    write_text(text, "new!") if step < 2 else publish(final, new, replace=True, size=1234)
                    caught = None
                except ResourceError as error:
                    caught = error
            if disk.cut and caught is not None:
                assert caught.exit_code == 4
                assert caught.where == str(text if step < 2 else final)
                free = f"bytes are free, {'4' if step < 2 else '1,234'} are needed"
                assert os.strerror(number) in caught.found and free in caught.found and "resume" in caught.fix
                seen += 1
            clean_staging(tmp_path)
            assert {p.name for p in tmp_path.iterdir()} == before
            assert text.read_text() == "old"
            verified(final)
            if content(final)["a.txt"] == "new":  # the step after the last
                publish(final, two_files("old"), replace=True)
    assert seen >= 3 * 10

    def by_safetensors(folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(ResourceError, match="No space left on device"):
        publish(tmp_path / "x", by_safetensors)
    for other in (OSError(errno.EIO, "x"), SafetensorError("shared memory"), KeyError("x")):
        with pytest.raises(type(other)), files.disk_errors(tmp_path):
            raise other
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", _full)
        for out in (None, tmp_path / "o"):
            with pytest.raises(ResourceError, match="no room"):
                new_run(out, tmp_path, "k", tmp_path / "home")
    with pytest.raises(ResourceError, match="no room"), files.disk_errors(tmp_path):
        raise Exception("No space left on device (os error 28)")  # as tokenizers says it
    with pytest.raises(ResourceError, match=f"{10**18:,} are needed"):
        publish(final, two_files("newer"), replace=True, size=10**18)
    assert content(final)["a.txt"] == "old" and not list(tmp_path.glob(f"{STAGING}*"))


def test_lines_that_a_full_disk_has_no_room_for_wait_in_their_turn(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.events.symlink_to("/dev/full")
    for step in (1, 2):
        run.add_event({"event": "step", "step": step})  # costs the run nothing
    with pytest.raises(ResourceError, match=r"\d+ bytes are free, [\d,]+ are needed"):
        run.sync_events()
    run.note_status("failed")  # the folder itself has room
    assert run.status()["state"] == "failed" and len(run.waiting) == 2
    run.events.unlink()
    run.add_event({"event": "step", "step": 3})
    assert [event["step"] for event in read_log(run.events)] == [1, 2, 3] and not run.waiting
    run.sync_events()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "write_json", _no_room)
        run.note_status("stopped")
        with pytest.raises(ResourceError):
            run.set_status("stopped")
    assert run.status()["state"] == "failed"


def _no_room(path: Path, value: Any) -> None:
    raise ResourceError("full", where=str(path))


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    run = RunFolder(tmp_path)
    run.add_event({"event": "step", "step": 1})
    before = run.events.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, old[1]))
        run.add_event({"event": "step", "step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert run.events.read_bytes() == before
    run.add_event({"event": "step", "step": 3})
    assert [json.loads(line)["step"] for line in run.events.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_is_whole_and_never_in_the_place_of_another(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))
    path = tmp_path / "a.jsonl"

    def full(part: Path) -> None:
        part.write_text("ha")
        raise OSError(errno.ENOSPC, "x")

    with pytest.raises(ResourceError, match=r"bytes are free, 4 are needed.*\nFix: make room; nothing was written"):
        write_new(path, full, 4)
    assert not list(tmp_path.iterdir())
    assert write_new(path, lambda part: part.write_text("half") and None)
    assert not write_new(path, lambda part: part.write_text("other") and None)
    assert path.read_text() == "half" and [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_no_number_is_said_where_it_is_not_known_how_much_is_needed(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "x")

    with pytest.raises(ResourceError) as caught:
        publish(tmp_path / "x", write)
    assert "bytes are free" in caught.value.found and "needed" not in caught.value.found


def test_a_manifest_names_its_files_in_order(tmp_path: Path) -> None:
    names = sorted(f"{letter}{number}.txt" for letter in "zbya" for number in range(5))

    def write(folder: Path) -> None:
        for name in reversed(names):
            (folder / name).write_text(name)

    publish(tmp_path / "model", write)
    assert list(read_json(tmp_path / "model" / "manifest.json")) == names


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    odd = ["\u2028", "\x85", "\x0b\x0c\x1c", "\r\n", "\ud800", "é", "", "\0"]
    write_jsonl(tmp_path / "a.jsonl", [{"id": i, "text": text} for i, text in enumerate(odd)])
    assert [line["text"] for line in read_jsonl(tmp_path / "a.jsonl")] == odd
    write_json(tmp_path / "a.json", odd)
    assert read_json(tmp_path / "a.json") == odd
    assert read_jsonl(tmp_path / "absent") == read_log(tmp_path / "absent") == []
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": \n{"id": 3}\n')
    with pytest.raises(RunError, match=r"a\.jsonl:2: it is damaged"):
        read_jsonl(tmp_path / "a.jsonl")
    for text in ("", "{", "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(RunError, match="it is damaged"):
            read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b'"\xff"')
    wrong = {tmp_path: "cannot be read (Is a directory)", tmp_path / "absent": "it is missing"}
    for path, words in {**wrong, tmp_path / "b.json": "cannot be read ('utf-8' codec"}.items():
        with pytest.raises(RunError, match=re.escape(words)):
            read_json(path)


@pytest.mark.parametrize("number", [0.5, float("nan")])
def test_json_is_written_one_way(number: float, tmp_path: Path) -> None:
    """With numbers that JSON has no word for, and without."""
    value = {"path": tmp_path, "é": [number]}
    told = f"{number}" if number == 0.5 else "null"
    assert files.json_text(value) == f'{{"path": "{tmp_path}", "é": [{told}]}}'
    assert files.json_text(value, indent=1) == f'{{\n "path": "{tmp_path}",\n "é": [\n  {told}\n ]\n}}'


def test_events_after_a_cut_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2):
        run.add_event({"event": "step", "step": step})
    whole = run.events.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 5, len(whole)):
        run.events.write_bytes(whole[:cut])
        run.add_event({"event": "resumed", "step": 9})
        steps = [event["step"] for event in read_log(run.events)]
        assert steps == ([1, 2, 9] if cut >= len(whole) - 1 else [1, 9])
    run.events.write_bytes(whole + b"\0" * 50 + b"\n\xff\n[1]\n")
    assert len(read_log(run.events)) == 2


def test_numbers_that_json_has_no_word_for_become_null(tmp_path: Path) -> None:
    value = {"loss": float("nan"), "gap": [1.5, float("inf"), {"low": -float("inf")}], "text": "NaN \u2028"}
    expected = {"loss": None, "gap": [1.5, None, {"low": None}], "text": "NaN \u2028"}
    write_json(tmp_path / "a.json", value)
    write_jsonl(tmp_path / "a.jsonl", [value, value])

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads((tmp_path / "a.json").read_text("utf-8"), parse_constant=refuse) == expected
    lines = (tmp_path / "a.jsonl").read_text("utf-8").split("\n")[:-1]
    assert [json.loads(line, parse_constant=refuse) for line in lines] == [expected] * 2


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "inner/../../outside.txt"])
def test_a_manifest_names_no_file_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    publish(folder, lambda place: (place / "a.txt").write_text("a") and None)
    (tmp_path / "outside.txt").write_text("a")
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", {**manifest, name: manifest["a.txt"]})
    with pytest.raises(RunError, match="which is no file of its folder"):
        verified(folder)
