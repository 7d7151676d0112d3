"""Runs begun and carried on: the folder, its state whatever happens, and what a person is told of an end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from luthier import config
from luthier.engine.ranks import ALONE, Ranks, together
from luthier.errors import InputError, Interrupted, ModelError, ResourceError, RunError, is_out_of_memory
from luthier.files import write_text
from luthier.runs import FolderBeside, RunFolder, find_run, new_run, newest_unfinished
from luthier.secrets import without_secrets

from .fitting import ran_out
from .job import Job, Listener
from .recipe import Recipe, read
from .signals import watching
from .use import Run


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    listen: Listener | None = None,
) -> Run:
    """Tune a model as the recipe says and prove it; the finished Run.

    `recipe` is a file, a mapping or a Recipe; `overrides` are "key.path=value" strings; `out` is the run folder
    itself (default: the next number under runs/). Raises LuthierError for whatever stands in the way. One of several
    processes that torchrun started takes its share of the run, which the first of them begins and writes.
    """
    with together() as ranks:
        checked, base, path = ranks.from_main(lambda: _begun(recipe, out, overrides))
        folder = RunFolder(path)
        try:
            return carry_out(checked, base, folder, listen, ranks=ranks)
        except InputError:
            if ranks.main and out is None and folder.refused():  # a folder of our own making: nothing was changed
                shutil.rmtree(folder.path)
            raise


def _begun(
    recipe: str | Path | Mapping[str, Any] | Recipe, out: Path | str | None, overrides: Sequence[str]
) -> tuple[Recipe, Path, Path]:
    """(the recipe, where its paths begin, the run's new folder)."""
    checked, base = read(recipe, overrides)
    from luthier.models import home

    kind = f"{checked.task.name}-{checked.method.name}"
    folder = new_run(Path(out) if out is not None else None, Path.cwd(), kind, home())
    # The status first: a run that is killed between the two can be begun again in its folder, while a folder that
    # holds a recipe alone may be a person's own.
    folder.set_status("running", base=str(base))
    write_text(folder.recipe, config.dump(checked))
    return checked, base, folder.path


def resume(run: str | None = None, *, listen: Listener | None = None) -> Run:
    """Carry a run on from its newest checkpoint; a finished one is returned as is.

    Without `run` it is the newest unfinished one.
    """
    with together() as ranks:
        folder, recipe, base = ranks.from_main(lambda: _to_go_on(run))
        if recipe is None:
            return Run(folder)
        return carry_out(recipe, base, folder, listen, again=True, ranks=ranks)


def _to_go_on(run: str | None) -> tuple[RunFolder, Recipe | None, Path]:
    """(the run's folder, its recipe unless it is finished, where its paths begin)."""
    from luthier.models import home

    folder = find_run(run, home(), Path.cwd()) if run is not None else newest_unfinished(home())
    if folder is None:
        raise RunError("there is no unfinished run", where="luthier resume", fix="luthier train RECIPE begins one")
    status = folder.status()
    base = Path(status.get("base", "."))
    if status["state"] == "finished":
        return folder, None, base
    if status["state"] == "running" and status.get("pid") != os.getpid():
        raise RunError(
            f"it is still running (process {status['pid']})",
            where=str(folder.path),
            fix="wait, or stop that process",
        )
    if not folder.recipe.is_file():
        raise RunError("it holds no recipe", where=str(folder.path), fix="luthier train RECIPE begins a new run")
    return folder, config.read_recipe(folder.recipe, Recipe), base


def carry_out(
    recipe: Recipe,
    base: Path,
    whole: RunFolder,
    listen: Listener | None,
    *,
    again: bool = False,
    ranks: Ranks = ALONE,
) -> Run:
    """The work, with its end written into status.json whatever the end is."""
    with _as_seen(whole, ranks) as folder, folder.held(), watching() as watch:
        folder.set_status("running", base=str(base))
        job = Job(recipe, base, folder, listen, watch, again, ranks)
        try:
            job.run()
        except (KeyboardInterrupt, Interrupted) as error:
            folder.note_status("stopped")
            raise Interrupted(
                f"stopped at step {job.step}",
                signal=watch.asked or (error.exit_code - 128 if isinstance(error, Interrupted) else 2),
                where=str(folder.path),
                fix=f"go on with: luthier resume {folder.path}",
            ) from None
        except InputError as error:
            folder.note_status(
                "failed", error=str(error)[:2000], refused=not job.training and folder.never_begun(ended=True)
            )
            raise
        except BaseException as error:
            if is_out_of_memory(error):
                raise _ran_out(error, job, folder) from None
            folder.note_status("failed", error=without_secrets(str(error))[:2000])
            if type(error).__name__ == "PanicException":  # how tokenizers tell that a pattern of theirs ran away
                raise ModelError(
                    f"its tokenizer broke on a row ({str(error)[:160]})",
                    where=str(getattr(getattr(job, "source", None), "folder", recipe.model)),
                    fix="use the model with the tokenizer of its authors, or another model",
                ) from None
            raise
    return Run(whole)


@contextlib.contextmanager
def _as_seen(folder: RunFolder, ranks: Ranks) -> Iterator[RunFolder]:
    """The folder as the main rank has it, and as the others do."""
    if ranks.main:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="luthier-rank-") as own:
        yield FolderBeside(folder.path, Path(own))


def _ran_out(error: BaseException, job: Job, folder: RunFolder) -> ResourceError:
    """What is told of a run whose memory ran out: its peak, the forecast, and what would lower it."""
    from luthier.engine.device import peak_memory
    from luthier.training.checkpoint import complete

    traceback.clear_frames(error.__traceback__)  # they hold what was being computed
    peak = peak_memory()
    said, fix = ran_out(job.outlook, peak)
    kept = complete(folder.checkpoints)
    said += f"; {kept[-1].name} is intact" if kept else "; no step was saved yet"
    folder.note_status("failed", error="out of memory", peak_memory=peak)
    again = f"luthier train {folder.recipe} --set KEY=VALUE"
    fix += f". Change the recipe ({again}), or free memory and go on with: luthier resume {folder.path}"
    return ResourceError(said, where=str(folder.path), fix=fix)
