"""Status-change events, delivered to the rules of the default bus as EventBridge would.

PutEvents refuses a source ``aws.…``, here as on AWS, so the sink asks EventBridge
which rules match (TestEventPattern) and invokes their Lambda targets itself.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from codeferry_local.ssm.commands import Command, Invocation, iso_time
from codeferry_local.ssm.faults import Faults

logger = logging.getLogger(__name__)

COMMAND_EVENT = "EC2 Command Status-change Notification"
INVOCATION_EVENT = "EC2 Command Invocation Status-change Notification"
INSTANCE_EVENT = "EC2 Instance State-change Notification"
_SOURCES = ("aws.ssm", "aws.ec2")

Event = dict[str, Any]
Later = Callable[[float, Callable[[], None]], Any]


class EventSink(Protocol):
    """Takes events; never raises, never blocks."""

    def deliver(self, event: Event) -> None:
        """Deliver soon."""
        ...

    def stop(self) -> None:
        """Deliver what is queued, then end."""
        ...


@dataclass(frozen=True, kw_only=True)
class Announcer:
    """Delivers the events of Run Command to ``sink``, if there is one, as far as ``faults`` let it.

    Their details are as the service's user guide shows them.
    """

    sink: EventSink | None
    faults: Faults
    account: str
    region: str
    time_scale: float

    def announce(self, command: Command, invocation: Invocation | None, later: Later) -> None:
        """Deliver the new status of the command, or of its invocation; ``later(seconds, callback)``
        delays it."""
        plan = self.faults.plan
        if self.sink is None or plan.events == "suppress":
            return
        event = self._status_event(command, invocation)
        if plan.event_delay:
            later(plan.event_delay * self.time_scale, partial(self.sink.deliver, event))
        else:
            self.sink.deliver(event)

    def announce_start(self, instance_id: str) -> None:
        """Deliver that an instance is running, as EC2 does."""
        if self.sink is not None:
            detail = {"instance-id": instance_id, "state": "running"}
            self.sink.deliver(self._event(INSTANCE_EVENT, detail, [instance_id], "aws.ec2"))

    def _status_event(self, command: Command, invocation: Invocation | None) -> Event:
        detail = {
            "command-id": command.id,
            "document-name": command.document_name,
            "requested-date-time": iso_time(command.requested),
        }
        if invocation is not None:
            detail |= {"status": invocation.detail.status, "instance-id": invocation.instance_id}
            return self._event(INVOCATION_EVENT, detail, [invocation.instance_id])
        detail |= {
            "status": command.detail.status,
            "expire-after": iso_time(command.expires),
            "parameters": command.request.get("Parameters", {}),
        }
        return self._event(COMMAND_EVENT, detail, command.invocations)

    def _event(
        self,
        detail_type: str,
        detail: dict[str, Any],
        instance_ids: Iterable[str],
        source: str = "aws.ssm",
    ) -> Event:
        place = f"arn:aws:ec2:{self.region}:{self.account}:instance"
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": detail_type,
            "source": source,
            "account": self.account,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self.region,
            "resources": [f"{place}/{instance_id}" for instance_id in instance_ids],
            "detail": detail,
        }


@dataclass(frozen=True)
class _Rule:
    name: str
    pattern: str
    targets: tuple[dict[str, Any], ...]

    @property
    def detail_types(self) -> list[str] | None:
        """The only detail types that can match, if the pattern lists plain ones.

        Sparing the question to EventBridge matters: a fleet has an event per instance.
        """
        listed = json.loads(self.pattern).get("detail-type")
        plain = isinstance(listed, list) and all(isinstance(item, str) for item in listed)
        return listed if plain else None


class RuleEvents:
    """Delivers to Lambda targets of matching rules, from a thread of its own.

    ``client(service)`` makes a boto3 client. Rules are read at most every
    ``cache_seconds``.
    """

    def __init__(self, client: Callable[[str], Any], *, cache_seconds: float = 1.0) -> None:
        self._client = client
        self._cache_seconds = cache_seconds
        self._rules: list[_Rule] = []
        self._read_at = float("-inf")
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()

    def deliver(self, event: Event) -> None:
        """Queue the event."""
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ssm-events", daemon=True)
                self._thread.start()
        self._queue.put(event)

    def stop(self) -> None:
        """Deliver what is queued, then end."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=10)
            self._thread = None

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            for rule in self._current_rules():
                if rule.detail_types is None or event["detail-type"] in rule.detail_types:
                    self._offer(event, rule)

    def _current_rules(self) -> list[_Rule]:
        if time.monotonic() - self._read_at >= self._cache_seconds:
            try:
                self._rules = list(self._read_rules())
            except (BotoCoreError, ClientError) as error:
                logger.warning("EventBridge rules not read, the old ones are used: %s", error)
            self._read_at = time.monotonic()
        return self._rules

    def _read_rules(self) -> Iterator[_Rule]:
        events = self._client("events")
        for page in events.get_paginator("list_rules").paginate():
            for rule in page["Rules"]:
                pattern = rule.get("EventPattern", "")
                # Everything that can match names the source; the rest needs no call.
                ours = any(source in pattern for source in _SOURCES)
                if rule.get("State") != "DISABLED" and ours:
                    targets = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
                    yield _Rule(rule["Name"], pattern, tuple(targets))

    def _offer(self, event: Event, rule: _Rule) -> None:
        try:
            matches = self._client("events").test_event_pattern(
                EventPattern=rule.pattern, Event=json.dumps(event)
            )["Result"]
            for target in rule.targets if matches else ():
                self._invoke(event, target)
        except (BotoCoreError, ClientError) as error:
            logger.warning("Event %s not delivered to rule %s: %s", event["id"], rule.name, error)

    def _invoke(self, event: Event, target: dict[str, Any]) -> None:
        if ":lambda:" not in target["Arn"]:
            logger.warning("Target %s is no Lambda function and gets no events here", target["Arn"])
            return
        self._client("lambda").invoke(
            FunctionName=target["Arn"], InvocationType="Event", Payload=_payload(event, target)
        )


def _payload(event: Event, target: dict[str, Any]) -> str:
    """The event as the target wants it: whole, a member of it, or a constant."""
    if "Input" in target:
        return str(target["Input"])
    selected: Any = event
    for name in target.get("InputPath", "$").split(".")[1:]:
        selected = selected.get(name) if isinstance(selected, dict) else None
    return json.dumps(selected)
