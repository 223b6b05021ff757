"""Answers of the API: commands and invocations in its shapes, and pages of a listing.

The shapes are functions of values, called under the scheduler's lock. A page's token carries a key
and not an offset, so what is added or removed between two pages neither repeats nor skips anything.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from codeferry_local.ssm.commands import NOT_RUN, Command, Detail, Invocation, StepRecord, iso_time
from codeferry_local.ssm.errors import InvalidNextToken

Request = dict[str, Any]
Answer = dict[str, Any]
Key = str | int
Item = TypeVar("Item")

_ECHOED = (
    "Comment",
    "CloudWatchOutputConfig",
    "NotificationConfig",
    "OutputS3BucketName",
    "OutputS3KeyPrefix",
    "OutputS3Region",
    "Parameters",
)


def page(
    items: Iterable[Item], key: Callable[[Item], Key], request: Request, size: int = 50
) -> tuple[list[Item], str | None]:
    """The items whose key follows the request's NextToken, as many as its MaxResults (``size``
    without), and the next token."""
    token, size = request.get("NextToken"), request.get("MaxResults", size)
    after = None if token is None else _opened(token)
    rest = [item for item in sorted(items, key=key) if after is None or key(item) > after]
    return rest[:size], _sealed(key(rest[size - 1])) if len(rest) > size else None


def _sealed(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps({"after": key}).encode()).decode()


def _opened(token: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(token))["after"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise InvalidNextToken("The specified token isn't valid.") from error


def command_view(command: Command) -> dict[str, Any]:
    """A Command."""
    request = command.request
    return {
        "CommandId": command.id,
        "DocumentName": command.document_name,
        "DocumentVersion": command.document_version,
        **{name: request[name] for name in _ECHOED if name in request},
        "Comment": request.get("Comment", ""),
        "ExpiresAfter": command.expires,
        "InstanceIds": list(request.get("InstanceIds", [])),
        "Targets": list(request.get("Targets", [])),
        "RequestedDateTime": command.requested,
        "Status": command.detail.status,
        "StatusDetails": command.detail.value,
        "MaxConcurrency": request.get("MaxConcurrency", "50"),
        "MaxErrors": request.get("MaxErrors", "0"),
        "TargetCount": len(command.invocations),
        "CompletedCount": command.completed,
        "ErrorCount": command.errors,
        "DeliveryTimedOutCount": command.counts[Detail.DELIVERY_TIMED_OUT],
        "TimeoutSeconds": command.timeout_seconds,
    }


def invocation_view(invocation: Invocation, *, details: bool) -> dict[str, Any]:
    """A CommandInvocation; with ``details`` also its steps."""
    return {
        **_common(invocation),
        "InstanceName": invocation.instance_name,
        "RequestedDateTime": invocation.command.requested,
        "Status": invocation.detail.status,
        "StatusDetails": invocation.detail.value,
        "TraceOutput": invocation.trace,
        "CommandPlugins": [
            _plugin(invocation, step) for step in (invocation.steps if details else ())
        ],
    }


def step_view(invocation: Invocation, step: StepRecord) -> dict[str, Any]:
    """What GetCommandInvocation says of one step."""
    detail = step_detail(invocation, step)
    done = step.finished is not None
    return {
        **_common(invocation),
        "PluginName": step.name,
        "ResponseCode": step.exit_code,
        "ExecutionStartDateTime": iso_time(step.started) if step.started else "",
        "ExecutionElapsedTime": _elapsed(step),
        "ExecutionEndDateTime": iso_time(step.finished) if step.finished else "",
        "Status": detail.status,
        "StatusDetails": detail.value,
        "StandardOutputContent": step.stdout if done else "",
        "StandardErrorContent": step.stderr if done else "",
    }


def _common(invocation: Invocation) -> dict[str, Any]:
    command = invocation.command
    return {
        "CommandId": command.id,
        "InstanceId": invocation.instance_id,
        "Comment": command.request.get("Comment", ""),
        "DocumentName": command.document_name,
        "DocumentVersion": command.document_version,
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
        "CloudWatchOutputConfig": command.request.get("CloudWatchOutputConfig"),
    }


def step_detail(invocation: Invocation, step: StepRecord) -> Detail:
    """The step's own status, or the invocation's when that decides for a step that has none."""
    if step.finished is not None:
        return step.detail
    if step.exit_code == NOT_RUN and invocation.detail.terminal:
        return invocation.detail
    return invocation.detail if invocation.detail is Detail.DELAYED else step.detail


def _plugin(invocation: Invocation, step: StepRecord) -> dict[str, Any]:
    detail = step_detail(invocation, step)
    return {
        "Name": step.name,
        # The model has no Delayed and no Cancelling for a step.
        "Status": "InProgress" if not detail.terminal and step.started else detail.status,
        "StatusDetails": detail.value,
        "ResponseCode": step.exit_code,
        "ResponseStartDateTime": step.started,
        "ResponseFinishDateTime": step.finished,
        "Output": step.output if step.finished else "",
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
    }


def _elapsed(step: StepRecord) -> str:
    if step.started is None:
        return ""
    elapsed = (step.finished or datetime.now(UTC)) - step.started
    return f"PT{elapsed / timedelta(seconds=1):.3f}S"
