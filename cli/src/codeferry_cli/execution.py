"""The execution of a run, read from Step Functions: its status and its history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.phases import Timeline, advance

RUNNING = ("RUNNING", "PENDING_REDRIVE")

_HISTORY_PAGE = 200


@dataclass(frozen=True)
class Execution:
    """A run's execution as DescribeExecution gives it; ``status`` is Step Functions' own."""

    workflow: str
    run_id: str
    status: str
    started: datetime
    stopped: datetime | None = None
    error: str = ""
    cause: str = ""
    input: str = "{}"

    @property
    def running(self) -> bool:
        return self.status in RUNNING


def describe(stage: DeployedStage, workflow: str, run_id: str) -> Execution:
    """The execution of a run; the ClientError ``ExecutionDoesNotExist`` when there is none."""
    arn = stage.execution_arn(workflow, run_id)
    found = stage.workflow.describe_execution(executionArn=arn)
    return Execution(
        workflow=workflow,
        run_id=run_id,
        status=found["status"],
        started=found["startDate"],
        stopped=found.get("stopDate"),
        error=found.get("error") or "",
        cause=found.get("cause") or "",
        input=found.get("input") or "{}",
    )


def stop(stage: DeployedStage, workflow: str, run_id: str, cause: str) -> None:
    """Stop the run; one that has ended already stays as it is."""
    stage.workflow.stop_execution(
        executionArn=stage.execution_arn(workflow, run_id), error="Cancelled", cause=cause
    )


def read_history(stage: DeployedStage, workflow: str, run_id: str, timeline: Timeline) -> Timeline:
    """The timeline with the events that are new.

    Newest first and only down to the newest known one, so that a poll costs one request
    however long the history has grown.
    """
    pages = stage.workflow.get_paginator("get_execution_history").paginate(
        executionArn=stage.execution_arn(workflow, run_id),
        reverseOrder=True,
        includeExecutionData=False,
        PaginationConfig={"PageSize": _HISTORY_PAGE},
    )
    fresh: list[Mapping[str, Any]] = []
    for page in pages:
        fresh += [event for event in page["events"] if event["id"] > timeline.seen]
        if not page["events"] or page["events"][-1]["id"] <= timeline.seen + 1:
            break
    return advance(timeline, reversed(fresh))
