"""Commands, their invocations and their steps, as the scheduler changes them.

Everything here is guarded by the scheduler's lock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from codeferry_local.ssm.content import Content
from codeferry_local.ssm.executors import Interrupt
from codeferry_local.ssm.status import ERRORS, Detail
from codeferry_local.ssm.timers import Timer

# What a step reports before it ran.
NOT_RUN = -1


@dataclass(kw_only=True)
class StepRecord:
    """One step of an invocation; ``output`` is both outputs as the agent tells them in one."""

    name: str
    action: str
    detail: Detail = Detail.PENDING
    exit_code: int = NOT_RUN
    stdout: str = ""
    stderr: str = ""
    output: str = ""
    started: datetime | None = None
    finished: datetime | None = None


@dataclass(kw_only=True, eq=False)
class Invocation:
    """One command on one instance; ``trace`` is what its agent said of the document as a whole."""

    command: Command
    instance_id: str
    instance_name: str
    steps: list[StepRecord]
    detail: Detail = Detail.PENDING
    running: bool = False
    slowed: bool = False
    trace: str = ""
    interrupt: Interrupt = field(default_factory=Interrupt)
    delivery: Timer | None = None


@dataclass(kw_only=True, eq=False)
class Command:
    """One SendCommand: what was asked (as it was asked) and how far it is."""

    id: str
    sequence: int
    document_name: str
    document_version: str
    content: Content
    document: Mapping[str, Any]
    request: Mapping[str, Any]
    bound: Mapping[str, Any]
    requested: datetime
    expires: datetime
    timeout_seconds: int
    execution_seconds: int
    max_concurrency: int
    max_errors: int
    invocations: dict[str, Invocation] = field(default_factory=dict)
    pending: deque[Invocation] = field(default_factory=deque)
    counts: Counter[Detail] = field(default_factory=Counter)
    detail: Detail = Detail.PENDING
    active: int = 0
    cancelled: bool = False
    pumping: bool = False
    expiry: Timer | None = None

    @property
    def completed(self) -> int:
        """How many invocations have ended."""
        return sum(self.counts.values())

    @property
    def errors(self) -> int:
        """How many count against MaxErrors."""
        return sum(self.counts[kind] for kind in ERRORS)

    @property
    def bare_document_name(self) -> str:
        """The document's name without what an ARN puts before it."""
        return self.document_name.rpartition("document/")[2]


def invocation_of(command: Command, instance_id: str, name: str) -> Invocation:
    """A pending invocation of the command."""
    steps = [StepRecord(name=step.name, action=step.action) for step in command.content.steps]
    return Invocation(command=command, instance_id=instance_id, instance_name=name, steps=steps)
