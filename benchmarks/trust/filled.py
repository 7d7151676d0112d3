"""What a full disk may not leave, and commands that write files which are no run's."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import kill
from nursery import ROOT
from safetensors import SafetensorError, safe_open

from luthier.errors import RunError
from luthier.files import verified


def half_made(folder: Path) -> str:
    """The first file or folder under a final name that is not whole; "" if there is none. Names with a dot before
    them are not final.
    """
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            if path.is_dir() and (path.name.startswith("step-") or (path.name == "model" and path.parent == folder)):
                verified(path)
            elif path.is_file():
                _read(path)
        except (RunError, SafetensorError, ValueError, zipfile.BadZipFile) as error:
            return f"{path.relative_to(folder)} is half-made: {str(error)[:200]}"
    return ""


def _read(path: Path) -> None:
    """ValueError, or what its reader raises, where a file's end is missing."""
    kind = path.suffix
    if kind == ".json":
        json.loads(path.read_bytes())
    elif kind == ".jsonl":
        lines = path.read_bytes().split(b"\n")
        log = path.name == "events.jsonl"  # whose last line may be cut
        if not log and lines[-1]:
            raise ValueError("its last line has no end")
        for line in lines[:-1]:
            json.loads(line)
    elif kind == ".safetensors":
        with safe_open(path, "pt"):
            pass
    elif kind == ".html" and not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("it has no end")
    elif kind == ".zip":
        zipfile.ZipFile(path).testzip()
    elif kind in (".conll", ".yaml", ".md") and not path.read_bytes().endswith(b"\n"):
        raise ValueError("it has no end")


@dataclass(frozen=True)
class Command:
    """`arguments` that make `final` on the full disk, with less than `left` bytes left there."""

    arguments: list[str]
    final: Path
    left: int
    needed: bool  # is known beforehand
    home: Path | None = None


def _predict(stage: kill.Stage, disk: Path) -> Command:
    stage.reference(kill.KINDS[0])
    run, rows = stage.folder / f"whole-{'-'.join(kill.KINDS[0])}", stage.folder / "classification.jsonl"
    out = disk / "answers.jsonl"
    return Command(["predict", str(run), "--input", str(rows), "--output", str(out)], out, 4_000, False)


def _fix_offsets(stage: kill.Stage, disk: Path) -> Command:
    """A hundred answers that begin a letter late."""
    text = "Amber Lane leads to the harbour of Old Town, past the mill."
    row = {"question": "Where to?", "context": text}
    start = text.index("harbour") + 1
    rows = [{"id": str(i), **row, "answers": {"text": ["harbour"], "answer_start": [start]}} for i in range(100)]
    path = disk / "answers.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    command = ["check", str(path), "--task", "question-answering", "--fix-offsets"]
    return Command(command, disk / "answers.fixed.jsonl", 4_000, True)


def _fix_tags(stage: kill.Stage, disk: Path) -> Command:
    """Entities that go on without having begun."""
    path = disk / "tags.conll"
    path.write_text("Amber\tI-PER\nlives\tO\nin\tO\nOslo\tB-LOC\n\n" * 300)
    command = ["check", str(path), "--task", "token-classification", "--fix-tags"]
    return Command(command, disk / "tags.fixed.conll", 4_000, True)


def _import(stage: kill.Stage, disk: Path) -> Command:
    """A GGUF file, made into a plain folder of the cache."""
    file = stage.folder / "small.gguf"
    if not file.exists():
        from tokenizers import pre_tokenizers
        from transformers import AutoModelForCausalLM

        place = ROOT / "tests" / "models" / "test_model_convert.py"
        spec = importlib.util.spec_from_file_location("gguf_maker", place)
        assert spec is not None and spec.loader is not None
        maker = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(maker)
        stage.recipe(("generation", "lora"))
        model = AutoModelForCausalLM.from_pretrained(stage.folder / "llama", trust_remote_code=False)
        tokens = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]
        maker.write_gguf(model, tokens, file)
    home = disk / "home"
    return Command(["models", "get", str(file)], home / "models" / "small", 80_000, False, home)


def _bundle(stage: kill.Stage, disk: Path) -> Command:
    final = disk / "report.zip"
    return Command(["doctor", "--zip", str(final)], final, 200, False)


def _recipe(stage: kill.Stage, disk: Path) -> Command:
    final = disk / "new.yaml"
    return Command(["new", "classification", "--out", str(final)], final, 100, True)


FILES: Mapping[str, Callable[[kill.Stage, Path], Command]] = {
    "predict": _predict,
    "fix-offsets": _fix_offsets,
    "fix-tags": _fix_tags,
    "import": _import,
    "bundle": _bundle,
    "recipe": _recipe,
}
