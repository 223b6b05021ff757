"""The run request a command line asks for, checked before anything is uploaded."""

from __future__ import annotations

from typing import Any

from codeferry_cli.options import RunOptions
from codeferry_contracts.request import Archive, Expect, Options, RunRequest, parse_request

_OPTIONS = tuple(Options.__dataclass_fields__)


def build_request(target: str, project: str, run: RunOptions, archive: Archive) -> RunRequest:
    """The request; what was not asked for is left to the contract's defaults.

    Raises RequestInvalid listing every value that cannot be.
    """
    stated: dict[str, Any] = {name: getattr(run, name) for name in _OPTIONS}
    request = RunRequest(
        archive=archive,
        target=target,
        project=project,
        expect=Expect(run.expect_files, run.expect_directories),
        options=Options(**{name: v for name, v in stated.items() if v not in (None, ())}),
    )
    parse_request(request.to_json())
    return request
