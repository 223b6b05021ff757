"""dispatch: one SendCommand for one batch, at most once.

SendCommand has no client token. The batch is reserved first; who finds a reservation
without a command looks for the command before sending another. Should that fail too,
the instance answers the second command from its record of the run."""

from __future__ import annotations

from typing import Any

from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import AwsRefused, RunClosed
from codeferry_lambdas.aws.observability import Event, entry, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.releases import archives, signatures
from codeferry_lambdas.runs.command import command_arguments, find_command, send_command
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Plan, Record, Run


@entry
@phase("dispatch")
def handler(event: Event) -> dict[str, Any]:
    """Takes ``run`` and ``batch``; returns the command's ``id`` and whether one was ``sent``."""
    settings = Settings.from_env(None, "AGENT_BUCKET")
    run, number = Run(**event["run"]), event["batch"]
    ledger, plan = Ledger(settings.table), Record(settings.bucket, run.keys).plan()
    command_id = _known_command(ledger, plan, run, number)
    if command_id is None:
        failed = count_failed(plan, ledger, run)
        if plan.budget is not None and failed > plan.budget:
            ledger.set_skipped(run.id, number)
            return {"id": "", "sent": False}
        command_id = _send(settings, plan, run, number, failed)
    ledger.set_command(run.id, number, command_id)
    if command_id:
        _write_command(settings, plan, run, number, command_id)
    _stop_if_closed(ledger, run, command_id)
    return {"id": command_id, "sent": bool(command_id)}


def _write_command(settings: Settings, plan: Plan, run: Run, number: int, command_id: str) -> None:
    """Who follows the run finds the command's output by this."""
    ids = [instance.instance_id for instance in plan.batches[number]]
    Record(settings.bucket, run.keys).write_command(
        number, {"command_id": command_id, "log_group": settings.log_group, "instances": ids}
    )


def _known_command(ledger: Ledger, plan: Plan, run: Run, number: int) -> str | None:
    """The batch's command when it was sent before, as the ledger or SSM remembers it."""
    earlier = ledger.reserve(run.id, number)
    if earlier is None:
        return None
    return earlier.command_id or find_command(plan, run, number, earlier)


def count_failed(plan: Plan, ledger: Ledger, run: Run) -> int:
    """How many instances have failed so far: unreachable ones and those collected. Unreachable
    ones say nothing about a release, so they do not stop a roll-out."""
    absent = 0 if plan.rollout else len(plan.unreachable)
    return absent + sum(entry.failed or 0 for entry in ledger.batches(run.id))


def _send(settings: Settings, plan: Plan, run: Run, number: int, failed: int) -> str:
    """Send to the batch, then to those of it that SSM knows; empty when that is nobody."""
    if Ledger(settings.table).is_closed(run.id):
        raise RunClosed("The run was ended before this batch was sent.")
    archives.require_still_newest(settings.table, plan.archive)
    signatures.require_asking(settings, plan)
    ids = [instance.instance_id for instance in plan.batches[number]]
    arguments = command_arguments(settings, plan, run, failed)
    try:
        return send_command(ids, arguments)
    except clients.sending_ssm().exceptions.InvalidInstanceId:
        # SSM refuses the whole command for one instance that left since plan.
        agents = targets.find_agents(ids)
    online = [i for i in ids if i in agents and agents[i].ping == "Online"]
    if online == ids:
        raise AwsRefused("SSM takes one of the instances for invalid, but knows all of them.")
    return send_command(online, arguments) if online else ""


def _stop_if_closed(ledger: Ledger, run: Run, command_id: str) -> None:
    """Cleanup closes the run, then cancels the commands it knows; here the command is made
    known, then the run looked at. One of the two sees the other."""
    if command_id and ledger.is_closed(run.id):
        clients.ssm().cancel_command(CommandId=command_id)
        raise RunClosed("The run was ended while this batch was being sent.")
