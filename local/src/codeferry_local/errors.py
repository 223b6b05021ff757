"""The errors of the embedded AWS, and the end of a log to explain them."""

from __future__ import annotations

from pathlib import Path

from codeferry_contracts.errors import CodeferryError


class LocalError(CodeferryError):
    """Every error of the embedded AWS."""

    code = "local_error"


class NotRunning(LocalError):
    """Nothing answers where the embedded AWS should be."""

    code = "local_not_running"


class AlreadyRunning(LocalError):
    """An embedded AWS is up already in this home."""

    code = "local_already_running"


class SourcesMissing(LocalError):
    """The CDK app or the CDK CLI is not where it has to be."""

    code = "local_sources_missing"


class StartFailed(LocalError):
    """A part did not come up; the message carries the end of its log."""

    code = "local_start_failed"


class AgentUnusable(LocalError):
    """The program named by --agent cannot be the agent of instances."""

    code = "local_agent_unusable"


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
