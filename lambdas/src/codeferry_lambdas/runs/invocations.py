"""Commands of Run Command as SSM shows them: a status, and an invocation for each instance."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import code_of
from codeferry_lambdas.aws.observability import logger

_PAGE = 50
SETTLING_SECONDS = (0.5, 1.0, 2.0, 4.0)  # the event may be ahead of ListCommandInvocations
Invocations = list[dict[str, Any]]
PENDING = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})


def settled_invocations(command_id: str, expected: int) -> Invocations:
    """The invocations of a command that has ended, given some seconds to show it."""
    found = invocations(command_id)
    for pause in SETTLING_SECONDS:
        if len(found) >= expected and not any_pending(found):
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


def invocations_so_far(command_id: str) -> Invocations:
    """The invocations of a batch that failed as a whole. When SSM is what failed, every
    instance is recorded with that first error rather than with this second one."""
    try:
        return invocations(command_id) if command_id else []
    except ClientError as error:
        logger.warning("No invocations.", extra={"code": code_of(error)})
        return []


def any_pending(found: Iterable[Mapping[str, Any]]) -> bool:
    return any(ssm_status(item) in PENDING for item in found)


def ssm_status(invocation: Mapping[str, Any]) -> str:
    """StatusDetails, which the console spells with spaces and the API without."""
    return str(invocation.get("StatusDetails") or invocation.get("Status", "")).replace(" ", "")


def outputs(invocation: Mapping[str, Any]) -> list[str]:
    """The output of each step, in order."""
    return [plugin.get("Output") or "" for plugin in invocation.get("CommandPlugins", ())]


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
