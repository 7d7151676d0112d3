"""Thirty hostile models: pickles under every name, repository code, runs and checkpoints that were tampered with."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import careless
from hostile_ground import HARMLESS, REFUSED, Case, Ground, change

from luthier.files import sha256_of


def pickled(canary: Path) -> bytes:
    """A pickle that makes the canary when it is opened, in protocol 0: os.mkdir(canary)."""
    return f"cposix\nmkdir\n(V{canary}\ntR.".encode()


def code(canary: Path) -> str:
    """A module that makes the canary when it is imported, with whatever class is asked of it."""
    return f"import os\nos.makedirs({str(canary)!r}, exist_ok=True)\nclass M: pass\nC = T = Evil = M\n"


def _only(name: str) -> Callable[[Ground], list[str]]:
    """Weights that are in this pickle alone."""

    def make(ground: Ground) -> list[str]:
        folder = ground.model()
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickled(ground.canary))
        return ground.recipe(model=folder)

    return make


def _beside(*names: str, places: tuple[str, ...] = ("",)) -> Callable[[Ground], list[str]]:
    """Pickles and scripts beside good weights."""

    def make(ground: Ground) -> list[str]:
        folder = ground.model()
        for name in names:
            data = code(ground.canary).encode() if name.endswith(".py") else pickled(ground.canary)
            for place in places:
                (folder / place).mkdir(exist_ok=True)
                (folder / place / name).write_bytes(data)
        return ground.recipe(model=folder)

    return make


def _configured(name: str, changes: Mapping[str, Any], architecture: str = "bert") -> Callable[[Ground], list[str]]:
    """A JSON file of the model with other values, and the code that they point to."""

    def make(ground: Ground) -> list[str]:
        folder = ground.model(architecture)
        if not (folder / name).exists():
            (folder / name).write_text("{}")
        change(folder / name, changes)
        for module in ("modeling_own", "tokenization_own", "configuration_own"):
            (folder / f"{module}.py").write_text(code(ground.canary))
        return ground.recipe(model=folder) if architecture == "bert" else ground.chat(folder)

    return make


def _written(name: str, data: Callable[[Ground], bytes]) -> Callable[[Ground], list[str]]:
    """One file of the model with other bytes."""

    def make(ground: Ground) -> list[str]:
        folder = ground.model()
        (folder / name).write_bytes(data(ground))
        return ground.recipe(model=folder)

    return make


def _sparse_bomb(ground: Ground) -> list[str]:
    folder = ground.model()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 2**36))
        file.truncate(2**37)
    return ground.recipe(model=folder)


def _index(name: str) -> Callable[[Ground], list[str]]:
    """Shards, one of them elsewhere; {outside} stands for a folder that is none of the model's."""

    def make(ground: Ground) -> list[str]:
        folder = ground.model()
        (folder / "model.safetensors").rename(ground.outside / "model.safetensors")
        told = {"weight_map": {"w": name.format(outside=ground.outside)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(told))
        return ground.recipe(model=folder)

    return make


def _linked(name: str, architecture: str = "bert") -> Callable[[Ground], list[str]]:
    """A file of the model that is a link to a secret."""

    def make(ground: Ground) -> list[str]:
        folder = ground.model(architecture)
        secret = ground.secret_file
        if name.endswith(".json"):
            secret = ground.outside / "login.json"
            told = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
            secret.write_text(json.dumps({**told, "auths": {"registry": ground.secret}}))
        if name.endswith(".jinja"):
            secret.write_text(_TEMPLATE.replace("SECRET", ground.secret))
            if (folder / "tokenizer_config.json").exists():
                change(folder / "tokenizer_config.json", {"chat_template": None})
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(os.path.relpath(secret, folder))
        return ground.recipe(model=folder) if architecture == "bert" else ground.chat(folder)

    return make


_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}{# SECRET #}"
)


def _tokenizer(part: Callable[[dict[str, Any]], None], text: str = "") -> Callable[[Ground], list[str]]:
    """tokenizer.json with one part changed, and rows that would set it off."""

    def make(ground: Ground) -> list[str]:
        folder = ground.model()
        told = json.loads((folder / "tokenizer.json").read_text())
        part(told)
        (folder / "tokenizer.json").write_text(json.dumps(told))
        if not text:
            return ground.recipe(model=folder)
        rows = ground.work / "rows.jsonl"
        lines = [json.dumps({"text": f"{text} {i}", "label": "ab"[i % 2]}) for i in range(40)]
        rows.write_text("\n".join(lines))
        return ground.recipe(model=folder, train=rows)

    return make


def _growing(told: dict[str, Any]) -> None:
    doubles = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    told["normalizer"] = {"type": "Sequence", "normalizers": [doubles] * 40}


