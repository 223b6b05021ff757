"""The statuses of commands and invocations, and how a command's own follows from them.

Words and rules from "Understanding command statuses" in the Systems Manager user
guide (monitor-commands) and from ``StatusDetails`` in the API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


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
    return _judged(counts, max(max_errors, 1))


def _judged(counts: Mapping[Detail, int], threshold: int) -> Detail:
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
