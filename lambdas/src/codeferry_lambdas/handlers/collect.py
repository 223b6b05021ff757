"""collect: write the outcome of each instance of a batch into the run's record."""

from __future__ import annotations

from collections.abc import Sequence

from codeferry_contracts.report import ErrorRecord, Outcome
from codeferry_lambdas.aws.errors import read_failure
from codeferry_lambdas.aws.observability import Event, entry
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet.targets import Instance
from codeferry_lambdas.runs import outcomes, rollout
from codeferry_lambdas.runs.invocations import invocations_so_far, settled_invocations
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Record, Run


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
        return outcomes.roll_up(batch, invocations_so_far(command_id), run.id, error)
    found = settled_invocations(command_id, len(batch)) if command_id else []
    return outcomes.roll_up(batch, found, run.id)
