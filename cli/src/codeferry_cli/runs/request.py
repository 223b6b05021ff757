"""Build the run request that a command line asks for."""

from __future__ import annotations

from typing import Any

from codeferry_cli.options.run import RunOptions
from codeferry_contracts.errors import RequestInvalid
from codeferry_contracts.formatting import with_flags
from codeferry_contracts.names import ROLLBACK, SYNC
from codeferry_contracts.request import (
    Archive,
    Environment,
    Expect,
    Options,
    RunRequest,
    StartedBy,
    parse_request,
)

# What a request may say and these commands have an option for.
_OPTIONS = tuple(name for name in Options.__dataclass_fields__ if hasattr(RunOptions, name))
_ROLLBACK_OPTIONS = ("timeout_seconds", "max_concurrency", "max_errors")


def build_request(
    target: str,
    project: str,
    run: RunOptions,
    archive: Archive,
    command: tuple[str, ...] = (),
    environment: Environment | None = None,
    by: StartedBy | None = None,
) -> RunRequest:
    """The request; what was not asked for is left to the contract's defaults.

    Raises RequestInvalid listing every value that cannot be.
    """
    stated: dict[str, Any] = {name: getattr(run, name) for name in _OPTIONS}
    request = RunRequest(
        archive=archive,
        target=target,
        project=project,
        command=command,
        environment=environment,
        started_by=by,
        expect=Expect(run.expect_files, run.expect_directories),
        options=Options(**{name: v for name, v in stated.items() if v not in (None, (), False)}),
    )
    _check(request, SYNC)
    return request


def build_rollback(
    target: str,
    project: str | None,
    release: str | None,
    run: RunOptions,
    by: StartedBy | None = None,
) -> RunRequest:
    """The request of a rollback. Raises RequestInvalid listing every value that cannot be."""
    stated = {name: getattr(run, name) for name in _ROLLBACK_OPTIONS}
    request = RunRequest(
        archive=None,
        target=target,
        project=project,
        release=release,
        started_by=by,
        options=Options(**{name: v for name, v in stated.items() if v is not None}),
    )
    _check(request, ROLLBACK)
    return request


def _check(request: RunRequest, workflow: str) -> None:
    """Raise RequestInvalid, which speaks of options by their flags."""
    try:
        parse_request(request.to_json(), workflow)
    except RequestInvalid as error:
        raise RequestInvalid(with_flags(error.message), hint=error.hint) from None
