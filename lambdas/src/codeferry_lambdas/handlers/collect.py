"""collect: what became of the instances of one batch, into the run's record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from codeferry_contracts.report import ErrorRecord, Outcome
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import read_failure
from codeferry_lambdas.aws.observability import Event, entry, logger
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet.targets import Instance
from codeferry_lambdas.runs import outcomes, rollout
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Record, Run

_PAGE = 50
SETTLING_SECONDS = (0.5, 1.0, 2.0, 4.0)  # the event may be ahead of ListCommandInvocations

Invocations = list[dict[str, Any]]


@entry
def handler(event: Event) -> None:
    """Takes ``run``, ``batch`` and, when the batch failed as a whole, its ``error``."""
    settings, run, number = Settings.from_env(), Run(**event["run"]), event["batch"]
    record, ledger = Record(settings.bucket, run.keys), Ledger(settings.table)
    plan = record.plan()
    error = read_failure(event["error"]) if "error" in event else None
    found = rollout.with_waves(plan, collect(ledger, run, number, plan.batches[number], error))
    record.write_outcomes(number, found)
    failed = sum(outcome["status"] == "failed" for outcome in found)
    ledger.set_collected(run.id, number, failed=failed, ended=error is None)


def collect(
    ledger: Ledger, run: Run, number: int, batch: Sequence[Instance], error: ErrorRecord | None
) -> list[Outcome]:
    """An outcome for every instance of the batch, whether or not a command was sent."""
    entry = ledger.batch(run.id, number)
    if entry is not None and entry.skipped:
        return [outcomes.not_sent(instance) for instance in batch]
    command_id = entry.command_id if entry else ""
    if error is not None:
        return outcomes.roll_up(batch, _whatever_came(command_id), run.id, error)
    found = settled_invocations(command_id, len(batch)) if command_id else []
    return outcomes.roll_up(batch, found, run.id)


def settled_invocations(command_id: str, expected: int) -> Invocations:
    """The invocations of a command that has ended, given some seconds to show it."""
    found = invocations(command_id)
    for pause in SETTLING_SECONDS:
        pending = any(outcomes.ssm_status(item) in outcomes.PENDING for item in found)
        if len(found) >= expected and not pending:
            break
        time.sleep(pause)
        found = invocations(command_id)
    return found


def invocations(command_id: str) -> Invocations:
    """Every invocation of the command with the first 2,500 characters of its output."""
    pages = clients.ssm().get_paginator("list_command_invocations")
    arguments: Any = {"CommandId": command_id, "Details": True}
    found: Invocations = []
    for page in pages.paginate(**arguments, PaginationConfig={"PageSize": _PAGE}):
        found.extend(dict(item) for item in page["CommandInvocations"])
    return found


def _whatever_came(command_id: str) -> Invocations:
    """The invocations of a batch that failed as a whole. When SSM is what failed, every
    instance is recorded with that first error rather than with this second one."""
    try:
        return invocations(command_id) if command_id else []
    except ClientError as error:
        logger.warning("No invocations.", extra={"code": error.response["Error"]["Code"]})
        return []
