"""await: leave the task token under the command, unless the command has ended already."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.observability import Event, entry, logger
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.outcomes import PENDING

_PAST = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")


@entry
def handler(event: Event) -> None:
    """Takes ``command_id`` and ``token``. First the token, then the look: an event that
    comes between the two finds the token, one that came before shows in the status."""
    settings, command_id = Settings.from_env(), event["command_id"]
    Ledger(settings.table).set_token(command_id, event["token"])
    status = command_status(command_id)
    if has_ended(status):
        complete(event["token"], status)


def command_status(command_id: str) -> str:
    """The command's status; ``Pending`` while SSM does not show it yet, which is normal for
    some seconds after SendCommand."""
    try:
        commands: Any = clients.ssm().list_commands(CommandId=command_id)["Commands"]
    except clients.ssm().exceptions.InvalidCommandId:
        return "Pending"
    return commands[0]["Status"] if commands else "Pending"


def has_ended(status: str) -> bool:
    return status not in PENDING


def complete(token: str, status: str) -> None:
    """Let the workflow go on; a token that is past was answered or has timed out."""
    try:
        clients.states().send_task_success(taskToken=token, output=json.dumps({"status": status}))
    except ClientError as error:
        if error.response["Error"]["Code"] not in _PAST:
            raise
        logger.info("Nobody waits for the command any more.")
