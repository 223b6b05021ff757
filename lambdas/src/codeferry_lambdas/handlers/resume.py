"""resume: SSM says a command has ended, so the workflow need not wait for its next look."""

from __future__ import annotations

from codeferry_lambdas.aws.observability import Event, entry
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.executions import complete
from codeferry_lambdas.runs.invocations import has_ended
from codeferry_lambdas.runs.ledger import Ledger


@entry
def handler(event: Event) -> None:
    """Takes EventBridge's "EC2 Command Status-change Notification". It carries the
    command's parameters, so it is never logged."""
    settings, detail = Settings.from_env(), event["detail"]
    if not has_ended(detail["status"]):
        return
    token = Ledger(settings.table).token(detail["command-id"])
    if token is not None:
        complete(token, detail["status"])
