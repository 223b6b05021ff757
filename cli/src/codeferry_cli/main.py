"""The console script: runs a command and turns every failure into words and an exit code."""

from __future__ import annotations

import io
import itertools
import os
import signal
import sys
from collections.abc import Sequence

import click

from codeferry_cli import errors
from codeferry_cli.commands import ferry
from codeferry_cli.terminal.output import print_document, print_error
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.escaping import harmless


def main() -> None:
    """Entry point of ``ferry``."""
    _open_closed_streams()
    _escape_unprintable()
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run_and_flush(sys.argv[1:]))


def _terminate(*_: object) -> None:
    """End once: a second SIGTERM is not to cut short what is then printed and undone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise errors.Terminated


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code is one of errors.py's."""
    try:
        result = ferry.main(
            args=list(arguments), prog_name="ferry", standalone_mode=False, color=_want_colours()
        )
    except click.UsageError as error:
        return _usage(error, arguments)
    except click.ClickException as error:
        return _fail(_as_failure(error.format_message()), arguments)
    except click.Abort as abort:
        interrupted = errors.Interrupted("Interrupted.")
        interrupted.__cause__ = abort
        return _fail(interrupted, arguments)
    except errors.PipeClosed:
        return errors.PIPE_CLOSED
    except CodeferryError as error:
        return _fail(error, arguments)
    except OSError as error:
        return _fail(_as_failure(f"{error}."), arguments)
    except Exception as error:  # noqa: BLE001 - the last resort: a defect is named, not a traceback
        return _fail(_as_defect(error), arguments)
    return result if isinstance(result, int) else errors.DONE


def _usage(error: click.UsageError, arguments: Sequence[str]) -> int:
    if _wants_json(arguments):
        command = error.ctx.command_path if error.ctx else "ferry"
        hint = f"See '{command} --help'."
        problem = CodeferryError(error.format_message(), hint=hint, code="usage")
        print_document(errors.answer(problem))
    else:
        usage = io.StringIO()
        error.show(usage)
        click.echo(harmless(usage.getvalue()), err=True, nl=False)  # a word may be a file's name
    return errors.USAGE


def _fail(error: CodeferryError, arguments: Sequence[str]) -> int:
    if _verbosity(arguments) >= 2:
        import traceback

        click.echo(harmless(traceback.format_exc()), err=True)
    if _wants_json(arguments):
        print_document(errors.answer(error))
    else:
        print_error(error)
    return errors.TERMINATED if _is_termination(error) else errors.exit_code(error)


def _is_termination(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, errors.Terminated):
        error = error.__cause__
    return error is not None


def _as_failure(message: str) -> errors.FerryError:
    return errors.FerryError(message, code="failed")


def _as_defect(error: Exception) -> errors.FerryError:
    return errors.FerryError(
        f"Unexpected {type(error).__name__}: {error}.",
        hint="This is a defect of ferry. Run the command again with -vv and report what it prints.",
        code="defect",
    )


def _want_colours() -> bool | None:
    """Whether to print colours: as NO_COLOR (no-color.org), FORCE_COLOR (force-color.org) and a
    terminal that has none say, in this order; None is: on terminals."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return False if os.environ.get("TERM") in ("dumb", "unknown") else None


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments before ``--``: what follows belongs to someone else."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` was typed, known even where the command line does not parse."""
    own = _before_dashes(arguments)
    return (
        "--json" in own
        or "--output=json" in own
        or any(pair == ("--output", "json") for pair in itertools.pairwise(own))
    )


def _verbosity(arguments: Sequence[str]) -> int:
    short = sum(
        len(a) - 1 for a in _before_dashes(arguments) if a.startswith("-v") and not a.strip("-v")
    )
    return short + sum(argument == "--verbose" for argument in _before_dashes(arguments))


def _open_closed_streams() -> None:
    """Replace streams that `>&-` closed, which nothing that prints is prepared for."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
            setattr(sys, name, nowhere)


def _run_and_flush(arguments: Sequence[str]) -> int:
    """``run``, and what it printed has arrived; no traceback where stdout is full or closed."""
    try:
        code = run(arguments)
        sys.stdout.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return errors.PIPE_CLOSED
        print_error(_as_failure(f"stdout cannot be written: {error.strerror}."))
        return errors.FAILED
    return code


def _escape_unprintable() -> None:
    """A file name that the locale cannot spell is printed escaped instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
