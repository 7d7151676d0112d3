"""The hub, played by a server on the loopback: what is asked of it, and what is done when it fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Serves one repository, `org/tiny`, from a folder; remembers every path it was asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.asked, self.gated = folder, [], False

    def files(self) -> dict[str, int]:
        found = (p for p in self.folder.rglob("*") if p.is_file())
        return {p.relative_to(self.folder).as_posix(): p.stat().st_size for p in found}


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        files = self.server.files()
        resolve = f"/org/tiny/resolve/{COMMIT}/"
        if self.server.gated:
            self.reply(403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        elif path in (
            "/api/models/org/tiny",
            *(f"/api/models/org/tiny/revision/{r}" for r in ("main", "v1", COMMIT)),
        ):
            siblings = [{"rfilename": name, "size": size} for name, size in files.items()]
            about = {"id": "org/tiny", "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}}
            self.reply(200, json.dumps(about).encode(), {}, body)
        elif path == f"/api/models/org/tiny/tree/{COMMIT}":
            tree = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in files.items()]
            self.reply(200, json.dumps(tree).encode(), {}, body)
        elif path.removeprefix(resolve) in files and path.startswith(resolve):
            name = path.removeprefix(resolve)
            about = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
            self.reply(200, (self.server.folder / name).read_bytes(), about, body)
        elif "/org/tiny" in path:
            self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

    def reply(self, code: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(code)
        for name, value in {
            **headers,
            "Content-Length": str(len(data)),
            "Content-Type": "application/json",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(bert: Path, tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    shutil.copytree(bert, folder)
    more = {
        "README.md": "---\nlicense: mit\n---\n", "pytorch_model.bin": "pickle", "modeling_own.py": "code",
        "onnx/model.onnx": "x", "model.fp16.safetensors": "x", "original/consolidated.safetensors": "x",
        "1_Pooling/config.json": "{}", "training_args.bin": "x",
    }  # fmt: skip
    for name, text in more.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    server = Hub(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`ask(name, **environment)`: resolve the name in a process whose hub is the test's server."""
    program = (
        "import sys, json, luthier.models as m\n"
        "from luthier.errors import LuthierError\n"
        "try:\n    s = m.resolve(sys.argv[1])\n"
        "except LuthierError as e:\n    print(e); sys.exit(e.exit_code)\n"
        "assert 'torch' not in sys.modules\n"
        "print(json.dumps([str(s.folder), s.kind, s.hub_id, s.revision, s.licence]))\n"
    )

    def run(name: str, **more: str) -> subprocess.CompletedProcess[str]:
        settings = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path / "hf")}
        quiet = {
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        environment = {**os.environ, **settings, **quiet, **more}
        return subprocess.run([sys.executable, "-c", program, name], env=environment, capture_output=True, text=True)

    return run


def downloaded(hub: Hub) -> set[str]:
    start = f"/org/tiny/resolve/{COMMIT}/"
    return {path.removeprefix(start) for path in hub.asked if path.startswith(start)}


def test_only_what_is_needed_comes_and_only_once(hub: Hub, ask: Callable) -> None:
    first = ask("org/tiny")
    assert first.returncode == 0, first
    folder, kind, hub_id, revision, licence = json.loads(first.stdout)
    assert (kind, hub_id, revision, licence) == ("encoder", "org/tiny", COMMIT, "mit")
    assert "Fetching org/tiny (0.0 MB, licence mit) from the hub" in first.stderr
    here = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert (
        downloaded(hub)
        == here | {"1_Pooling/config.json"}
        == {p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file()}
    )
    hub.asked.clear()
    for name, more in [("org/tiny", {}), (f"org/tiny@{COMMIT}", {}), ("org/tiny", {"LUTHIER_OFFLINE": "1"})]:
        again = ask(name, **more)
        assert json.loads(again.stdout)[0] == folder and not hub.asked
    assert json.loads(ask("org/tiny@v1").stdout)[3] == COMMIT and hub.asked
    gone = ask("org/tiny@main", HF_ENDPOINT="http://127.0.0.1:9")
    assert json.loads(gone.stdout)[0] == folder and "The hub was not reached; using the copy" in gone.stderr


def test_refused_before_the_weights_come(hub: Hub, ask: Callable) -> None:
    config = json.loads((hub.folder / "config.json").read_text())
    cases = {
        "quantised (awq)": {**config, "quantization_config": {"quant_method": "awq"}},
        "luthier never runs": {**config, "attn_implementation": "evil/kernel"},
    }
    for sentence, changed in cases.items():
        (hub.folder / "config.json").write_text(json.dumps(changed))
        answer = ask("org/tiny", HF_HOME=str(hub.folder.parent / sentence[:5]))
        assert answer.returncode == 2 and sentence in answer.stdout
    (hub.folder / "config.json").write_text(json.dumps(config))
    (hub.folder / "model.safetensors").unlink()
    answer = ask("org/tiny", HF_HOME=str(hub.folder.parent / "third"))
    assert answer.returncode == 2 and "org/tiny@refs/pr/N" in answer.stdout and "pytorch_model.bin" in answer.stdout
    assert not [name for name in downloaded(hub) if name.endswith((".bin", ".py", ".safetensors", ".onnx"))]


def test_what_the_hub_refuses_is_said(hub: Hub, ask: Callable) -> None:
    assert "no such model on the hub" in ask("org/other").stdout
    assert 'no revision "v9"' in ask("org/tiny@v9").stdout
    hub.gated = True
    assert "accept their terms" in ask("org/tiny").stdout
    gone = ask("org/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert gone.returncode == 2 and "the hub was not reached" in gone.stdout
