"""Tells the event sink of each change of status, as far as the faults let it, and of starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codeferry_local.ssm.commands import Command, Invocation
from codeferry_local.ssm.events import (
    COMMAND_EVENT,
    INSTANCE_EVENT,
    INVOCATION_EVENT,
    Event,
    EventSink,
    event_time,
    status_event,
)
from codeferry_local.ssm.faults import Faults

Later = Callable[[float, Callable[[], None]], Any]


class Announcer:
    """Makes the events of Run Command; ``later(seconds, callback)`` delays one."""

    def __init__(
        self, sink: EventSink, faults: Faults, *, account: str, region: str, time_scale: float
    ) -> None:
        self._sink = sink
        self._faults = faults
        self._account = account
        self._region = region
        self._time_scale = time_scale

    def announce(self, command: Command, invocation: Invocation | None, later: Later) -> None:
        """Deliver the new status of the command, or of its invocation."""
        plan = self._faults.plan
        if plan.events == "suppress":
            return
        event = self._event(command, invocation)
        if plan.event_delay:
            later(plan.event_delay * self._time_scale, lambda: self._sink.deliver(event))
        else:
            self._sink.deliver(event)

    def announce_start(self, instance_id: str) -> None:
        """Deliver that an instance is running, as EC2 does."""
        detail = {"instance-id": instance_id, "state": "running"}
        self._sink.deliver(self._wrapped(INSTANCE_EVENT, detail, [instance_id], "aws.ec2"))

    def _event(self, command: Command, invocation: Invocation | None) -> Event:
        if invocation is None:
            return self._wrapped(COMMAND_EVENT, _command_detail(command), list(command.invocations))
        detail = _common_detail(command) | {
            "status": invocation.detail.status,
            "instance-id": invocation.instance_id,
        }
        return self._wrapped(INVOCATION_EVENT, detail, [invocation.instance_id])

    def _wrapped(
        self, kind: str, detail: dict[str, Any], instance_ids: list[str], source: str = "aws.ssm"
    ) -> Event:
        return status_event(
            kind,
            detail,
            instance_ids,
            account=self._account,
            region=self._region,
            source=source,
        )


def _common_detail(command: Command) -> dict[str, Any]:
    return {
        "command-id": command.id,
        "document-name": command.document_name,
        "requested-date-time": event_time(command.requested),
    }


def _command_detail(command: Command) -> dict[str, Any]:
    return _common_detail(command) | {
        "status": command.detail.status,
        "expire-after": event_time(command.expires),
        "parameters": command.request.get("Parameters", {}),
    }
