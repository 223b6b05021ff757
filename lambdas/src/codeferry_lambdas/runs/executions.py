"""Executions of the workflow: started once, and let go on when a command has ended."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import code_of
from codeferry_lambdas.aws.observability import logger

_PAST = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")


def complete(token: str, status: str) -> None:
    """Let the workflow go on; a token that is past was answered or has timed out."""
    try:
        clients.states().send_task_success(taskToken=token, output=json.dumps({"status": status}))
    except ClientError as error:
        if code_of(error) not in _PAST:
            raise
        logger.info("Nobody waits for the command any more.")


def start_once(arn: str, run_id: str, request: dict[str, Any]) -> None:
    """Start the run unless it was: a redelivered event has the same name."""
    try:
        clients.states().start_execution(
            stateMachineArn=arn, name=run_id, input=json.dumps(request)
        )
    except ClientError as error:
        if code_of(error) != "ExecutionAlreadyExists":
            raise
        logger.info("The run exists: its event came again.", extra={"run_id": run_id})
