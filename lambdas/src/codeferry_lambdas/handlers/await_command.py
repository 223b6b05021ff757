"""await: leave the task token under the command, unless the command has ended already."""

from __future__ import annotations

from codeferry_lambdas.aws.observability import Event, entry
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.executions import complete
from codeferry_lambdas.runs.invocations import command_status, has_ended
from codeferry_lambdas.runs.ledger import Ledger


@entry
def handler(event: Event) -> None:
    """Takes ``command_id`` and ``token``. First the token, then the look: an event that
    comes between the two finds the token, one that came before shows in the status."""
    settings, command_id = Settings.from_env(), event["command_id"]
    Ledger(settings.table).set_token(command_id, event["token"])
    status = command_status(command_id)
    if has_ended(status):
        complete(event["token"], status)
