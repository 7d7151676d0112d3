"""All verbs in one program, and how it ends: every error becomes one message and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier import __version__
from luthier.engine.ranks import beside, silenced, world
from luthier.errors import LuthierError, LuthierWarning, RunError
from luthier.secrets import without_secrets
from luthier.terminal.streams import prepare_streams, print_error, print_json, say

from . import audit, data, ladder, machine, models, preview, reading, review, training
from .bundle import note_failure

# What an OSError with a file's name says about the person's input, not about luthier.
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

app = typer.Typer(
    name="luthier",
    help="From documents and labels to a fine-tuned language model you can trust.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"luthier {__version__}")
        raise typer.Exit()


SHARED = ("train", "resume")  # the verbs that several processes carry out together


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks. May stand anywhere.")] = False,
) -> None:
    """From documents and labels to a fine-tuned language model you can trust.

    Exit codes: 0 done, 1 the answer is no, 2 the input is wrong, 3 not proven, 4 out of memory or disk,
    70 luthier's own fault.
    """
    if world() > 1 and context.invoked_subcommand not in SHARED:
        raise RunError(
            f"this is one of {world()} processes, and only {' and '.join(SHARED)} share their work",
            where=f"luthier {context.invoked_subcommand}",
            fix="start it once, without torchrun",
        )


# In the order of the work.
app.command()(training.demo)
app.command()(data.new)
app.command()(data.check)
app.command()(preview.preview)
app.add_typer(models.app, name="models")
app.command()(training.train)
app.command()(training.resume)
app.command()(ladder.ladder)
app.command()(reading.evaluate)
app.command()(reading.predict)
app.command()(reading.compare)
app.command()(audit.audit)
app.command()(reading.verdict)
app.command()(review.review)
app.command()(machine.doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. No traceback ever leaves here without --debug."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options
    if debug:
        arguments.remove("--debug")
    prepare_streams()
    with warnings.catch_warnings():
        _quiet_warnings(debug)
        try:
            code = app(arguments, prog_name="luthier", standalone_mode=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except BaseException as error:
            if debug and not isinstance(error, (SystemExit, KeyboardInterrupt)):
                say(without_secrets("".join(traceback.format_exception(error))).rstrip())
            return _leave(error, arguments, as_json="--json" in options)


def _leave(error: BaseException, arguments: Sequence[str], *, as_json: bool) -> int:
    """Say what went wrong and give the exit code for it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error)
        return 0
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has left; a second complaint at shutdown is avoided.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        if not silenced():
            say("stopped")
        return 130
    if isinstance(error, LuthierError) and error.exit_code != LuthierError.exit_code:
        found = error
    else:
        found = _judge(error, arguments)
    if silenced():
        return found.exit_code
    if arguments[:1] != ["doctor"]:
        note_failure(found, arguments)
    print_error(found)
    if as_json:
        about = {"where": found.where, "found": found.found, "fix": found.fix, "exit_code": found.exit_code}
        with contextlib.suppress(OSError):  # stdout itself may be what is full
            print_json({"error": about})
    return found.exit_code


def _judge(error: BaseException, arguments: Sequence[str]) -> LuthierError:
    """Anything else that was raised, as an error of ours: a slip in the arguments, the machine, our fault."""
    from luthier.errors import InputError, ResourceError
    from luthier.files import free_bytes

    say_usage: Any = getattr(error, "format_message", None)
    if say_usage is not None and hasattr(error, "exit_code"):
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "luthier"
        return InputError(_sentence(error, say_usage(), context), fix=f"{_hint(say_usage(), context)}{path} --help")
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        where, free = str(error.filename or ""), ""
        with contextlib.suppress(OSError):
            free = f"; {free_bytes(Path(where)):,} bytes are free" if where else ""
        return ResourceError(f"the disk is full{free}", where=where, fix="free some space")
    if isinstance(error, OSError) and error.errno in _NOT_OURS and error.filename:
        words = str(error.strerror).lower()
        return InputError(words, where=str(error.filename), fix="check the path and its permissions")
    if isinstance(error, MemoryError):
        return ResourceError("memory ran out", fix="use a smaller model, or shorter inputs (task.max_length)")
    if type(error).__name__ == "PanicException" and "Onig" in str(error):  # a pattern in a tokenizer ran away
        fix = "use the model with the tokenizer of its authors, or another model"
        return InputError(f"the model's tokenizer broke on a row ({str(error)[:160]})", fix=fix)
    report = machine.write_crash(error, arguments)
    attach = f"; please report it with {report}" if report else ""
    said = (str(error).splitlines() or [""])[0][:300]
    return LuthierError(
        f"this is luthier's fault, not yours ({type(error).__name__}: {said})",
        fix=f"run it again with --debug for the traceback{attach}",
    )


def _hint(message: str, context: Any) -> str:
    """Where a file goes that was named without its option: "luthier evaluate RUN FILE"."""
    options = [one for one in getattr(getattr(context, "command", None), "params", ()) if one.metavar == "FILE"]
    if not message.startswith("Got unexpected extra argument") or not options:
        return ""
    return f"a file is named with {max(options[0].opts, key=len)}; "


def _sentence(error: BaseException, message: str, context: Any) -> str:
    """The parser's message, with the nearest verb or option where an unknown one was given."""
    from luthier.errors import did_you_mean

    command = getattr(context, "command", None)
    words = message.split("'")
    if message.startswith("No such command") and len(words) > 1:
        return f'there is no verb "{words[1]}". {did_you_mean(words[1], getattr(command, "commands", {}))}'
    option = getattr(error, "option_name", None)
    if message.startswith("No such option") and isinstance(option, str) and command is not None:
        known = [name for one in command.params for name in one.opts if name.startswith("--")]
        return f'there is no option "{option}". {did_you_mean(option, [*known, "--help", "--debug"])}'
    return message


def _quiet_warnings(debug: bool) -> None:
    """luthier's own warnings in one line each; those of libraries only with --debug."""
    if debug:
        return
    warnings.simplefilter("ignore")
    if beside():
        return
    warnings.simplefilter("once", LuthierWarning)

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        say(f"warning: {message}")

    warnings.showwarning = show
