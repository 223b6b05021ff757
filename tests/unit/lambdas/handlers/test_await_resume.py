"""await and resume: the two ends of a task token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.stub import Stubber

from codeferry_lambdas.handlers import await_command, resume
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Run
from tests.unit.lambdas.factories import event

COMMAND = "e8d3c0e4-71f7-4491-898f-c9b35bee5f3b"


def awaited(run: Run) -> None:
    await_command.handler(event(run, batch=0, command_id=COMMAND, token="token"), None)


def listed(ssm: Stubber, *statuses: str) -> None:
    found = [{"CommandId": COMMAND, "Status": status} for status in statuses]
    ssm.add_response("list_commands", {"Commands": found}, {"CommandId": COMMAND})


def completed(states: Stubber, status: str) -> None:
    states.add_response(
        "send_task_success", {}, {"taskToken": "token", "output": f'{{"status": "{status}"}}'}
    )


@pytest.mark.parametrize("statuses", [(), ("Pending",), ("InProgress",), ("Cancelling",)])
def test_running_command(
    ssm: Stubber, states: Stubber, run: Run, ledger: Ledger, statuses: tuple[str, ...]
) -> None:
    """While the command runs, or is not shown yet, the token waits under it."""
    listed(ssm, *statuses)
    awaited(run)
    assert ledger.token(COMMAND) == "token"


@pytest.mark.parametrize("status", ["Success", "Failed", "TimedOut", "Cancelled"])
def test_ended_command(
    ssm: Stubber, states: Stubber, run: Run, ledger: Ledger, status: str
) -> None:
    """A command that has ended already lets the workflow go on at once."""
    listed(ssm, status)
    completed(states, status)
    awaited(run)


def test_unknown_command_is_not_yet_known(ssm: Stubber, states: Stubber, run: Run) -> None:
    """SSM's denial of a command just sent is no failure."""
    ssm.add_client_error("list_commands", "InvalidCommandId")
    awaited(run)


def test_event_completes_the_token(
    states: Stubber, ledger: Ledger, aws_event: Callable[[str], Any]
) -> None:
    """The status event of a command completes the token that waits for it."""
    ledger.set_token(COMMAND, "token")
    completed(states, "Success")
    resume.handler(aws_event("ssm-command-status"), None)


@pytest.mark.parametrize("status", ["Pending", "InProgress"])
def test_event_of_a_running_command(
    states: Stubber, ledger: Ledger, aws_event: Callable[[str], Any], status: str
) -> None:
    """An event that says it still runs completes nothing."""
    ledger.set_token(COMMAND, "token")
    running = aws_event("ssm-command-status")
    running["detail"]["status"] = status
    resume.handler(running, None)


def test_event_of_a_foreign_command(
    states: Stubber, ledger: Ledger, aws_event: Callable[[str], Any]
) -> None:
    """An event of a command nobody waits for is ignored."""
    resume.handler(aws_event("ssm-command-status"), None)


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_late_event(
    states: Stubber, ledger: Ledger, aws_event: Callable[[str], Any], code: str
) -> None:
    """An event for a token that is past is fine."""
    ledger.set_token(COMMAND, "token")
    states.add_client_error("send_task_success", code)
    resume.handler(aws_event("ssm-command-status"), None)


def test_refused_token_is_an_error(
    states: Stubber, ledger: Ledger, aws_event: Callable[[str], Any]
) -> None:
    """Any other refusal fails the function, so that the event is delivered again."""
    ledger.set_token(COMMAND, "token")
    states.add_client_error("send_task_success", "AccessDeniedException")
    with pytest.raises(Exception, match="SendTaskSuccess"):
        resume.handler(aws_event("ssm-command-status"), None)
