"""F40-F43 in the code itself: no pickle, no evaluated text, no shell, no repository code, read off the syntax tree.

What a tree cannot show (a name passed through a variable, a library that opens a pickle by itself) the bar of hostile
files tries.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from pathlib import Path

from bars import Bar, Trial

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "benchmarks", "scripts", "examples")
# Where such a call is the point.
ALLOWED = {"benchmarks/trust/careless.py"}
# Modules found by a name in code, never by one from outside.
IMPORTERS = {
    "src/luthier/run/__init__.py",
    "benchmarks/trust/hostile.py",
    "benchmarks/trust/mutation.py",
    "benchmarks/trust/nursery.py",
    "benchmarks/trust/places.py",
    "benchmarks/trust/run.py",
}
# Text of this repository that is compiled to be compared, and not run.
COMPILERS = {"benchmarks/trust/mutants.py"}
_PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "pty"}
_EVALUATE = {"eval", "exec", "compile", "__import__"}
_CALLS = {
    "torch.load", "torch.save", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter",
    "os.system", "os.popen", "os.spawnl", "os.spawnv", "os.execl", "os.execv", "os.execvp",
    "subprocess.getoutput", "subprocess.getstatusoutput", "commands.getoutput",
    "pandas.read_pickle", "pd.read_pickle", "np.lib.format.open_memmap", "code.interact",
    "runpy.run_path", "runpy.run_module", "builtins.eval", "builtins.exec",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all",
    "jinja2.Template", "tempfile.mktemp", "asyncio.create_subprocess_shell",
}  # fmt: skip
Told = dict[str, list[tuple[int, bool]]]


def faults(source: str, name: str) -> list[str]:
    """What in this file could run code from outside: "line: what"."""
    if name in ALLOWED:
        return []
    tree = ast.parse(source, name)
    names = _imported(tree)
    told = _told(tree)
    found = []
    for node in ast.walk(tree):
        said = _of_import(node) if isinstance(node, (ast.Import, ast.ImportFrom)) else ""
        if isinstance(node, ast.Call):
            said = _of_call(node, name, names, told)
        elif isinstance(node, ast.Attribute) and _dotted(node, names) in _CALLS:
            said = _dotted(node, names)
        elif isinstance(node, ast.Dict):
            said = _of_dict(node)
        if said:
            found.append(f"{getattr(node, 'lineno', 0)}: {said}")
    return found


def _imported(tree: ast.AST) -> dict[str, str]:
    """What a name in this file stands for: np -> numpy, load -> torch.load."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return ""


def _of_import(node: ast.Import | ast.ImportFrom) -> str:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    odd = [m for m in modules if m.split(".")[0] in _PICKLES or m in ("torch.hub", "numpy.lib.format")]
    return f"imports {odd[0]}" if odd else ""


def _of_call(node: ast.Call, name: str, names: dict[str, str], told: Told) -> str:
    called = _dotted(node.func, names)
    last = called.rpartition(".")[2]
    compared = called == "compile" and name in COMPILERS
    if isinstance(node.func, ast.Name) and called in _EVALUATE and not compared:
        return f"{called}()"
    if called in _CALLS:
        return f"{called}()"
    given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    for flag, bad in (("shell", True), ("allow_pickle", True), ("weights_only", False), ("trust_remote_code", True)):
        value = given.get(flag)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is not bad):
            return f"{flag} that is not {not bad}"
    if last in ("import_module", "spec_from_file_location") and name not in IMPORTERS:
        first = node.args[0] if node.args else None
        if not isinstance(first, ast.Constant):
            return f"{last}() of a name that is made up as it goes"
    escapes = given.get("autoescape")
    if called == "jinja2.Environment" and not (isinstance(escapes, ast.Constant) and escapes.value is True):
        return "a page's template that escapes nothing"
    attribute = isinstance(node.func, ast.Attribute)
    if attribute and last in ("from_pretrained", "from_config") and called.split(".")[-2:-1] != ["GenerationConfig"]:
        return "" if _says_false(node, given, told) else f"{called or last}() without trust_remote_code=False"
    return ""


