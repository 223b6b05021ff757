"""Commands and invocations in the shapes of the API. Functions of values, under the lock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from codeferry_local.ssm.commands import NOT_RUN, Command, Invocation, StepRecord
from codeferry_local.ssm.status import Detail

# ListCommandInvocations documents 2,500 characters per step; what the agent sends it
# is shorter: iohandler.MaximumPluginOutputSize, 2,400 bytes with titles and marks.
AGENT_OUTPUT_LIMIT = 2_400
_ERROR_TITLE = "\n----------ERROR-------\n"
_OUTPUT_CUT = "\n---Output truncated---"
_ERROR_CUT = "\n---Error truncated----"

_ECHOED = (
    "Comment",
    "CloudWatchOutputConfig",
    "NotificationConfig",
    "OutputS3BucketName",
    "OutputS3KeyPrefix",
    "OutputS3Region",
    "Parameters",
)


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


def invocation_view(invocation: Invocation, *, details: bool, limit: int) -> dict[str, Any]:
    """A CommandInvocation; with ``details`` also its steps, their output cut to ``limit`` bytes."""
    command = invocation.command
    return {
        "CommandId": command.id,
        "InstanceId": invocation.instance_id,
        "InstanceName": invocation.instance_name,
        "Comment": command.request.get("Comment", ""),
        "DocumentName": command.document_name,
        "DocumentVersion": command.document_version,
        "RequestedDateTime": command.requested,
        "Status": invocation.detail.status,
        "StatusDetails": invocation.detail.value,
        "TraceOutput": invocation.trace,
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
        "CloudWatchOutputConfig": command.request.get("CloudWatchOutputConfig"),
        "CommandPlugins": [
            _plugin(invocation, step, limit) for step in (invocation.steps if details else ())
        ],
    }


def step_view(invocation: Invocation, step: StepRecord) -> dict[str, Any]:
    """What GetCommandInvocation says of one step."""
    command = invocation.command
    detail = step_detail(invocation, step)
    done = step.finished is not None
    return {
        "CommandId": command.id,
        "InstanceId": invocation.instance_id,
        "Comment": command.request.get("Comment", ""),
        "DocumentName": command.document_name,
        "DocumentVersion": command.document_version,
        "PluginName": step.name,
        "ResponseCode": step.exit_code,
        "ExecutionStartDateTime": _iso(step.started),
        "ExecutionElapsedTime": _elapsed(step),
        "ExecutionEndDateTime": _iso(step.finished),
        "Status": detail.status,
        "StatusDetails": detail.value,
        "StandardOutputContent": step.stdout if done else "",
        "StandardOutputUrl": "",
        "StandardErrorContent": step.stderr if done else "",
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


def truncated(stdout: str, stderr: str, limit: int) -> str:
    """Both outputs as one text of at most ``limit`` bytes, cut the way the agent cuts.

    The strictly smaller of the agent's comparison is kept: exactly ``limit`` is cut.
    """
    out, err = stdout.encode(), stderr.encode()
    title = _ERROR_TITLE if err else ""
    space = limit - len(title)
    if len(out) + len(err) < space:
        return stdout + title + stderr
    if len(out) > space // 2 and len(err) > space // 2:
        half = (space - len(_ERROR_CUT) - len(_OUTPUT_CUT)) // 2
        return _head(out, half) + _OUTPUT_CUT + title + _head(err, half) + _ERROR_CUT
    if len(out) < space // 2:
        return stdout + title + _head(err, space - len(_ERROR_CUT) - len(out)) + _ERROR_CUT
    return _head(out, space - len(_OUTPUT_CUT) - len(err)) + _OUTPUT_CUT + title + stderr


def _plugin(invocation: Invocation, step: StepRecord, limit: int) -> dict[str, Any]:
    detail = step_detail(invocation, step)
    return {
        "Name": step.name,
        # The model has no Delayed and no Cancelling for a step.
        "Status": "InProgress" if not detail.terminal and step.started else detail.status,
        "StatusDetails": detail.value,
        "ResponseCode": step.exit_code,
        "ResponseStartDateTime": step.started,
        "ResponseFinishDateTime": step.finished,
        "Output": _output(step, limit) if step.finished else "",
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
    }


def _output(step: StepRecord, limit: int) -> str:
    return truncated(step.stdout, step.stderr, limit) if step.output is None else step.output


def _head(text: bytes, size: int) -> str:
    return text[: max(size, 0)].decode(errors="ignore")


def _iso(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" if moment else ""


def _elapsed(step: StepRecord) -> str:
    if step.started is None:
        return ""
    spent = (step.finished or datetime.now(UTC)) - step.started
    return f"PT{spent / timedelta(seconds=1):.3f}S"
