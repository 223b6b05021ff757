"""Runs of the real definition with canned answers, and what can be seen of them."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Workflow:
    states: Any
    arn: str
    calls: Path
    rollback: str


@dataclass(frozen=True)
class Ended:
    """An execution that is over: its status, error and cause, and its calls in order."""

    status: str
    error: str
    cause: str
    output: Any
    calls: list[tuple[str, Any]]
    events: list[Any]

    @property
    def called(self) -> list[str]:
        return [name for name, _ in self.calls]

    def last(self, name: str) -> Any:
        """The event of the last call of a function."""
        return [event for called, event in self.calls if called == name][-1]


@dataclass
class Canned:
    workflow: Workflow
    answers: dict[str, list[Any]] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: f"run-{uuid.uuid4().hex[:12]}")

    def answer(self, name: str, *actions: dict[str, Any]) -> Canned:
        self.answers[name] = list(actions)
        return self

    def rollback_fails(self) -> Canned:
        """The run gets a name for which the machine that stands for rollback fails."""
        self.run_id = f"lost-{self.run_id}"
        return self

    def returned_input(self) -> Any:
        """The input of the rollback that this run has started."""
        arn = self.workflow.rollback.replace(":stateMachine:", ":execution:")
        found = self.workflow.states.describe_execution(executionArn=f"{arn}:back-{self.run_id}")
        return json.loads(found["input"])

    def run(self, request: Any = None, seconds: float = 60) -> Ended:
        """Start an execution and wait until it is over, at most ``seconds``."""
        directory = self.workflow.calls / self.run_id
        directory.mkdir()
        (directory / "canned").write_text(json.dumps(self.answers))
        states = self.workflow.states
        arn = states.start_execution(
            stateMachineArn=self.workflow.arn,
            name=self.run_id,
            input=json.dumps({"any": "request"} if request is None else request),
        )["executionArn"]
        return _ended(states, arn, directory, seconds)


def _ended(states: Any, arn: str, directory: Path, seconds: float) -> Ended:
    deadline = time.monotonic() + seconds
    execution = states.describe_execution(executionArn=arn)
    while execution["status"] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.05)
        execution = states.describe_execution(executionArn=arn)
    history = states.get_execution_history(executionArn=arn, maxResults=1000)["events"]
    notes = sorted(directory.glob("[0-9]*"), key=lambda note: int(note.name.split("-")[0]))
    return Ended(
        status=execution["status"],
        error=execution.get("error", ""),
        cause=execution.get("cause", ""),
        output=json.loads(execution.get("output") or "null"),
        calls=[(note.name.split("-")[1], json.loads(note.read_text())) for note in notes],
        events=history,
    )
