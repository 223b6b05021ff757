"""dispatch: one SendCommand for one batch, at most once.

SendCommand has no client token. The batch is reserved first; who finds a reservation
without a command looks for the command before sending another. Should that fail too,
the instance answers the second command from its record of the run."""

from __future__ import annotations

from typing import Any

from codeferry_lambdas.aws.errors import RunClosed
from codeferry_lambdas.aws.observability import Event, entry, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.releases import archives, signatures
from codeferry_lambdas.runs.cleanup import stop_if_closed
from codeferry_lambdas.runs.command import known_command, send_batch
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Plan, Record, Run


@entry
@phase("dispatch")
def handler(event: Event) -> dict[str, Any]:
    """Takes ``run`` and ``batch``; returns the command's ``id`` and whether one was ``sent``."""
    settings = Settings.from_env(None, "AGENT_BUCKET")
    run, number = Run(**event["run"]), event["batch"]
    ledger, record = Ledger(settings.table), Record(settings.bucket, run.keys)
    plan = record.plan()
    command_id = known_command(ledger, plan, run, number)
    if command_id is None:
        failed = count_failed(plan, ledger, run)
        if plan.budget is not None and failed > plan.budget:
            ledger.set_skipped(run.id, number)
            return {"id": "", "sent": False}
        if ledger.is_closed(run.id):
            raise RunClosed("The run was ended before this batch was sent.")
        archives.require_still_newest(settings.table, plan.archive)
        signatures.require_asking(settings, plan)
        command_id = send_batch(settings, plan, run, number, failed)
    ledger.set_command(run.id, number, command_id)
    if command_id:
        record.write_command(number, command_id, settings.log_group, plan.batches[number])
        stop_if_closed(ledger, run.id, command_id)
    return {"id": command_id, "sent": bool(command_id)}


def count_failed(plan: Plan, ledger: Ledger, run: Run) -> int:
    """The number of instances that have failed so far: unreachable ones and those collected.
    Unreachable ones say nothing about a release, so they do not stop a roll-out."""
    absent = 0 if plan.rollout else len(plan.unreachable)
    return absent + sum(entry.failed or 0 for entry in ledger.batches(run.id))
