"""The outcome of each instance, from Run Command's statuses and the result lines.

SSM's own roll-up does not serve: Undeliverable, Delivery Timed Out, Invalid Platform and
Access Denied do not count as errors there, so a command can be a Success of which one in
five instances heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from codeferry_contracts.errors import ResultInvalid
from codeferry_contracts.report import CommandOutcomeRecord, ErrorRecord, Outcome
from codeferry_contracts.result import CommandOutcome, InstanceResult, parse_result
from codeferry_lambdas.fleet.targets import Instance
from codeferry_lambdas.fleet.unreachable import Unreachable
from codeferry_lambdas.runs.invocations import PENDING, outputs, ssm_status

_NETWORK = (
    "Check the instance's network (endpoints ssm, ssmmessages) and that its SSM agent is not old: "
    "ferry doctor TARGET. Then run again."
)
_LOGS = "See what the step printed: ferry logs RUN"
_WORDS = 300  # characters at most that are quoted of an agent
# amazon-ssm-agent, outofproc/master.go: its worker, or the instance, is gone.
_PROCESS_LOST = "document process failed unexpectedly"
_KILLED = (
    "The SSM agent's worker was killed, or the instance restarted or ran out of memory: look at "
    "the instance, then start a new run."
)
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
    "RateExceeded": (
        "ssm_rate_exceeded",
        "SSM cancelled the command before it began: too many wait in this account.",
        "Nothing was done on the instance. Run it again later, or with a lower --max-concurrency.",
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
_NOT_SENT = "not_sent", "SSM no longer knew the instance when the command was sent.", _NETWORK
_STILL_RUNNING = "The command ended while this instance was still {}."
_INTERRUPTED = (
    "interrupted",
    "The command was interrupted: the instance or its SSM agent ended meanwhile.",
    "It is not run again by itself: start a new run.",
)


MOST = 1e18  # of whatever an instance counts


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


def not_sent(instance: Instance) -> Outcome:
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
        return failed(blank(instance), otherwise or _error(*_NOT_SENT))
    status = ssm_status(invocation)
    known: Outcome = {
        **blank(instance),
        "ssm_status": status,
        "command_id": invocation.get("CommandId", ""),
    }
    if status in PENDING:
        return failed(
            known, otherwise or _error("agent_lost", _STILL_RUNNING.format(status), _NETWORK)
        )
    result, final = _result(invocation, run_id)
    if isinstance(result, InstanceResult):
        known = with_result(known, result, status)
        # The agent calls a step that was killed from without Failed or timed out (137), and the
        # step that says how the command ended comes all the same.
        ending = result.ran.ending if result.ran else ""
        late = final and status == "ExecutionTimedOut" and ending != "cancelled"
        final_status = late or status in ("Success", "Failed")
        if result.status == "failed" and final_status:
            return failed(known, reported(result, status))
        if result.status == "running" and final_status:
            return failed(known, _error(*_INTERRUPTED))
        if status == "Success" or (final_status and final):
            return {**known, "status": "succeeded", "change": result.status}
    return _unexplained(known, status, result, _printed(invocation))


def _result(
    invocation: Mapping[str, Any], run_id: str
) -> tuple[InstanceResult | ResultInvalid, bool]:
    """The result line of this run, or why there is none; and whether it is of the step that says
    how a command ended."""
    try:
        result, final = _last_result(invocation)
    except ResultInvalid as error:
        return error, False
    if result.run_id != run_id:
        return ResultInvalid(f"The instance answered for another run, {result.run_id}."), False
    return result, final


def _last_result(invocation: Mapping[str, Any]) -> tuple[InstanceResult, bool]:
    """The result of the last step that has one. Within a step the first line counts: what a
    command prints comes after ours."""
    printed = outputs(invocation)
    for output in reversed(printed[1:]):
        try:
            return parse_result(output), True
        except ResultInvalid:
            continue
    return parse_result(printed[0] if printed else ""), False


def _printed(invocation: Mapping[str, Any]) -> str:
    """The text where a result line should be: the agent's own where the step's process is gone."""
    words = [" ".join(output.split()) for output in outputs(invocation)]
    return next((each[-_WORDS:] for each in reversed(words) if each), "")


def with_result(outcome: Outcome, result: InstanceResult, status: str) -> Outcome:
    """The outcome with all that the instance says of itself; ``status`` is SSM's."""
    ran = _ran_record(result.ran) if result.ran else None
    if ran and ran["ending"] == "interrupted" and status == "Cancelled":
        ran["ending"] = "cancelled"  # the agent kills, and the instance cannot know why
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
        "ran": ran,
    }


def _ran_record(ran: CommandOutcome) -> CommandOutcomeRecord:
    record: CommandOutcomeRecord = {**asdict(ran)}  # type: ignore[typeddict-item]
    return record


def _unexplained(
    known: Outcome, status: str, result: InstanceResult | ResultInvalid, words: str
) -> Outcome:
    """SSM says how it ended, and no result line explains it; ``words`` are all there is."""
    code, message, hint = _STATUSES.get(
        status, ("ssm_failed", f"SSM ended the command with the status {status}.", _LOGS)
    )
    if status == "Success" and isinstance(result, ResultInvalid):
        message, hint = result.message, result.hint or hint
    if status == "Failed" and words and isinstance(result, ResultInvalid):
        message = f"The step failed without a result. All there is: {words}"
    if status == "Failed" and _PROCESS_LOST in words:
        code, hint = "agent_lost", _KILLED
    if status in _SKIPPED:
        return skipped(known, _error(code, message, hint))
    return failed(known, _error(code, message, hint))


def reported(result: InstanceResult, status: str) -> ErrorRecord:
    """The error that the instance has reported; ``status`` is SSM's."""
    error = result.error or {}
    message = error.get("message") or "The instance failed without a reason."
    if error.get("code") == "interrupted" and status == "ExecutionTimedOut":
        message += f" (SSM: {status})"
    return _error(error.get("code") or "instance_failed", message, error.get("hint") or "")


def _error(code: str, message: str, hint: str) -> ErrorRecord:
    return {"code": code, "message": message, "hint": hint}


def number(stated: object) -> float:
    """The number that was stated, 0 when it is none that can be shown."""
    if isinstance(stated, int | float) and 0 <= stated < MOST:
        return float(stated)
    return 0.0


def succeeded(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome["status"] == "succeeded"]
