"""Status-change events, delivered to the rules of the default bus as EventBridge would.

PutEvents refuses a source ``aws.…``, here as on AWS, so the sink asks EventBridge
which rules match (TestEventPattern) and invokes their Lambda targets itself.

Tells the event sink of each change of status, as far as the faults let it, and of starts."""

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
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from codeferry_local.ssm.commands import Command, Invocation
from codeferry_local.ssm.faults import Faults

logger = logging.getLogger(__name__)

COMMAND_EVENT = "EC2 Command Status-change Notification"
INVOCATION_EVENT = "EC2 Command Invocation Status-change Notification"
INSTANCE_EVENT = "EC2 Instance State-change Notification"
_SOURCES = ("aws.ssm", "aws.ec2")

Event = dict[str, Any]


class EventSink(Protocol):
    """Takes events off the server's hands; never raises, never blocks."""

    def deliver(self, event: Event) -> None:
        """Deliver soon."""
        ...

    def stop(self) -> None:
        """Deliver what is queued, then end."""
        ...


class NoEvents:
    """A sink for servers without EventBridge."""

    def deliver(self, event: Event) -> None:
        """Drop it."""

    def stop(self) -> None:
        """Nothing to end."""


def status_event(
    detail_type: str,
    detail: dict[str, Any],
    instance_ids: Iterable[str],
    *,
    account: str,
    region: str,
    source: str = "aws.ssm",
) -> Event:
    """The event with its envelope; ``detail`` as the service's user guide shows it."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": account,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [f"arn:aws:ec2:{region}:{account}:instance/{i}" for i in instance_ids],
        "detail": detail,
    }


def event_time(moment: datetime) -> str:
    """A moment as events carry it: ISO 8601, milliseconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


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
