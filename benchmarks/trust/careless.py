"""What a careless program does with strangers' files: the twins of the bar, and the proof that canaries work.

The one file in which such calls may stand: the bar of the syntax tree knows it by name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jinja2

TWINS = {
    "opens-pickles": "weights that are in no safetensors file are looked for in pickles",
    "trusts-remote-code": "transformers may run the code of a model's folder",
    "follows-links": "a model's files may be links to files outside of its folder",
    "unsandboxed-templates": "chat templates are rendered without a sandbox",
    "patient-with-templates": "a chat template may compute for a minute",
    "reads-any-file": "rows are read from whatever a path names, pipes and devices too",
    "expands-variables": "a recipe's ${NAME} becomes the environment's value",
    "loads-yaml-tags": "a recipe's YAML may make any object",
}


def open_file(path: Path) -> Any:
    """As torch.load, joblib and numpy did for years."""
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301


def open_object(data: bytes) -> Any:
    """As pyarrow opened the extension types of files before 14.0.1."""
    return pickle.loads(data)  # noqa: S301


def import_file(path: Path) -> Any:
    """As repository code is imported."""
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_yaml(text: str) -> Any:
    """As PyYAML's load did before it asked for a loader."""
    import yaml

    return yaml.unsafe_load(text)


def render(template: str) -> str:
    """As chat templates were rendered before CVE-2024-34359."""
    messages = [{"role": "user", "content": "where ?"}, {"role": "assistant", "content": "there ."}]
    made = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).from_string(template)
    return made.render(messages=messages, tools=None, bos_token="", eos_token="", add_generation_prompt=True)


def put_in(twin: str) -> contextlib.AbstractContextManager[Any]:
    """The bug, as long as it lasts."""
    return _PUT_IN[twin]() if twin else contextlib.nullcontext()


@contextlib.contextmanager
def _opens_pickles() -> Iterator[None]:
    from luthier.models import weights

    found = weights._no_safetensors

    def opened(folder: Path) -> Any:
        for path in folder.iterdir():
            if path.name.endswith(weights._PICKLED):
                with contextlib.suppress(Exception):
                    open_file(path)
        return found(folder)

    with mock.patch.object(weights, "_no_safetensors", opened):
        yield


@contextlib.contextmanager
def _trusts_remote_code() -> Iterator[None]:
    from luthier.models import load

    with mock.patch.dict(load._SAFE, trust_remote_code=True):
        yield


@contextlib.contextmanager
def _follows_links() -> Iterator[None]:
    from luthier.models import load, source

    with mock.patch.object(source, "refuse_links"), mock.patch.object(load, "refuse_links"):
        yield


@contextlib.contextmanager
def _unsandboxed_templates() -> Iterator[None]:
    from luthier.engine.chat import rendering

    rendering._process.close()
    try:
        with mock.patch.object(rendering, "PROCESS", "careless"):
            yield
    finally:
        rendering._process.close()


@contextlib.contextmanager
def _patient_with_templates() -> Iterator[None]:
    from luthier.engine.chat import rendering

    try:
        with mock.patch.object(rendering, "SECONDS", 20.0):
            yield
    finally:
        rendering._process.close()  # it may be busy still


@contextlib.contextmanager
def _reads_any_file() -> Iterator[None]:
    from luthier.data.reading import sources

    with mock.patch.object(sources, "_refuse_odd", lambda item: None):
        yield


@contextlib.contextmanager
def _expands_variables() -> Iterator[None]:
    from luthier import config

    read = config._text
    with mock.patch.object(config, "_text", lambda path: os.path.expandvars(read(path))):
        yield


@contextlib.contextmanager
def _loads_yaml_tags() -> Iterator[None]:
    from luthier import config

    parse = config._load

    def loaded(text: str, name: str) -> Any:
        with contextlib.suppress(Exception):
            load_yaml(text)
        return parse(text, name)

    with mock.patch.object(config, "_load", loaded):
        yield


_PUT_IN = {
    "opens-pickles": _opens_pickles,
    "trusts-remote-code": _trusts_remote_code,
    "follows-links": _follows_links,
    "unsandboxed-templates": _unsandboxed_templates,
    "patient-with-templates": _patient_with_templates,
    "reads-any-file": _reads_any_file,
    "expands-variables": _expands_variables,
    "loads-yaml-tags": _loads_yaml_tags,
}


def _render_for_others() -> None:
    """luthier's process for templates, without a sandbox."""
    import jinja2.sandbox

    from luthier.engine.chat import template_process

    jinja2.sandbox.ImmutableSandboxedEnvironment = jinja2.Environment  # type: ignore[misc,assignment]
    template_process.main()


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent)]
    _render_for_others()
