"""The execution of a run, read from Step Functions: status, history and phases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from codeferry_cli.aws.stage import DeployedStage

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


def stop_execution(stage: DeployedStage, workflow: str, run_id: str, cause: str) -> None:
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


PHASES = ("plan", "dispatch", "apply", "verify", "return", "cleanup", "report")

# The state names of stacks/workflow/run.asl.json that do a phase's work.
_PHASE_OF_STATE = {
    "Plan": "plan",
    "Dispatch": "dispatch",
    "Await15": "apply",
    "Await60": "apply",
    "AwaitLong": "apply",
    "AwaitHourly": "apply",
    "AwaitRarely": "apply",
    "Collect": "apply",
    "CollectFailure": "apply",
    "Verify": "verify",
    "Return": "return",
    "Cleanup": "cleanup",
    "Report": "report",
}


def phase_label(phase: str, *, command: bool) -> str:
    """A phase as people read it: with a command, applying the release is the least of it."""
    return "run" if phase == "apply" and command else phase


@dataclass(frozen=True)
class Span:
    """From the first state of a phase entered to the last one left so far."""

    started: datetime
    ended: datetime | None = None


@dataclass(frozen=True)
class Timeline:
    """``spans`` by phase; ``seen`` is the id of the newest event taken in.

    A phase is over once a later one has begun: batches interleave dispatch and apply, so
    a dispatch that is over may begin again and its span grow.
    """

    spans: Mapping[str, Span]
    seen: int = 0
    last: datetime | None = None

    @property
    def current(self) -> str | None:
        """The phase the run is in, or was in last; None before the first."""
        return next(reversed(self.begun()), None)

    def begun(self) -> list[str]:
        """The phases there are so far, in their order."""
        return [phase for phase in PHASES if phase in self.spans]

    def over(self) -> list[str]:
        """The phases that a later one has followed."""
        return self.begun()[:-1]

    def seconds(self, phase: str) -> float:
        """How long a phase took, or has taken as far as is known."""
        span = self.spans[phase]
        ended = span.ended or self._next_start(phase) or self.last or span.started
        return max(0.0, (ended - span.started).total_seconds())

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"phase": phase, "seconds": round(self.seconds(phase), 3)} for phase in self.begun()
        ]

    def _next_start(self, phase: str) -> datetime | None:
        later = PHASES[PHASES.index(phase) + 1 :]
        return next((self.spans[name].started for name in later if name in self.spans), None)


NOTHING_YET = Timeline(spans={})


def advance(timeline: Timeline, events: Iterable[Mapping[str, Any]]) -> Timeline:
    """The timeline with further events of GetExecutionHistory, oldest first.

    An event that was taken in before changes nothing.
    """
    for event in events:
        if event["id"] > timeline.seen:
            spans = _with_event(timeline.spans, event)
            timeline = replace(timeline, spans=spans, seen=event["id"], last=event["timestamp"])
    return timeline


def _with_event(spans: Mapping[str, Span], event: Mapping[str, Any]) -> Mapping[str, Span]:
    if entered := event.get("stateEnteredEventDetails"):
        phase = _PHASE_OF_STATE.get(entered["name"])
        if phase and phase not in spans:
            return {**spans, phase: Span(started=event["timestamp"])}
    elif exited := event.get("stateExitedEventDetails"):
        phase = _PHASE_OF_STATE.get(exited["name"])
        if phase and phase in spans:
            return {**spans, phase: replace(spans[phase], ended=event["timestamp"])}
    return spans
