"""Commands, their invocations and their steps, and the statuses of each.

Everything that changes is guarded by the scheduler's lock. Words and rules from "Understanding
command statuses" in the Systems Manager user guide (monitor-commands) and from ``StatusDetails`` in
the API reference.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from codeferry_local.ssm.documents.content import Content
from codeferry_local.ssm.instances import Interrupt
from codeferry_local.ssm.timers import Timer

# What a step reports before it ran.
NOT_RUN = -1


class Detail(StrEnum):
    """``StatusDetails`` of a command, an invocation or a step."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    DELAYED = "Delayed"
    CANCELLING = "Cancelling"
    SUCCESS = "Success"
    SKIPPED = "Skipped"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    TERMINATED = "Terminated"
    DELIVERY_TIMED_OUT = "DeliveryTimedOut"
    EXECUTION_TIMED_OUT = "ExecutionTimedOut"
    UNDELIVERABLE = "Undeliverable"
    INVALID_PLATFORM = "InvalidPlatform"
    ACCESS_DENIED = "AccessDenied"
    INCOMPLETE = "Incomplete"
    NO_INSTANCES_IN_TAG = "NoInstancesInTag"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows this status."""
        return self not in _ON_THE_WAY

    @property
    def status(self) -> str:
        """The coarser ``Status``, which has fewer values than ``StatusDetails``."""
        return _COARSE.get(self, self.value)


_ON_THE_WAY = frozenset({Detail.PENDING, Detail.IN_PROGRESS, Detail.DELAYED, Detail.CANCELLING})

_COARSE = {
    # Of steps only. The agent replies "Skipped"; CommandPluginStatus has no such value, and the
    # service shows these steps as succeeded.
    Detail.SKIPPED: "Success",
    Detail.DELIVERY_TIMED_OUT: "TimedOut",
    Detail.EXECUTION_TIMED_OUT: "TimedOut",
    Detail.TERMINATED: "Cancelled",
    Detail.UNDELIVERABLE: "Failed",
    Detail.INVALID_PLATFORM: "Failed",
    Detail.ACCESS_DENIED: "Failed",
    Detail.INCOMPLETE: "Failed",
    Detail.NO_INSTANCES_IN_TAG: "Success",
}

# Only these count against MaxErrors and in ErrorCount.
ERRORS = (Detail.FAILED, Detail.EXECUTION_TIMED_OUT)

# These fail a command only when every invocation has one of them.
_NEVER_REACHED = (Detail.UNDELIVERABLE, Detail.INVALID_PLATFORM, Detail.ACCESS_DENIED)


def rolled_up(counts: Mapping[Detail, int], *, max_errors: int, cancelled: bool) -> Detail:
    """The status of a command whose invocations all ended as ``counts`` says.

    ``max_errors`` is a number of invocations; ``cancelled`` says that the whole
    command was cancelled, not some of its invocations. "The value of max-errors or
    more" fails a command, and nothing fails without one error.
    """
    total = sum(counts.values())
    if not total:
        return Detail.NO_INSTANCES_IN_TAG
    lost = counts.get(Detail.CANCELLED, 0)
    if lost and (cancelled or lost == total):
        return Detail.CANCELLED
    if sum(counts.get(kind, 0) for kind in _NEVER_REACHED) == total:
        return Detail.FAILED
    return _by_errors(counts, max(max_errors, 1))


def _by_errors(counts: Mapping[Detail, int], threshold: int) -> Detail:
    if sum(counts.get(kind, 0) for kind in ERRORS) >= threshold:
        return _worst(counts)
    if counts.get(Detail.DELIVERY_TIMED_OUT, 0) >= threshold:
        return Detail.DELIVERY_TIMED_OUT
    harmless = (Detail.SUCCESS, *_NEVER_REACHED)
    if any(number for kind, number in counts.items() if kind not in harmless):
        return Detail.INCOMPLETE
    return Detail.SUCCESS


def _worst(counts: Mapping[Detail, int]) -> Detail:
    return Detail.FAILED if counts.get(Detail.FAILED, 0) else Detail.EXECUTION_TIMED_OUT


def absolute(limit: str, total: int, *, at_least: int) -> int:
    """MaxConcurrency or MaxErrors (``"10"`` or ``"10%"`` of ``total``) as a number."""
    if not limit.endswith("%"):
        return int(limit)
    return max(at_least, total * int(limit[:-1]) // 100)


@dataclass(kw_only=True)
class StepRecord:
    """One step of an invocation; ``output`` is both outputs as the agent reports them in one."""

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


def iso_time(moment: datetime) -> str:
    """A moment as the API and its events carry it: ISO 8601, milliseconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
