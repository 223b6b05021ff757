"""The run request: parsed, and refused where it makes no sense."""

from __future__ import annotations

import dataclasses
from typing import Any

from codeferry_contracts.errors import RequestInvalid
from codeferry_contracts.layout import INBOX_PREFIX, parse_inbox_key
from codeferry_contracts.names import SCRIPT
from codeferry_contracts.request import Archive, Expect, RunRequest, expected_of, parse_request


def read_request(document: Any, workflow: str) -> RunRequest:
    """The checked request; an upload whose key names no target is refused by what a key is."""
    archive = document.get("archive") if isinstance(document, dict) else None
    key = archive.get("key") if isinstance(archive, dict) else None
    if isinstance(key, str) and key.startswith(INBOX_PREFIX) and "target" not in document:
        parse_inbox_key(key)
    request = parse_request(document, workflow)
    _require_unicode(request)
    _require_command(request, workflow)
    return _expecting(request)


def _expecting(request: RunRequest) -> RunRequest:
    """The request with what it expects when it does not say: the command's entry script."""
    if not request.command or request.expect != Expect():
        return request
    return dataclasses.replace(request, expect=expected_of(request.command))


def unusable(
    problem: str, hint: str = "Its shape is described in docs/run-request.md."
) -> RequestInvalid:
    return RequestInvalid(f"The run request is not usable: {problem}.", hint=hint)


def _require_command(request: RunRequest, workflow: str) -> None:
    """Refuse without a command what only makes sense with one."""
    if workflow == SCRIPT and request.options.rollout:
        raise unusable(
            "options.rollout is for releases, not for scripts",
            "Set how many at a time with options.max_concurrency.",
        )
    if not request.command and workflow == SCRIPT:
        raise unusable("a script run needs a command")
    if not request.command and request.environment is not None:
        raise unusable("environment needs a command")


def _require_unicode(request: RunRequest) -> None:
    """JSON can hold half a character (a lone surrogate), which no call to AWS can."""
    archive, rollout = request.archive or Archive(""), request.options.rollout
    for name, text in (
        ("archive.key", archive.key),
        ("archive.version_id", archive.version_id or ""),
        ("target", request.target),
        ("environment.key", request.environment.key if request.environment else ""),
        *((f"command[{n}]", word) for n, word in enumerate(request.command)),
        *((f"health[{n}]", word) for n, word in enumerate(rollout.health if rollout else ())),
    ):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise unusable(f"{name} is not valid Unicode") from None