def _backtracking(told: dict[str, Any]) -> None:
    split = {"type": "Split", "pattern": {"Regex": "^(a|a|aa)+$"}, "behavior": "Isolated", "invert": False}
    told["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, {"type": "BertPreTokenizer"}]}


# Runs that someone else sent, used as a model, asked, or carried on


def _sealed(folder: Path) -> None:
    """The manifest written anew, as whoever tampers with a folder can."""
    names = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.json"]
    told = {p.relative_to(folder).as_posix(): sha256_of(p) for p in names}
    (folder / "manifest.json").write_text(json.dumps(told))


def _run_settings(verb: str, settings: Mapping[str, Any], method: str = "full") -> Callable[[Ground], list[str]]:
    """model/luthier.json of a run with other values; `verb` is what is done with the run."""

    def make(ground: Ground) -> list[str]:
        run = ground.run(method)
        change(run / "model" / "luthier.json", settings)
        _sealed(run / "model")
        return _used(ground, run, verb)

    return make


def _used(ground: Ground, run: Path, verb: str) -> list[str]:
    if verb == "train":
        return ground.recipe(model=run)
    if verb == "predict":
        return ["predict", str(run), "--input", str(ground.rows()), "--output", str(ground.work / "answers.jsonl")]
    change(run / "status.json", {"state": "stopped"})
    for name in ("model", "scores.json", "findings.json", "report.html"):
        path = run / name
        path.rename(ground.outside / name)
    return ["resume", str(run)]


def _manifest(ground: Ground) -> list[str]:
    run = ground.run()
    change(run / "model" / "manifest.json", {f"../../../outside/{ground.secret_file.name}": "0" * 64})
    return _used(ground, run, "predict")


def _adapter(method: str, changes: Mapping[str, Any]) -> Callable[[Ground], list[str]]:
    def make(ground: Ground) -> list[str]:
        run = ground.run(method)
        (ground.work / "evil_core.py").write_text(code(ground.canary))
        change(run / "model" / "adapter_config.json", changes)
        _sealed(run / "model")
        return _used(ground, run, "predict")

    return make


def _checkpoint(name: str, data: Callable[[Ground], bytes]) -> Callable[[Ground], list[str]]:
    """A checkpoint of a run that is carried on, with one file of its own making."""

    def make(ground: Ground) -> list[str]:
        run = ground.run()
        (newest,) = sorted((run / "checkpoints").iterdir())[-1:]
        (newest / name).write_bytes(data(ground))
        _sealed(newest)
        return _used(ground, run, "resume")

    return make


def _position(changes: Mapping[str, Any]) -> Callable[[Ground], list[str]]:
    def make(ground: Ground) -> list[str]:
        run = ground.run()
        (newest,) = sorted((run / "checkpoints").iterdir())[-1:]
        change(newest / "position.json", changes)
        _sealed(newest)
        return _used(ground, run, "resume")

    return make


def _status(ground: Ground) -> list[str]:
    run = ground.run()
    arguments = _used(ground, run, "resume")
    change(run / "status.json", {"base": ["/"], "id": {"a": 1}})
    return arguments


def _gguf(ground: Ground) -> list[str]:
    """Claims 2^60 tensors and as many settings."""
    path = ground.work / "stranger.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60) + b"\0" * 64)
    return ["models", "get", str(path)]


def _adapter_folder(ground: Ground) -> list[str]:
    folder = ground.work / "stranger-adapter"
    folder.mkdir()
    told = {"peft_type": "LORA", "auto_mapping": {"base_model_class": "M", "parent_library": "evil_core"}}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    (folder / "adapter_model.bin").write_bytes(pickled(ground.canary))
    return ground.recipe(model=folder)


def _opened(name: str) -> Callable[[Ground], None]:
    return lambda ground: careless.open_file(next(ground.work.rglob(name)))


def _imported(name: str) -> Callable[[Ground], None]:
    return lambda ground: careless.import_file(next(ground.work.rglob(name)))


def _case(
    name: str,
    make: Callable[[Ground], list[str]],
    names: str = "",
    codes: tuple[int, ...] = REFUSED,
    fire: Callable[[Ground], None] | None = None,
    noticed_by: tuple[str, ...] = (),
) -> Case:
    slow = 0 in codes or "adapter that" in name
    return Case("model", name, make, names, codes, fire, noticed_by, slow)


_PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "model.joblib")
_PEFT_TEXT = {
    "peft_type": "PROMPT_TUNING",
    "inference_mode": False,
    "prompt_tuning_init": "TEXT",
    "prompt_tuning_init_text": "x",
    "tokenizer_name_or_path": "stranger/code",
    "tokenizer_kwargs": json.loads('{"trust_remote_code": true}'),
}
_OWN_CODE = {"AutoModel": "modeling_own.M", "AutoConfig": "configuration_own.C"}
CASES: tuple[Case, ...] = (
    *(_case(f"only {n}", _only(n), n, REFUSED, _opened(n), ("opens-pickles",)) for n in _PICKLES),
    _case("a pickle called model.safetensors", _only("model.safetensors"), "model.safetensors",
          fire=_opened("model.safetensors")),
    _case("only weights.npy of objects", _only("weights.npy"), "stranger-bert", fire=_opened("weights.npy")),
    _case("training_args.bin beside good weights", _beside("training_args.bin"), codes=HARMLESS,
          fire=_opened("training_args.bin")),
    _case("optimizer.pt, scheduler.pt and rng_state.pth", _beside("optimizer.pt", "scheduler.pt", "rng_state.pth"),
          codes=HARMLESS, fire=_opened("rng_state.pth")),
    _case("pytorch_model.bin beside good weights", _beside("pytorch_model.bin", places=("", "1_Pooling")),
          codes=HARMLESS, fire=_opened("pytorch_model.bin")),
    _case("auto_map of an architecture of its own", _configured(
        "config.json", {"model_type": "own", "auto_map": _OWN_CODE}), "stranger-bert",
        fire=_imported("modeling_own.py")),
    _case("auto_map beside a stock architecture", _configured("config.json", {"auto_map": _OWN_CODE}),
          codes=HARMLESS, fire=_imported("configuration_own.py")),
    _case("auto_map of another repository", _configured(
        "config.json", {"model_type": "own", "auto_map": {"AutoModel": "evil/code--modeling.M"}}), "stranger-bert"),
    _case("auto_map of the tokenizer", _configured("tokenizer_config.json", {
        "tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "tokenization_own.T"]}}),
        "stranger-bert", (0, 2), _imported("tokenization_own.py"), ("trusts-remote-code",)),
    _case("attention from a hub repository", _configured("config.json", {"attn_implementation": "evil/kernel"}),
          "config.json"),
    _case("a link to a secret for a chat template", _linked("chat_template.jinja", "llama"), "chat_template.jinja",
          noticed_by=("follows-links",)),
    _case("a link to a secret for the tokenizer's settings", _linked("tokenizer_config.json"), "tokenizer_config.json",
          noticed_by=("follows-links",)),
    _case("shards outside of the folder", _index("../../outside/model.safetensors"), "model.safetensors.index.json"),
    _case("shards at an absolute path", _index("{outside}/model.safetensors"), "model.safetensors.index.json"),
    _case("a header of 64 GB", _sparse_bomb, "model.safetensors"),
    _case("a config of a trillion tokens", _configured("config.json", {"vocab_size": 10**12}), "stranger-bert"),
    _case("a tokenizer nested 100,000 deep", _written("tokenizer.json", lambda g: b"[" * 100_000), "stranger-bert"),
    _case("a tokenizer that doubles a text 40 times", _tokenizer(_growing, "a a a a"), "tokenizer.json"),
    _case("a tokenizer with a pattern that backtracks", _tokenizer(_backtracking, "a" * 60 + "!"),
          "stranger-bert", (0, 2)),
    _case("an adapter that is a pickle", _adapter_folder, "stranger-adapter", fire=_opened("adapter_model.bin")),
    _case("a run whose task is a path", _run_settings("predict", {"task": {"name": "../../evil"}}), "luthier.json"),
    _case("a run whose settings are a list", _run_settings("train", {"task": [], "method": 3, "state": None}),
          "luthier.json"),
    _case("a run whose manifest names a file outside", _manifest, "manifest.json"),
    _case("an adapter that names a module", _adapter(
        "lora", {"megatron_config": {"a": 1}, "megatron_core": "evil_core", "target_modules": "(([a-z]+)+[.]?)+!"}),
        "adapter_config.json", (0, 2), _imported("evil_core.py")),
    _case("an adapter that fetches a tokenizer with code", _adapter("soft-prompt", _PEFT_TEXT), "stranger-run"),
    _case("a checkpoint of pickles", _checkpoint("trained.safetensors", lambda g: pickled(g.canary)),
          "trained.safetensors", fire=_opened("trained.safetensors")),
    _case("rng_state.pth and optimizer.pt in a checkpoint", _checkpoint("rng_state.pth", lambda g: pickled(g.canary)),
          codes=HARMLESS, fire=_opened("rng_state.pth")),
    _case("a checkpoint at the step of a text", _position({"step": "../../evil", "fixed": 3}), "position.json"),
    _case("a run that begins in a list of folders", _status, "status.json"),
    _case("a GGUF file of 2^60 tensors", _gguf, "stranger.gguf"),
)  # fmt: skip
