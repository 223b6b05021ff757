"""Errors of `ferry`, each with its code and the exit code a command ends with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codeferry_contracts.errors import CodeferryError, NameInvalid, RequestInvalid, TargetInvalid

DONE = 0
FAILED = 1
USAGE = 2
CONFIGURATION = 3
REFUSED = 4  # before any instance was sent anything
STILL_RUNNING = 5
PIPE_CLOSED = 141  # what a shell says of a program that SIGPIPE ended
INTERRUPTED = 130
TERMINATED = 143


class FerryError(CodeferryError):
    """An error of the command line.

    ``details`` are further keys of the ``--json`` answer, beside ``error``.
    """

    exit_code = FAILED

    def __init_subclass__(cls, code: str | None = None, exit_code: int | None = None) -> None:
        if code is not None:
            cls.code = code
        if exit_code is not None:
            cls.exit_code = exit_code

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        exit_code: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.details = dict(details or {})
        if exit_code is not None:
            self.exit_code = exit_code


class ConfigInvalid(FerryError, code="config_invalid", exit_code=CONFIGURATION):
    """A configuration file is malformed, or has a key or value that means nothing."""


class ConfigExists(FerryError, code="config_exists", exit_code=USAGE):
    """`ferry init` would overwrite a configuration file."""


class LocalNotInstalled(FerryError, code="local_not_installed", exit_code=CONFIGURATION):
    """The embedded AWS is not part of this installation."""


class LocalNotRunning(FerryError, code="local_not_running", exit_code=CONFIGURATION):
    """The embedded AWS is not running."""


class StageMissing(FerryError, code="stage_missing", exit_code=CONFIGURATION):
    """The stage is not deployed, or only in part."""


class AccessProblem(FerryError, exit_code=CONFIGURATION):
    """AWS cannot be used as configured; ``code`` names the fault: credentials, region, …"""


class AwsFailed(FerryError, code="aws_error"):
    """AWS refused for a reason that is no access problem."""


class RunNotFound(FerryError, code="run_not_found", exit_code=USAGE):
    """No run, or several, answer to what was typed."""


class ReleaseNotFound(FerryError, code="release_not_found", exit_code=USAGE):
    """No release, or several, answer to what was typed."""


class NotConfirmed(FerryError, code="not_confirmed", exit_code=USAGE):
    """Another person's run, and nobody to ask."""


class ScriptRefused(FerryError, exit_code=USAGE):
    """The script cannot be run as it is; ``code`` is the one the agent has for the same."""


class VariableRefused(FerryError, code="variable_refused", exit_code=USAGE):
    """An ``--env`` is no variable; the message never has its value."""


class LogsMissing(FerryError, code="logs_missing"):
    """A run's output is not kept where it should be."""


class PageMissing(FerryError, code="page_missing"):
    """A run has no report page."""


class RunNotStarted(FerryError, code="run_not_started"):
    """An upload started no run in time."""


class NoInstances(FerryError, code="no_instances", exit_code=REFUSED):
    """The target reaches no instance."""


class ExpectationUnmet(FerryError, code="expectation_unmet", exit_code=REFUSED):
    """What --strict expects is not packed."""


class RunFailed(FerryError, code="run_failed"):
    """The run failed, or some instances did; exit code 4 where none was sent anything."""


class StillRunning(FerryError, code="still_running", exit_code=STILL_RUNNING):
    """Waiting ended before the run did."""


class OutputRefused(FerryError, code="output_refused", exit_code=USAGE):
    """There is nowhere sensible to write to."""


class ChecksFailed(FerryError, code="checks_failed"):
    """`ferry doctor` found something."""


class PlaceUnusable(FerryError, code="place_unusable", exit_code=USAGE):
    """`ferry s3`: source or destination cannot be what was asked for."""


class S5cmdMissing(FerryError, code="s5cmd_missing", exit_code=CONFIGURATION):
    """--use-s5cmd, and there is no s5cmd."""


class ObjectsFailed(FerryError, code="objects_failed"):
    """`ferry s3`: some paths failed; ``details`` list them beside what went well."""


class NothingFound(FerryError, code="nothing_found"):
    """`ferry s3`: there is nothing to list."""


class PipeClosed(FerryError, code="pipe_closed", exit_code=PIPE_CLOSED):
    """Nobody reads stdout any more, as after `head`. A run that was followed goes on."""


class Interrupted(FerryError, code="interrupted", exit_code=INTERRUPTED):
    """Ctrl-C or SIGTERM, after which the exit code is 143, as a shell has it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as CI's cancel sends it: it means what Ctrl-C does."""


_USAGE_ERRORS = (TargetInvalid, NameInvalid, RequestInvalid)
# What other members raise names what is wrong, not how a process should end.
_BY_CODE = {
    "bucket_missing": CONFIGURATION,
    "access_denied": CONFIGURATION,
    "connection_failed": CONFIGURATION,
    "credentials_unusable": CONFIGURATION,
    "local_already_running": CONFIGURATION,
    "local_not_running": CONFIGURATION,
    "local_sources_missing": CONFIGURATION,
}


def exit_code(error: CodeferryError) -> int:
    """The exit code of a failure: its own, else by kind, else "it failed"."""
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return own
    if isinstance(error, _USAGE_ERRORS):
        return USAGE
    return _BY_CODE.get(error.code, FAILED)


def answer(error: CodeferryError) -> dict[str, Any]:
    """The one JSON document a failing command prints under ``--json``."""
    return {"success": False, "error": error.to_json(), **getattr(error, "details", {})}
