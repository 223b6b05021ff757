"""What `ferry` itself can find wrong, and the exit code each failure ends with.

CodeferryError
└── FerryError
    ├── ConfigInvalid        3  a configuration file cannot be used
    ├── ConfigExists         2  `ferry init` would overwrite one
    ├── LocalNotInstalled    3  the embedded AWS is not part of this installation
    ├── LocalNotRunning      3  the embedded AWS is not running
    ├── StageMissing         3  the stage is not deployed, or only in part
    ├── AccessProblem        3  credentials, permissions, region or network
    ├── AwsFailed            1  AWS refused for a reason that is none of these
    ├── RunNotFound          2  no run, or several, answer to what was typed
    ├── ReleaseNotFound      2  no release, or several, answer to what was typed
    ├── NotConfirmed         2  another person's run, and nobody to ask
    ├── ScriptRefused        2  the script cannot be run as it is
    ├── VariableRefused      2  what --env says is no variable
    ├── LogsMissing          1  a run's output is not kept where it should be
    ├── PageMissing          1  a run has no report page
    ├── RunNotStarted        1  an upload started no run in time
    ├── NoInstances          4  the target reaches no instance
    ├── ExpectationUnmet     4  what --strict expects is not packed
    ├── RunFailed          1,4  the run failed, or some instances did; 4: none was sent anything
    ├── StillRunning         5  waiting ended before the run did
    ├── OutputRefused        2  there is nowhere sensible to write to
    ├── ChecksFailed       1,3  `ferry doctor` found something
    ├── PlaceUnusable        2  `ferry s3`: source or destination cannot be what was asked for
    ├── S5cmdMissing         3  --use-s5cmd, and there is none
    ├── NothingFound         1  `ferry s3`: there is nothing to list
    ├── ObjectsFailed        1  `ferry s3`: some objects could not be dealt with
    ├── PipeClosed         141  who reads stdout has enough, as `head`
    └── Interrupted    130,143  Ctrl-C, SIGTERM
"""

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


class ConfigInvalid(FerryError):
    """A configuration file is malformed, or has a key or value that means nothing."""

    code = "config_invalid"
    exit_code = CONFIGURATION


class ConfigExists(FerryError):
    code = "config_exists"
    exit_code = USAGE


class LocalNotInstalled(FerryError):
    code = "local_not_installed"
    exit_code = CONFIGURATION


class LocalNotRunning(FerryError):
    code = "local_not_running"
    exit_code = CONFIGURATION


class StageMissing(FerryError):
    code = "stage_missing"
    exit_code = CONFIGURATION


class AccessProblem(FerryError):
    """AWS cannot be used as configured; ``code`` says which part is at fault."""

    exit_code = CONFIGURATION


class AwsFailed(FerryError):
    code = "aws_error"


class RunNotFound(FerryError):
    code = "run_not_found"
    exit_code = USAGE


class ReleaseNotFound(FerryError):
    code = "release_not_found"
    exit_code = USAGE


class NotConfirmed(FerryError):
    code = "not_confirmed"
    exit_code = USAGE


class ScriptRefused(FerryError):
    """``code`` says what is wrong with it, in the words the agent has for the same."""

    exit_code = USAGE


class VariableRefused(FerryError):
    """Says which ``--env``, never what its value is."""

    code = "variable_refused"
    exit_code = USAGE


class LogsMissing(FerryError):
    code = "logs_missing"


class PageMissing(FerryError):
    code = "page_missing"


class RunNotStarted(FerryError):
    code = "run_not_started"


class NoInstances(FerryError):
    code = "no_instances"
    exit_code = REFUSED


class ExpectationUnmet(FerryError):
    code = "expectation_unmet"
    exit_code = REFUSED


class RunFailed(FerryError):
    code = "run_failed"


class StillRunning(FerryError):
    code = "still_running"
    exit_code = STILL_RUNNING


class OutputRefused(FerryError):
    code = "output_refused"
    exit_code = USAGE


class ChecksFailed(FerryError):
    code = "checks_failed"


class PlaceUnusable(FerryError):
    code = "place_unusable"
    exit_code = USAGE


class S5cmdMissing(FerryError):
    code = "s5cmd_missing"
    exit_code = CONFIGURATION


class ObjectsFailed(FerryError):
    """Some paths failed; ``details`` list them beside what went well."""

    code = "objects_failed"


class NothingFound(FerryError):
    code = "nothing_found"


class PipeClosed(FerryError):
    """Nobody reads stdout any more. A run that was followed goes on."""

    code = "pipe_closed"
    exit_code = PIPE_CLOSED


class Interrupted(FerryError):
    """``exit_code`` is 143 after SIGTERM, as a shell has it."""

    code = "interrupted"
    exit_code = INTERRUPTED


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
