"""The command line: arguments in, exit codes and one JSON document out, never a traceback."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import luthier.run as luthier_run
import tiny
from luthier import cli, demos, errors
from luthier.cli import machine, rows
from luthier.evidence.scores.compare import Compared, Comparison
from luthier.files import write_json, write_jsonl
from luthier.run.recipe import read
from luthier.run.use import Run
from luthier.runs import RunFolder
from luthier.tasks import TASKS
from luthier.training.events import Phase


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in err and "Traceback" not in out, err

    @property
    def json(self) -> Any:
        """stdout as the one JSON document it must be."""
        return json.loads(self.out)


Luthier = Callable[..., Result]


@pytest.fixture
def luthier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Luthier:
    """`luthier("check", "x.csv")` in a folder of its own."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)

    def call(*arguments: str) -> Result:
        code = cli.main(arguments)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return call


def replace(monkeypatch: pytest.MonkeyPatch, name: str, function: Any) -> None:
    """Put `function` in the place of luthier.run's, without loading what the real one needs."""
    monkeypatch.setitem(vars(luthier_run), name, function)


EVALUATION: dict[str, Any] = {
    "task": "classification",
    "rows": 400,
    "groups": 400,
    "scores": {"accuracy": 0.8, "macro_f1": 0.8},
    "intervals": {"accuracy": [0.76, 0.84], "macro_f1": [0.76, 0.84]},
    "baselines": {name: {"accuracy": 0.6, "macro_f1": 0.6} for name in ("trivial", "classical", "untuned")},
}


def made_run(path: Path, word: str | None = "use it", state: str = "finished", task: str = "classification") -> Run:
    """A run folder as training leaves it, without a model."""
    folder = RunFolder(path)
    folder.set_status(state, verdict=word, base=str(path.parent))
    if word is not None:
        finding = {
            "id": "x",
            "severity": "warning",
            "sentence": "A finding.",
            "remedy": "Do this.",
            "rows": [],
        }
        sentence = "It beats all three."
        write_json(folder.findings, {"verdict": word, "sentence": sentence, "because": [], "findings": [finding]})
        write_json(folder.scores, {"test": EVALUATION})
        folder.report.write_text("<html>")
    folder.recipe.write_text(f"model: minilm\ntask: {task}\ndata:\n  train: rows.csv\n")
    return Run(folder)


def csv_rows(path: Path, count: int = 40) -> Path:
    lines = [f'{n},"{row["text"]}",{row["label"]}' for n, row in enumerate(tiny.reviews(count))]
    path.write_text("\n".join(["id,review,label", *lines]) + "\n")
    return path


