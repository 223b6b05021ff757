"""What can go wrong around the embedded AWS.

LocalError
├── NotRunning       nothing answers where the embedded AWS should be
├── AlreadyRunning   one is up already in this home
├── SourcesMissing   the CDK app or the CDK CLI is not where it has to be
├── AgentUnusable    the program named by --agent cannot be the agent of instances
└── StartFailed      a part did not come up; the message carries the end of its log
"""

from __future__ import annotations

from codeferry_contracts.errors import CodeferryError


class LocalError(CodeferryError):
    code = "local_error"


class NotRunning(LocalError):
    code = "local_not_running"


class AlreadyRunning(LocalError):
    code = "local_already_running"


class SourcesMissing(LocalError):
    code = "local_sources_missing"


class StartFailed(LocalError):
    code = "local_start_failed"


class AgentUnusable(LocalError):
    code = "local_agent_unusable"