def _says_false(node: ast.Call, given: dict[str, ast.expr], told: Told) -> bool:
    flag = given.get("trust_remote_code")
    if isinstance(flag, ast.Constant) and flag.value is False:
        return True
    spread = [k.value.id for k in node.keywords if k.arg is None and isinstance(k.value, ast.Name)]
    return any(safe for name in spread for safe in [_last(told, name, node.lineno)])


def _told(tree: ast.AST) -> Told:
    """Name -> (line, whether it is a dict that says trust_remote_code False) of its assignments, in order."""
    told: Told = {}
    made = [n for n in ast.walk(tree) if isinstance(n, (ast.Assign, ast.AnnAssign)) and n.value is not None]
    for node in sorted(made, key=lambda one: one.lineno):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and node.value is not None:
                told.setdefault(target.id, []).append((node.lineno, _is_safe(node.value, told, node.lineno)))
    return told


def _last(told: Told, name: str, line: int) -> bool:
    return next((safe for at, safe in reversed(told.get(name, [])) if at < line), False)


def _is_safe(value: ast.expr, told: Told, line: int) -> bool:
    """Whether a dict says it, and nothing after that could take it back."""
    said = False
    for key, one in zip(value.keys, value.values) if isinstance(value, ast.Dict) else ():
        if key is None:
            said = isinstance(one, ast.Name) and _last(told, one.id, line)
        elif isinstance(key, ast.Constant) and key.value == "trust_remote_code":
            said = isinstance(one, ast.Constant) and one.value is False
    return said


def _of_dict(node: ast.Dict) -> str:
    for key, value in zip(node.keys, node.values):
        told = isinstance(key, ast.Constant) and key.value in ("trust_remote_code", "allow_pickle", "shell")
        if told and isinstance(value, ast.Constant) and value.value is True:
            return f"{ast.unparse(value)} for a flag that lets code in"
    return ""


# What must be found, by what it does: each is put at the end of a file.
TWINS = {
    "pickle": "import pickle",
    "pickle-by-another-name": "from joblib import load as read",
    "torch-load": "import torch as t\nt.load('x', map_location='cpu')",
    "torch-load-by-name": "from torch import load\nload('x')",
    "torch-save-passed-on": "import torch\nwrite = torch.save",
    "weights-only-false": "read('x', weights_only=False)",
    "objects-in-arrays": "import numpy as np\nnp.load('x', allow_pickle=True)",
    "eval": "eval('1')",
    "exec": "exec('1')",
    "compile": "compile('1', '', 'exec')",
    "import-by-text": "__import__('o' + 's')",
    "import-by-variable": "import importlib\nname = 'os'\nimportlib.import_module(name)",
    "shell": "import subprocess\nsubprocess.run('ls', shell=True)",
    "shell-by-variable": "import subprocess\non = 1\nsubprocess.run('ls', shell=on)",
    "system": "import os\nos.system('ls')",
    "popen": "from os import popen\npopen('ls')",
    "yaml-load": "import yaml\nyaml.load('a')",
    "page-that-escapes-nothing": "import jinja2\njinja2.Environment()",
    "remote-code": "AutoModel.from_pretrained('x', trust_remote_code=True)",
    "remote-code-by-variable": "AutoModel.from_pretrained('x', trust_remote_code=flag)",
    "remote-code-unsaid": "AutoModel.from_pretrained('x')",
    "remote-code-unsaid-of-a-config": "AutoModel.from_config(config)",
    "remote-code-taken-back": "s = {'trust_remote_code': False, **given}\nAutoModel.from_pretrained('x', **s)",
    "remote-code-in-a-dict": "s = {'trust_remote_code': True}",
}


def trials(count: int, seed: int, twin: str) -> Iterator[Trial]:
    """One file each; a twin is put at the end of the first."""
    chosen = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
    random.Random(seed).shuffle(chosen)
    for number, path in enumerate(chosen[:count]):
        name = path.relative_to(ROOT).as_posix()
        source = path.read_text("utf-8")
        if twin and number == 0:
            name, source = f"{name}, {twin}", f"{source}\n\n{TWINS[twin]}\n"
        yield Trial(name, "; ".join(faults(source, name)))


BAR = Bar(
    "syntax",
    "No file of the repository opens pickles, evaluates text, starts a shell or lets repository code in.",
    10_000,
    trials,
    TWINS,
)