# how it starts and ends


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from luthier.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'transformers', 'numpy', 'sklearn', 'luthier.run', 'luthier.data', 'rich.table'};"
        "print(sorted(heavy & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_module_and_version(luthier: Luthier) -> None:
    done = subprocess.run([sys.executable, "-m", "luthier", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("luthier 0.")
    assert luthier("--version").out == done.stdout
    assert luthier().code == 0 and luthier("models").code == 0


VERBS = (
    "demo",
    "new",
    "check",
    "train",
    "resume",
    "evaluate",
    "predict",
    "compare",
    "verdict",
    "doctor",
    "models",
)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(luthier: Luthier, verb: str) -> None:
    done = luthier(verb, "--help")
    assert done.code == 0 and "Usage: luthier" in done.out
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek"], 'there is no verb "chek". Did you mean "check"?'),
        (["models", "lst"], 'there is no verb "lst". Did you mean "list"?'),
        (["check", "x.yaml", "--jsn"], 'there is no option "--jsn". Did you mean "--json"?'),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "r.yaml", "--out"], "requires an argument"),
        (["verdict", "a", "b"], "unexpected extra argument"),
        (["new", "clasification"], 'there is no task "clasification"\nFix: Did you mean "classification"?'),
        (["demo", "helplin"], 'there is no demo "helplin"\nFix: Did you mean "helpline"?'),
        (["check", "rows.csv"], "say what its rows are for"),
        (["check", "rows.csv", "--task", "classify"], 'there is no task "classify"'),
        (["check", "rows.yaml", "--task", "classification"], "a recipe names its own task"),
        (["check", "rows.csv", "--task", "classification", "--set", "seed=1"], "--set changes a recipe"),
        (["check", "rows.csv", "--fix-offsets"], "there is no such file"),
        (["train", "missing.yaml"], "missing.yaml"),
        (["verdict", "7"], "there is no such run"),
        (["evaluate"], "there is no run yet"),
        (["resume"], "there is no run to resume"),
        (["resume", "7"], "there is no such run"),
        (["predict", "7"], "there is no such run"),
        (["models", "get", "minilmm"], 'Did you mean "minilm"?'),
    ],
)
def test_wrong_input_exits_2_with_a_message(luthier: Luthier, arguments: list[str], said: str) -> None:
    done = luthier(*arguments)
    assert done.code == 2
    assert said in done.err and done.err.startswith("error: ")
    assert done.out == ""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.DataError("found", where="file", fix="do"), 2, "error: file: found\nFix: do\n"),
        (errors.ResourceError("the disk is full"), 4, "error: the disk is full\n"),
        (errors.Interrupted("stopped at step 3", signal=signal.SIGINT), 130, "stopped at step 3\n"),
        (errors.Interrupted("stopped at step 3", signal=signal.SIGTERM), 143, "stopped at step 3\n"),
        (MemoryError(), 4, "memory ran out"),
        (OSError(28, "No space left on device", "/x"), 4, "the disk is full"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "error: /x/y: permission denied"),
        (RuntimeError("oh no"), 70, "this is luthier's fault, not yours (RuntimeError: oh no)"),
        (
            errors.LuthierError("broken inside"),
            70,
            "this is luthier's fault, not yours (LuthierError: broken",
        ),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(5), 5, ""),
    ],
)
def test_every_error_has_its_exit_code(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    replace(monkeypatch, "train", fail)
    done = luthier("train", "recipe.yaml")
    assert done.code == code
    assert said in done.err
    if said:
        again = luthier("train", "recipe.yaml", "--json")
        assert again.json["error"]["exit_code"] == code


def test_debug_shows_the_traceback_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(monkeypatch, "train", lambda *a, **o: 1 / 0)
    for arguments in (["--debug", "train", "r.yaml"], ["train", "r.yaml", "--debug"]):
        assert cli.main(arguments) == 70
        assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_crash_report_holds_the_traceback_and_no_secret(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch, luthier_home: Path
) -> None:
    monkeypatch.setenv("MY_VARIABLE", "a-value-of-the-environment")

    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError(f"https://me:pass@host hf_abcdefghijklmnop token=abc {Path.home()}/x")

    replace(monkeypatch, "train", fail)
    done = luthier("train", "recipe.yaml", "--set", "x=sk-abcdefghijklmnop")
    (report,) = (luthier_home / "crashes").iterdir()
    assert str(report) in done.err
    text = report.read_text()
    assert "RuntimeError" in text and "Traceback" in text and "command: luthier train" in text
    for secret in ("pass@", "hf_abc", "token=abc", "sk-abc", str(Path.home()), "a-value-of-the-environment"):
        assert secret not in text


def test_old_crash_reports_are_removed(luthier_home: Path) -> None:
    for _ in range(machine.KEPT_CRASHES + 5):
        machine.write_crash(RuntimeError("x"), ["train"])
    assert len(list((luthier_home / "crashes").iterdir())) == machine.KEPT_CRASHES


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    program = "from luthier.cli import main; import sys; sys.exit(main(['predict', '--help']))"
    started = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout is not None and started.stderr is not None
    started.stdout.close()
    assert "Traceback" not in started.stderr.read()
    started.stderr.close()
    assert started.wait() in (0, 1, 120, 141)


def test_luthiers_own_warnings_are_one_line_and_others_are_silent(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import warnings

    def warn(*arguments: Any, **options: Any) -> Run:
        warnings.warn("look out", errors.LuthierWarning, stacklevel=1)
        warnings.warn("of no interest", FutureWarning, stacklevel=1)
        return made_run(tmp_path / "run")

    replace(monkeypatch, "train", warn)
    assert luthier("train", "r.yaml").err == "warning: look out\n"


# train, resume


def test_train_passes_everything_on_and_ends_with_the_path(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: dict[str, Any] = {}

    def train(recipe: Any, *, out: Any, overrides: Any, listen: Any) -> Run:
        called.update(recipe=recipe, out=out, overrides=overrides)
        listen(Phase("reading rows"))
        return made_run(tmp_path / "run", "do not use it")

    replace(monkeypatch, "train", train)
    done = luthier("train", "r.yaml", "--out", "here", "--set", "seed=1", "--set", "train.epochs=2")
    assert called == {"recipe": "r.yaml", "out": Path("here"), "overrides": ["seed=1", "train.epochs=2"]}
    assert done.code == 0  # it finished, whatever its verdict
    lines = done.out.splitlines()
    assert lines[-2:] == [f"report: {tmp_path}/run/report.html", f"run: {tmp_path}/run"]
    assert "verdict: do not use it" in lines and "tuned model" in done.out
    as_json = luthier("train", "r.yaml", "--json").json
    assert as_json["run"] == f"{tmp_path}/run" and as_json["state"] == "finished"
    assert as_json["verdict"]["verdict"] == "do not use it" and as_json["evaluation"] == EVALUATION


def known(home: Path, *runs: Run) -> None:
    write_jsonl(home / "runs.jsonl", [{"path": str(run.path)} for run in runs])


def test_resume_of_a_finished_run_does_nothing(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, luthier_home: Path
) -> None:
    replace(monkeypatch, "resume", lambda *a, **o: pytest.fail("it was resumed"))
    run = made_run(tmp_path / "run")
    known(luthier_home, run)
    done = luthier("resume", str(run.path))
    assert done.code == 0 and "is finished; nothing was done" in done.err
    assert done.out.splitlines()[-1] == f"run: {run.path}"
    done = luthier("resume")
    assert done.code == 0 and "nothing to resume" in done.err
    assert luthier("resume", "--json").json["run"] == str(run.path)


def test_resume_takes_the_newest_unfinished(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, luthier_home: Path
) -> None:
    stopped = made_run(tmp_path / "b", None, "stopped")
    known(luthier_home, made_run(tmp_path / "a", None, "stopped"), stopped, made_run(tmp_path / "c"))
    asked: list[str] = []

    def resume(name: str, *, listen: Any) -> Run:
        asked.append(name)
        return made_run(Path(name))

    replace(monkeypatch, "resume", resume)
    done = luthier("resume")
    assert done.code == 0 and asked == [str(stopped.path)]
    assert f"resuming {stopped.path}" in done.err
    assert done.out.splitlines()[-1] == f"run: {stopped.path}"


def test_other_verbs_are_refused_in_several_processes_and_one_of_them_says_so(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = {}
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        result = luthier("models", "list")
        assert result.code == 2
        told[rank] = result.err
    assert "one of 2 processes, and only train and resume share their work" in told["0"]
    assert told["1"] == ""


# verdict, evaluate, compare


@pytest.mark.parametrize(("word", "code"), [("use it", 0), ("do not use it", 1), ("not proven", 3)])
def test_verdict_exit_codes(luthier: Luthier, tmp_path: Path, word: str, code: int) -> None:
    run = made_run(tmp_path / "run", word)
    done = luthier("verdict", str(run.path))
    assert done.code == code
    assert f"verdict: {word}" in done.out and "A finding." in done.out and "Fix: Do this." in done.out
    done = luthier("verdict", str(run.path), "--json")
    assert done.code == code and done.json["verdict"] == word


def test_an_unfinished_run_has_no_verdict(luthier: Luthier, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", None, "stopped")
    done = luthier("verdict", str(run.path))
    assert done.code == 2 and "it is stopped" in done.err and f"luthier resume {run.path}" in done.err


def test_evaluate_reads_the_test_scores(luthier: Luthier, tmp_path: Path, luthier_home: Path) -> None:
    run = made_run(tmp_path / "run")
    known(luthier_home, run)
    assert luthier("evaluate", "--json").json == EVALUATION
    assert "tuned model" in luthier("evaluate", "last").out


def test_evaluate_on_other_data_warns_of_rows_it_trained_on(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = made_run(tmp_path / "run")

    def evaluate(opened: Run, data: str | None, *, listen: Any) -> dict[str, Any]:
        assert opened.path == run.path and data == "new.csv"
        return {**EVALUATION, "skipped": [{}], "seen_in_training": ["1", "2"], "unknown_labels": {"mixed": 33}}

    replace(monkeypatch, "evaluate", evaluate)
    done = luthier("evaluate", str(run.path), "--data", "new.csv", "--json")
    assert done.json["rows"] == 400
    assert "1 row could not be read and is not scored" in done.err and "2 of these rows were trained on" in done.err
    assert "training never saw these labels" in done.err and '"mixed" on 33' in done.err


def test_compare(luthier: Luthier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = made_run(tmp_path / "a"), made_run(tmp_path / "b")
    line = Compared("a", "macro_f1", 0.8, (0.7, 0.9), "use it", 10, 1.0, 10)
    asked: list[list[str]] = []

    def compare(runs: list[Run]) -> Comparison:
        asked.append([run.folder.name for run in runs])
        return Comparison("macro_f1", (line,))

    replace(monkeypatch, "compare", compare)
    assert luthier("compare", str(first.path), str(second.path), "--json").json["primary"] == "macro_f1"
    assert "80.0 %" in luthier("compare", str(first.path)).out
    assert asked == [["a", "b"], ["a"]]


# new, check


def test_new_then_check(luthier: Luthier) -> None:
    csv_rows(Path("rows.csv"))
    done = luthier("new", "classification", "--data", "rows.csv")
    assert done.code == 0
    assert done.out == "wrote classification.yaml\nnext: luthier check classification.yaml\n"
    assert "text: review" in Path("classification.yaml").read_text()
    again = luthier("new", "classification")
    assert again.code == 2 and "already there" in again.err
    checked = luthier("check", "classification.yaml")
    assert checked.code == 0 and "splits   train" in checked.out
    report = luthier("check", "classification.yaml", "--json", "--set", "data.test=0.2").json
    assert {"format", "columns", "rows", "kept", "faults", "splits"} <= report.keys()
    assert report["rows"] == report["kept"] == 40 and sum(report["splits"].values()) == 40


def test_check_by_groups(luthier: Luthier) -> None:
    lines = ["text,label,who", *(f"words {n} of it,{'yes' if n % 3 else 'no'},{'ab'[n % 2]}" for n in range(120))]
    Path("rows.csv").write_text("\n".join(lines))
    told = luthier("check", "rows.csv", "--task", "classification", "--groups", "who")
    assert told.code == 0 and "by who" in told.out and "a: 60 rows, 50%; yes 66.7 % (" in told.out
    wrong = luthier("check", "rows.csv", "--task", "classification", "--groups", "whom, who")
    assert wrong.code == 2 and '--groups: no row has a column "whom"' in wrong.err and 'mean "who"' in wrong.err


SHAPES = {
    "pairs.csv": ("sentence1,sentence2,label\n", "{0} a film,{0} a movie,same\n", {"pair": True}),
    "stars.csv": ("review_text,stars\n", "{0} a film,{0}.5\n", {"problem_type": "regression"}),
    "two-scores.csv": (
        "sentence1,sentence2,score\n",
        "{0} a,{0} b,{0}.5\n",
        {"pair": True, "problem_type": "regression"},
    ),
    "several.jsonl": (
        "",
        '{{"text": "{0} a film", "label": ["sport", "health"]}}\n',
        {"problem_type": "multi_label_classification"},
    ),
    "plain.csv": ("text,label\n", "{0} a film,good\n", {}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_new_finds_what_a_row_holds(luthier: Luthier, tmp_path: Path, name: str) -> None:
    head, line, expected = SHAPES[name]
    file, target = tmp_path / name, tmp_path / "r.yaml"
    file.write_text(head + "".join(line.format(i) for i in range(8)))
    done = luthier("new", "classification", "--data", str(file), "--out", str(target))
    assert done.code == 0, done.err
    recipe = read(target)[0]
    assert recipe.task.model_dump(exclude_defaults=True, exclude={"name"}) == expected
    assert ("read as rows for" in done.err) == bool(expected)
    assert "errors" not in done.err


def test_new_writes_names_that_yaml_reads_back(luthier: Luthier) -> None:
    Path("sub").mkdir()
    odd = Path("rows: # of 'mine'.csv")
    odd.write_text("yes,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(20)))
    done = luthier("new", "classification", "--data", str(odd), "--out", "sub/r.yaml")
    assert done.code == 0
    assert luthier("check", "sub/r.yaml").code == 0
    from luthier.run.recipe import read

    recipe, _ = read(Path("sub/r.yaml"))
    assert recipe.data.train == f"../{odd}"
    assert recipe.data.columns == {"text": "yes"}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_starter_is_a_whole_recipe(luthier: Luthier, task: str) -> None:
    from luthier.run.recipe import read

    assert luthier("new", task).code == 0
    recipe, _ = read(Path(f"{task}.yaml"))
    assert recipe.task.name == task


def test_check_exits_1_for_errors_and_lists_all(luthier: Luthier) -> None:
    path = csv_rows(Path("rows.csv"))
    path.write_text(path.read_text() + "".join(f"bad{n},,positive\n" for n in range(9)))
    done = luthier("check", "rows.csv", "--task", "classification")
    assert done.code == 1 and "(9 times)" in done.out and "and 6 more" in done.out
    report = luthier("check", "rows.csv", "--task", "classification", "--json").json
    faults = [fault for fault in report["faults"] if fault["severity"] == "error"]
    assert len(faults) == 9 and report["rows"] == 49 and report["kept"] == 40
    assert set(faults[0]) == {"severity", "code", "file", "line", "field", "value", "message", "fix"}


def test_fix_offsets(luthier: Luthier) -> None:
    context = "The school of Pure Land, in Japan."
    good = [
        {
            "id": str(n),
            "question": f"Which {n}?",
            "context": context,
            "answers": [{"text": "Japan", "answer_start": 28}],
        }
        for n in range(12)
    ]
    bad = {
        **good[0],
        "id": "bad",
        "question": "What?",
        "answers": [{"text": "Pure Land", "answer_start": 15}],
    }
    write_jsonl(Path("data.jsonl"), [*good, bad])
    assert luthier("check", "data.jsonl", "--task", "question-answering").code == 1
    done = luthier("check", "data.jsonl", "--fix-offsets")
    assert done.code == 0 and "1 answer start corrected in data.fixed.jsonl" in done.out
    assert luthier("check", "data.fixed.jsonl", "--task", "question-answering").code == 0
    report = luthier("check", "data.jsonl", "--fix-offsets", "--json").json
    assert report == {"file": "data.fixed.2.jsonl", "fixed": 1, "left": []}
    Path("r.yaml").write_text("model: minilm\ntask: question-answering\ndata:\n  train: data.jsonl\n")
    assert "1 answer start corrected" in luthier("check", "r.yaml", "--fix-offsets").out


def test_fix_tags(luthier: Luthier) -> None:
    good = [{"tokens": [f"Ann{n}", "Lee"], "tags": ["B-person", "I-person"]} for n in range(12)]
    write_jsonl(Path("data.jsonl"), [*good, {"tokens": ["in", "Rome"], "tags": ["O", "I-place"]}])
    done = luthier("check", "data.jsonl", "--task", "token-classification")
    assert done.code == 1 and "luthier check data.jsonl --fix-tags" in done.out
    done = luthier("check", "data.jsonl", "--task", "token-classification", "--fix-tags")
    assert done.code == 0 and "1 tag corrected in data.fixed.jsonl" in done.out
    assert luthier("check", "data.fixed.jsonl", "--task", "token-classification").code == 0
    report = luthier("check", "data.jsonl", "--fix-tags", "--json").json
    assert report == {"file": "data.fixed.2.jsonl", "fixed": 1, "left": []}
    assert luthier("check", "data.jsonl", "--fix-tags", "--fix-offsets").code == 2


# models, doctor


def test_models(luthier: Luthier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert {row["name"] for row in luthier("models", "list", "--json").json} >= {"minilm", "imdb"}
    assert "minilm" in luthier("models", "list").out
    monkeypatch.setenv("LUTHIER_OFFLINE", "1")
    done = luthier("models", "get", "minilm")
    assert done.code == 2 and "the network is switched off" in done.err

    def get(name: str, *, say: Any, progress: Any) -> Path:
        say("fetching it")
        progress(1, 2)
        return Path("/somewhere")

    monkeypatch.setattr("luthier.models.get", get)
    done = luthier("models", "get", "minilm")
    assert done.out == "/somewhere\n" and "fetching it" in done.err
    assert luthier("models", "get", "minilm", "--json").json == {"name": "minilm", "path": "/somewhere"}


def test_doctor(luthier: Luthier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "environment", lambda: {"python": "3.11", "extras": {"trackers": {"wandb": False}}})
    machine.write_crash(RuntimeError("x"), ["train"])
    assert luthier("doctor", "--json").json["python"] == "3.11"
    done = luthier("doctor", "--zip", "report.zip")
    assert done.code == 0 and "python: 3.11" in done.out and "    wandb: False" in done.out
    with zipfile.ZipFile("report.zip") as bundle:
        names = bundle.namelist()
        assert names[0] == "environment.json" and names[1].startswith("crash-") and names[2:] == ["replay.txt"]
    assert luthier("doctor", "--zip", "report.zip").code == 2


# predict


class FakeTuned:
    """Answers with the length of the text; remembers how many rows came at once."""

    def __init__(self, task: str = "classification") -> None:
        self.task = TASKS[task](TASKS[task].Options(), {"labels": ["a", "b"]})
        self.sizes: list[int] = []
        self.fail_at = 10**9

    def predict(self, given: list[Mapping[str, Any]], progress: Any = None) -> list[dict[str, Any]]:
        self.sizes.append(len(given))
        if sum(self.sizes) >= self.fail_at:
            raise errors.ResourceError("memory ran out")
        first = self.task.form.inputs[0].name
        return [{"id": row["id"], "prediction": str(row[first])[:40], "confidence": 0.5} for row in given]


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTuned:
    """A run called `run` whose model is a FakeTuned."""
    made_run(tmp_path / "place" / "run") if (tmp_path / "place").is_dir() else None
    fake = FakeTuned()
    monkeypatch.setattr(Run, "tuned", lambda self, dtype="auto": fake)
    monkeypatch.setattr(Run, "task", lambda self: fake.task)
    return fake


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def predicted(done: Result) -> list[tuple[str, str | None]]:
    return [(line["id"], line["prediction"]) for line in map(json.loads, done.out.splitlines())]


FILES = {
    "rows.csv": 'id,review,label\nx1,"one, two",a\nx2,three,b\n',
    "rows.tsv": "id\ttext\nx1\tone, two\nx2\tthree\n",
    "rows.jsonl": '{"id": "x1", "text": "one, two", "label": 9}\n\n{"id": "x2", "text": "three"}\n',
    "rows.json": '[{"id": "x1", "text": "one, two"}, {"id": "x2", "text": "three", "label": ["odd"]}]',
}


@pytest.mark.parametrize("name", FILES)
def test_predict_reads_every_format(luthier: Luthier, tuned: FakeTuned, name: str, tmp_path: Path) -> None:
    made_run(Path("run"))
    Path(name).write_text(FILES[name])
    done = luthier("predict", "run", "--input", name)
    assert done.code == 0
    assert predicted(done) == [("x1", "one, two"), ("x2", "three")]


def test_predict_reads_nested_squad(luthier: Luthier, tuned: FakeTuned) -> None:
    tuned.task = TASKS["question-answering"](TASKS["question-answering"].Options())
    made_run(Path("run"), task="question-answering")
    answers = [{"text": "nowhere to be found", "answer_start": 99}]  # a wrong label is no matter here
    asked = [{"id": "q1", "question": "Who?", "answers": answers}, {"id": "q2", "question": "Where?"}]
    write_json(Path("squad.json"), {"data": [{"title": "t", "paragraphs": [{"context": "A place.", "qas": asked}]}]})
    assert predicted(luthier("predict", "run", "--input", "squad.json")) == [("q1", "Who?"), ("q2", "Where?")]


def test_predict_keeps_ids_and_order_over_batches(luthier: Luthier, tuned: FakeTuned) -> None:
    made_run(Path("run"))
    count = 2 * rows.BATCH + 7
    write_jsonl(Path("many.jsonl"), ({"id": n * 7, "text": f"text {n}"} for n in range(count)))
    done = luthier("predict", "run", "--input", "many.jsonl", "--output", "out.jsonl")
    assert done.code == 0 and done.out == "" and f"{count} rows in out.jsonl" in done.err
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [str(n * 7) for n in range(count)]
    assert [line["prediction"] for line in lines] == [f"text {n}" for n in range(count)]
    assert tuned.sizes == [rows.BATCH, rows.BATCH, 7]


def test_predict_holds_a_batch_and_no_more() -> None:
    from luthier.data.reading.raw import Raw

    drawn = 0

    def records() -> Iterator[Raw]:
        nonlocal drawn
        for n in range(10_000):
            drawn += 1
            yield Raw(n + 1, {"text": f"text {n}"})

    fake = FakeTuned()
    asked = rows.asked_rows(records(), fake.task.form, {}, "rows", iter(range(1, 10**6)))
    lines = rows.answered(fake, asked, lambda done: None)  # type: ignore[arg-type]
    next(lines)
    assert drawn <= rows.BATCH + rows.SAMPLE


def test_predict_writes_the_output_whole_or_not_at_all(luthier: Luthier, tuned: FakeTuned) -> None:
    made_run(Path("run"))
    write_jsonl(Path("many.jsonl"), ({"text": f"text {n}"} for n in range(1000)))
    Path("out.jsonl").write_text("what was there\n")
    tuned.fail_at = 600
    done = luthier("predict", "run", "--input", "many.jsonl", "--output", "out.jsonl")
    assert done.code == 4
    assert Path("out.jsonl").read_text() == "what was there\n"
    assert not list(Path().glob(".out*"))


@pytest.mark.parametrize(
    ("given", "lines", "code"),
    [
        (b"one\ntwo, three\n\n{four\n", [("1", "one"), ("2", "two, three"), ("3", "{four")], 0),
        (b'{"text": "one"}\n{"id": "x", "text": "two"}\n', [("1", "one"), ("x", "two")], 0),
        (b'\xef\xbb\xbf{"review": "one", "id": 5}\n', [("5", "one")], 0),
        (
            b'{"text": "one"}\nnot json\n{"id": "x"}\n[]\n',
            [("1", "one"), ("2", None), ("x", None), ("4", None)],
            1,
        ),
        (b"one\n\xff\xfe\n", [("1", "one"), ("2", None)], 1),
        (b'{"text": "half \\ud83d"}\n', [("1", None)], 1),
    ],
)
def test_predict_reads_stdin(
    luthier: Luthier, tuned: FakeTuned, monkeypatch: pytest.MonkeyPatch, given: bytes, lines: Any, code: int
) -> None:
    made_run(Path("run"))
    stdin(monkeypatch, given)
    done = luthier("predict", "run")
    found = predicted(done)
    if code and found[0][1] is not None and given.startswith(b'{"text": "half'):
        lines, code = (
            [("1", found[0][1])],
            0,
        )  # a half surrogate may be answered; it must not break the output
    assert (found, done.code) == (lines, code)
    for line in map(json.loads, done.out.splitlines()):
        assert (line["prediction"] is None) == ("error" in line)


def test_lines_of_stdin_may_each_have_a_layout_of_their_own() -> None:
    form = TASKS["generation"](TASKS["generation"].Options()).asked()
    lines = [
        "plain",
        '{"prompt": "one"}',
        '{"instruction": "two", "input": "more"}',
        '{"messages": [{"role": "user", "content": "three"}]}',
        "{ no JSON",
        '{"title": "x", "id": 5}',
    ]
    for given in (lines, [lines[1], lines[0], *lines[2:]]):
        asked = list(rows.stdin_rows(io.BytesIO("\n".join(given).encode()), form, {}))
        assert [row.id for row in asked] == ["1", "2", "3", "4", "5", "6"]
        said = [row.fields["messages"][-1]["content"] if row.fields else None for row in asked]
        if given is lines:
            assert said == ["plain", "one", "two\nmore", "three", "{ no JSON", None]
        else:  # the first line is an object: a line that is none is a fault
            assert said == ["one", None, "two\nmore", "three", None, None]
        assert "stdin:6: no layout" in asked[-1].error and 'to "prompt"' in asked[-1].error


def test_a_file_without_the_column_that_is_asked_for_names_those_it_has(luthier: Luthier, tuned: FakeTuned) -> None:
    made_run(Path("run"))
    Path("p.csv").write_text("id,heading,note\n1,a,b\n")
    done = luthier("predict", "run", "-i", "p.csv")
    assert done.code == 2 and "the columns are: id, heading, note" in done.err
    assert "COLUMN" not in done.err and 'rename the column that holds it to "text"' in done.err


def test_predict_refuses_plain_lines_where_two_inputs_are_needed(
    luthier: Luthier, tuned: FakeTuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned.task = TASKS["question-answering"](TASKS["question-answering"].Options())
    made_run(Path("run"), task="question-answering")
    stdin(monkeypatch, b"Who is it?\n")
    done = luthier("predict", "run")
    assert done.code == 2 and '{"question": "...", "context": "..."}' in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "rows.csv", "--output", "rows.csv"], "it is the input, too"),
        (["--input", "rows.csv", "--output", "nowhere/out.jsonl"], "its folder is not there"),
        (["--input", "missing.csv"], "missing.csv"),
    ],
)
def test_predict_refuses(luthier: Luthier, tuned: FakeTuned, arguments: list[str], said: str) -> None:
    made_run(Path("run"))
    Path("rows.csv").write_text(FILES["rows.csv"])
    done = luthier("predict", "run", *arguments)
    assert done.code == 2 and said in done.err


def test_what_cannot_be_read_is_refused_before_a_model_is_loaded(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_run(Path("run"), task="question-answering")
    monkeypatch.setattr(Run, "tuned", lambda self, dtype="auto": pytest.fail("a model was loaded"))
    stdin(monkeypatch, b"Who is it?\n")
    assert luthier("predict", "run").code == 2
    Path("p.csv").write_text("id,heading,note\n1,a,b\n")
    assert luthier("predict", "run", "--input", "p.csv").code == 2


def test_a_stopped_predict_says_what_became_of_its_file(
    luthier: Luthier, tuned: FakeTuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_run(Path("run"))
    write_jsonl(Path("many.jsonl"), ({"text": f"text {n}"} for n in range(2 * rows.BATCH)))
    answer = FakeTuned.predict

    def stopped(self: FakeTuned, given: list[Mapping[str, Any]], progress: Any = None) -> list[dict[str, Any]]:
        if self.sizes:
            raise KeyboardInterrupt
        return answer(self, given)

    monkeypatch.setattr(FakeTuned, "predict", stopped)
    done = luthier("predict", "run", "--input", "many.jsonl", "--output", "out.jsonl")
    assert done.code == 130 and not Path("out.jsonl").exists()
    assert f"stopped after {rows.BATCH} rows; nothing is kept" in " ".join(done.err.split())


def test_a_finished_run_says_where_it_lies_and_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from luthier.cli.training import _show_places

    monkeypatch.chdir(tmp_path)
    run = made_run(Path("runs/first"))
    _show_places(run)
    assert capsys.readouterr().out == f"report: {run.folder.report.resolve()}\nrun: {tmp_path / 'runs/first'}\n"
    (run.folder.checkpoints / "step-000001").mkdir(parents=True)
    with (run.folder.checkpoints / "step-000001/trained.safetensors").open("wb") as file:
        file.truncate(20_000_000)
    _show_places(run)
    said = capsys.readouterr().out
    assert "20 MB of it checkpoints" in said and f"rm -r {tmp_path / 'runs/first/checkpoints'}" in said


def test_headlines_are_said_however_soon_the_next_event_comes() -> None:
    from luthier.cli.headlines import with_headlines
    from luthier.terminal.progress import Progress

    out = io.StringIO()
    with Progress(out, live=False) as progress:
        listen = with_headlines(progress)
        for what in ("rung 1 of 2: bert full, finished before", "rung 2 of 2: bert lora", "encoding", "tuning with x"):
            listen(Phase(what))
    assert out.getvalue().splitlines() == [
        "rung 1 of 2: bert full, finished before",
        "rung 2 of 2: bert lora",
        "tuning with x",
    ]


def test_predict_asks_at_a_terminal(
    luthier: Luthier, tuned: FakeTuned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned.task = TASKS["question-answering"](TASKS["question-answering"].Options())
    made_run(Path("run"), task="question-answering")
    said = iter(["A passage.", "Who?", "", "Where?", "", ""])
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or next(said))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(FakeTuned, "predict", lambda self, given: [{"prediction": f"{given[0]['question']} in {given[0]['context']}", "confidence": 0.5}])  # fmt: skip  # noqa: E501
    done = luthier("predict", "run")
    assert done.code == 0
    assert asked == ["context> ", "question> "] * 3
    assert done.out.splitlines() == [
        "Who? in A passage.  (confidence 50%)",
        "Where? in A passage.  (confidence 50%)",
    ]


# demo


def test_demo_goes_the_whole_way(
    luthier: Luthier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, luthier_home: Path
) -> None:
    fetched: list[str] = []

    def fetch_all(names: Any, *, say: Any, progress: Any) -> None:
        for name in names:
            fetched.append(name)
            say(f"Fetching {name} (83.5 MB)")
            progress(name, 1, 2)

    def train(recipe: Any, *, out: Any, listen: Any) -> Run:
        rows_of = json.loads(Path(recipe["data"]["train"]).read_text())["data"][0]["paragraphs"][0]["qas"]
        run = made_run(out)
        line = {"prediction": "x", "confidence": 0.9, "expected": [], "quality": 0.0}
        write_jsonl(run.folder.predictions / "test.jsonl", [{**line, "id": row["id"]} for row in rows_of])
        return run

    monkeypatch.setattr(demos, "fetch_all", fetch_all)
    replace(monkeypatch, "train", train)
    done = luthier("demo", "helpline", "--out", str(tmp_path / "out"))
    assert done.code == 0 and fetched == ["minilm"] and "Fetching minilm (83.5 MB)" in done.err
    lines = done.out.splitlines()
    assert lines[-1] == f"run: {tmp_path}/out" and lines[-2].startswith("report: ")
    said = " ".join(done.out.split())
    for words in (
        "47 short passages",
        "tuned model",
        "Three of its answers",
        "verdict: use it",
        "medical advice",
    ):
        assert words in said
    assert (luthier_home / "data" / "demo-helpline" / "helpline.json").is_file()


# all of it, once, with a tiny model


def test_from_new_to_predict_with_a_tiny_model(luthier: Luthier, models: dict[str, Path]) -> None:
    csv_rows(Path("rows.csv"), 120)
    assert luthier("new", "classification", "--data", "rows.csv", "--out", "r.yaml").code == 0
    options = ["--set", f"model={models['bert']}", "--set", "train.epochs=2", "--set", "task.max_length=32"]
    done = luthier("train", "r.yaml", *options, "--set", "train.learning_rate=1e-2")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1].startswith("run: ")
    run = done.out.splitlines()[-1].removeprefix("run: ")
    assert Path(run).name.startswith("0001-classification")
    assert luthier("evaluate", "1", "--json").json["task"] == "classification"
    scored = luthier("evaluate", "last", "--data", "rows.csv", "--json")
    assert scored.code == 0 and scored.json["rows"] == 120
    verdict = luthier("verdict", run, "--json")
    assert verdict.code == {"use it": 0, "do not use it": 1, "not proven": 3}[verdict.json["verdict"]]
    done = luthier("predict", "last", "--input", "rows.csv", "--output", "out.jsonl")
    assert done.code == 0
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [str(n) for n in range(120)]
    assert {line["prediction"] for line in lines} <= {"positive", "negative"}
    assert luthier("compare", "1", "1", "--json").json["runs"][1]["difference"][0] == 0.0
    assert luthier("resume").code == 0
