"""Starting runs: by a request, or by finding the one an upload has started."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import Interrupted, RunNotStarted
from codeferry_cli.execution import describe
from codeferry_contracts.names import SYNC
from codeferry_contracts.request import RunRequest

ARRIVAL_SECONDS = 60.0  # S3's events take a second or two, rarely more
_INTERVAL = 0.5  # seconds


def start(stage: DeployedStage, workflow: str, run_id: str, request: RunRequest) -> str:
    """Start the run and return its execution's ARN.

    Starting the same run again is the same run: Step Functions answers a repeated name
    with equal input as it did the first time, so a retried call does no harm.
    """
    answer = stage.workflow.start_execution(
        stateMachineArn=stage.state_machine_arn(workflow),
        name=run_id,
        input=json.dumps(request.to_json()),
    )
    arn: str = answer["executionArn"]
    return arn


def await_arrival(
    stage: DeployedStage,
    run_id: str,
    patience: float = ARRIVAL_SECONDS,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return when the run an upload starts exists.

    Raises RunNotStarted after ``patience``, Interrupted on Ctrl-C: it may start all the same.
    """
    deadline = clock() + patience
    look = f"Look later: ferry status {run_id}{stage.option()}"
    try:
        while not _exists(stage, run_id):
            if clock() >= deadline:
                raise RunNotStarted(
                    f"The upload arrived, but within {patience:g} s no run {run_id} was started.",
                    hint=f"See what is wrong: ferry doctor{stage.option()}\n{look}",
                    details={"run_id": run_id},
                )
            sleep(_INTERVAL)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"Stopped waiting. The upload is complete and starts the run {run_id}.",
            hint=look,
            details={"run_id": run_id},
        ) from stop


def _exists(stage: DeployedStage, run_id: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        describe(stage, SYNC, run_id)  # what an upload starts
    except ClientError as error:
        if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
            return False
        raise
    return True
