"""What became of each instance: Run Command's statuses and the result lines, rolled up.

SSM's own roll-up does not serve: Undeliverable, Delivery Timed Out, Invalid Platform and
Access Denied do not count as errors there, so a command can be a Success of which one in
five instances heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from codeferry_contracts.errors import ResultInvalid
from codeferry_contracts.report import ErrorRecord, Outcome, RanRecord
from codeferry_contracts.result import InstanceResult, Ran, parse_result
from codeferry_lambdas.fleet import Instance
from codeferry_lambdas.obstacles import Unreachable

PENDING = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})

_NETWORK = "Check the instance's network and its SSM agent, then run again."
_LOGS = "See what the step printed: ferry logs RUN"
_STATUSES: Mapping[str, tuple[str, str, str]] = {
    "Undeliverable": ("undeliverable", "SSM could not deliver the command.", _NETWORK),
    "DeliveryTimedOut": (
        "delivery_timed_out",
        "The instance did not fetch the command in time.",
        _NETWORK,
    ),
    "ExecutionTimedOut": (
        "execution_timed_out",
        "The work on the instance did not end within its timeout.",
        "Raise options.timeout_seconds, or look at what the instance is busy with.",
    ),
    "InvalidPlatform": (
        "invalid_platform",
        "The command does not run on the instance's platform.",
        "Codeferry runs on Linux; take the tag codeferry:target off this instance.",
    ),
    "AccessDenied": (
        "ssm_access_denied",
        "SSM denied the command access to the instance.",
        "The instance must carry the tag codeferry:target and a role with "
        "AmazonSSMManagedInstanceCore.",
    ),
    "Cancelled": ("cancelled", "The command was cancelled before it ended here.", ""),
    "Terminated": (
        "error_budget_spent",
        "SSM stopped before this instance because too many others had failed.",
        "Read the failed instances first; options.max_errors sets how many may fail.",
    ),
    "Failed": ("step_failed", "The step failed without saying why.", _LOGS),
    "Success": ("result_missing", "The step ended without a result line.", _LOGS),
}
_SKIPPED = frozenset({"Terminated"})


def blank(instance: Instance) -> Outcome:
    """An instance of which nothing is known yet."""
    return {
        "instance_id": instance.instance_id,
        "name": instance.name,
        "status": "skipped",
        "ssm_status": "",
        "command_id": "",
        "change": "",
        "release_id": "",
        "digest": "",
        "files": 0,
        "bytes": 0,
        "previous": "",
        "manifest": False,
        "warnings": [],
        "unmet": [],
        "seconds": {},
        "ran": None,
        "error": None,
    }


def failed(outcome: Outcome, error: ErrorRecord) -> Outcome:
    return {**outcome, "status": "failed", "error": error}


def skipped(outcome: Outcome, error: ErrorRecord) -> Outcome:
    return {**outcome, "status": "skipped", "error": error}


def unreachable(found: Unreachable) -> Outcome:
    """The outcome of an instance that no command could be sent to."""
    message = f"The instance {found.reason}."
    error: ErrorRecord = {"code": found.code, "message": message, "hint": found.fix}
    return failed(blank(Instance(found.instance_id, found.name)), error)


def unspent(instance: Instance) -> Outcome:
    """The outcome of an instance whose batch was not sent: too many had failed before."""
    code, _, hint = _STATUSES["Terminated"]
    message = "Nothing was sent to this instance: too many others had failed before."
    return skipped(blank(instance), _error(code, message, hint))


def roll_up(
    instances: Sequence[Instance],
    invocations: Iterable[Mapping[str, Any]],
    run_id: str,
    otherwise: ErrorRecord | None = None,
) -> list[Outcome]:
    """One outcome for every one of ``instances``, whatever SSM answered.

    ``otherwise`` is the error of instances that have not ended or were never reached,
    when the batch failed as a whole.
    """
    by_id = {invocation["InstanceId"]: invocation for invocation in invocations}
    return [
        _outcome(instance, by_id.get(instance.instance_id), run_id, otherwise)
        for instance in instances
    ]


def _outcome(
    instance: Instance,
    invocation: Mapping[str, Any] | None,
    run_id: str,
    otherwise: ErrorRecord | None,
) -> Outcome:
    if invocation is None:
        return failed(blank(instance), otherwise or _never_sent())
    status = ssm_status(invocation)
    known: Outcome = {
        **blank(instance),
        "ssm_status": status,
        "command_id": invocation.get("CommandId", ""),
    }
    if status in PENDING:
        return failed(known, otherwise or _still_running(status))
    result = _result(invocation, run_id)
    if isinstance(result, InstanceResult):
        known = with_result(known, result)
        if result.status == "failed" and status in ("Success", "Failed"):
            return failed(known, reported(result))
        if result.status == "running" and status in ("Success", "Failed"):
            return failed(known, _interrupted())
        if status == "Success":
            return {**known, "status": "succeeded", "change": result.status}
    return _unexplained(known, status, result)


def ssm_status(invocation: Mapping[str, Any]) -> str:
    """StatusDetails, which the console spells with spaces and the API without."""
    return str(invocation.get("StatusDetails") or invocation.get("Status", "")).replace(" ", "")


def _result(invocation: Mapping[str, Any], run_id: str) -> InstanceResult | ResultInvalid:
    """The result line of this run, or why there is none."""
    try:
        result = _last_result(invocation)
    except ResultInvalid as error:
        return error
    if result.run_id != run_id:
        return ResultInvalid(f"The instance answered for another run, {result.run_id}.")
    return result


def _last_result(invocation: Mapping[str, Any]) -> InstanceResult:
    """The result of the last step that has one. Within a step the first line counts: what a
    command prints comes after ours."""
    outputs = [plugin.get("Output") or "" for plugin in invocation.get("CommandPlugins", ())]
    for output in reversed(outputs[1:]):
        try:
            return parse_result(output)
        except ResultInvalid:
            continue
    return parse_result(outputs[0] if outputs else "")


def with_result(outcome: Outcome, result: InstanceResult) -> Outcome:
    """The outcome with all that the instance says of itself."""
    return {
        **outcome,
        "release_id": result.release_id,
        "digest": result.digest,
        "files": result.files,
        "bytes": result.bytes,
        "previous": result.previous,
        "manifest": result.manifest,
        "warnings": list(result.warnings),
        "unmet": list(result.unmet),
        "returned": result.returned,
        "seconds": dict(result.seconds),
        "ran": _ran_record(result.ran) if result.ran else None,
    }


def _ran_record(ran: Ran) -> RanRecord:
    record: RanRecord = {**asdict(ran)}  # type: ignore[typeddict-item]
    return record


def _unexplained(known: Outcome, status: str, result: InstanceResult | ResultInvalid) -> Outcome:
    """SSM says how it ended, and no result line explains it."""
    code, message, hint = _STATUSES.get(
        status, ("ssm_failed", f"SSM ended the command with the status {status}.", _LOGS)
    )
    if status == "Success" and isinstance(result, ResultInvalid):
        message, hint = result.message, result.hint or hint
    if status in _SKIPPED:
        return skipped(known, _error(code, message, hint))
    return failed(known, _error(code, message, hint))


def reported(result: InstanceResult) -> ErrorRecord:
    """The error that the instance has reported."""
    error = result.error or {}
    message = error.get("message") or "The instance failed without a reason."
    return _error(error.get("code") or "instance_failed", message, error.get("hint") or "")


def _never_sent() -> ErrorRecord:
    message = "SSM no longer knew the instance when the command was sent."
    return _error("not_sent", message, _NETWORK)


def _still_running(status: str) -> ErrorRecord:
    message = f"The command ended while this instance was still {status}."
    return _error("agent_lost", message, _NETWORK)


def _interrupted() -> ErrorRecord:
    message = "The command was interrupted: the instance or its SSM agent ended meanwhile."
    return _error("interrupted", message, "It is not run again by itself: start a new run.")


def _error(code: str, message: str, hint: str) -> ErrorRecord:
    return {"code": code, "message": message, "hint": hint}
