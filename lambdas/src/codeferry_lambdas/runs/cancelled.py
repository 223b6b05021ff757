"""Ask the instances of a cancelled run, by a command of its own, what it has left there.

After a cancel no later step of the run's document runs, so what it would have printed is not in
its output. The instances have it on record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from codeferry_contracts.errors import ResultInvalid
from codeferry_contracts.names import RECORD
from codeferry_contracts.parameters import PROJECT_PARAMETER, RUN_ID_PARAMETER
from codeferry_contracts.report import ErrorRecord, Outcome
from codeferry_contracts.result import parse_result
from codeferry_lambdas.aws.observability import logger
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet.targets import Instance
from codeferry_lambdas.runs import outcomes, rollout
from codeferry_lambdas.runs.command import send_command
from codeferry_lambdas.runs.invocations import (
    Invocations,
    any_pending,
    invocations,
    outputs,
    ssm_status,
)
from codeferry_lambdas.runs.ledger import BatchEntry, Ledger
from codeferry_lambdas.runs.record import Plan, Record, Run

NO_RECORD, RUNS = "No record.", "It still runs."  # as stacks/documents/record.sh says it
_DELIVERY_SECONDS = 30  # the least that SendCommand takes
ENDING_SECONDS = 20.0  # for the cancelled commands to end
ANSWER_SECONDS = 75.0  # for the instances to be reached, and to end what was started
_PAUSE = 1.0
_CANCELLED: ErrorRecord = {"code": "cancelled", "message": "cancelled", "hint": ""}
_UNTOUCHED: ErrorRecord = {
    "code": "cancelled",
    "message": "Cancelled before it changed anything here.",
    "hint": "",
}
_UNKNOWN: ErrorRecord = {
    "code": "unknown",
    "message": "The instance did not answer after the cancel: what it has is not known.",
    "hint": "Check its SSM agent; once it is back, a push or a rollback says what it has.",
}
_RUNS: ErrorRecord = {
    "code": "still_running",
    "message": "What the run has started still runs, 10 s after it was cancelled.",
    "hint": "It is killed five seconds after a cancel; what stays, waits for a disk.",
}


def record_outcomes(settings: Settings, run: Run) -> None:
    """Record what has become of every instance of the batches that a cancel has ended."""
    record, ledger = Record(settings.bucket, run.keys), Ledger(settings.table)
    plan = record.find_plan()
    if plan is None:
        return
    cut_short = [e for e in ledger.batches(run.id) if e.command_id and not e.ended]
    if not cut_short:
        return
    deadline = time.monotonic() + ENDING_SECONDS  # one whose instance is away never ends
    for entry in cut_short:
        _answers(entry.command_id, 0, deadline)
    asked = {entry.number: _send(settings, plan, run, entry) for entry in cut_short}
    deadline = time.monotonic() + ANSWER_SECONDS
    for entry in cut_short:
        batch, command_id = plan.batches[entry.number], asked[entry.number]
        answers = _answers(command_id, len(batch), deadline) if command_id else []
        found = [_outcome(i, _printed(answers, i), run.id, entry.command_id) for i in batch]
        record.write_outcomes(entry.number, rollout.with_waves(plan, found))


def _send(settings: Settings, plan: Plan, run: Run, entry: BatchEntry) -> str:
    """The id of the command that asks; empty where none could be sent."""
    arguments = {
        "DocumentName": settings.stage.document(RECORD),
        "Comment": run.id,
        "TimeoutSeconds": _DELIVERY_SECONDS,
        "MaxErrors": "100%",
        "Parameters": {RUN_ID_PARAMETER: [run.id], PROJECT_PARAMETER: [plan.project]},
    }
    try:
        return send_command([i.instance_id for i in plan.batches[entry.number]], arguments)
    except (ClientError, BotoCoreError) as error:
        logger.warning("The instances could not be asked.", exc_info=error)
        return ""


def _answers(command_id: str, expected: int, deadline: float) -> Invocations:
    """The invocations, once as many as expected have ended; those there are by the deadline."""
    while True:
        found = _invocations(command_id)
        ended = len(found) >= expected and not any_pending(found)
        if ended or time.monotonic() >= deadline:
            return found
        time.sleep(_PAUSE)


def _invocations(command_id: str) -> Invocations:
    try:
        return invocations(command_id)
    except (ClientError, BotoCoreError) as error:
        logger.warning("No invocations.", exc_info=error)
        return []


def _printed(answers: Sequence[Mapping[str, Any]], instance: Instance) -> str | None:
    """The output of the instance; None where it has not answered."""
    for answer in answers:
        if answer["InstanceId"] == instance.instance_id:
            if ssm_status(answer) != "Success":
                return None
            return "\n".join(outputs(answer))
    return None


def _outcome(instance: Instance, printed: str | None, run_id: str, command_id: str) -> Outcome:
    known: Outcome = {
        **outcomes.blank(instance),
        "ssm_status": "Cancelled",
        "command_id": command_id,
    }
    if printed is None:
        return outcomes.failed(known, _UNKNOWN)
    try:
        result = parse_result(printed)
    except ResultInvalid:
        untouched = NO_RECORD in printed.splitlines()
        return outcomes.failed(known, _UNTOUCHED if untouched else _UNKNOWN)
    if RUNS in printed.splitlines():
        return outcomes.failed(outcomes.with_result(known, result, "Cancelled"), _RUNS)
    if result.run_id != run_id:
        return outcomes.failed(known, _UNKNOWN)
    known = outcomes.with_result(known, result, "Cancelled")
    if result.status not in ("failed", "running"):
        return {**known, "status": "succeeded", "change": result.status}
    error = result.error or {}
    # The instance cannot tell a cancel that kills from another end; we know that it was one.
    if result.status == "running" or error.get("code") in ("cancelled", "interrupted"):
        return outcomes.failed(known, _CANCELLED)
    return outcomes.failed(known, outcomes.reported(result, "Cancelled"))
