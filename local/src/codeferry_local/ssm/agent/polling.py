"""Invocations carried out by agents of their own, which poll for messages and send replies.

The messages are those of Run Command's delivery service (ec2messages): a command's topic begins
with ``aws.ssm.sendCommand``, its id is ``aws.ssm.<command>.<instance>`` and its payload holds
document and parameters; cancelling is a message too. Replies carry the steps' results by name.
Source: amazon-ssm-agent, agent/runcommand/contracts and agent/messageservice/utils.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from codeferry_local.ssm.commands import Command, Detail, Invocation, StepRecord, iso_time
from codeferry_local.ssm.errors import InvalidMessageId, ValidationException
from codeferry_local.ssm.instances import Reason

# How often a poll looks at what has become visible again.
_VISIBILITY_SECONDS = 0.5

logger = logging.getLogger(__name__)
SEND_TOPIC, CANCEL_TOPIC = "aws.ssm.sendCommand", "aws.ssm.cancelCommand"
# A message's outcome is also looked at so often where no reply comes: after the total timeout.
_LOOK_SECONDS = 1.0
# The statuses an agent reports; what it has not begun or goes on with has no outcome.
_DETAILS = {
    "Success": Detail.SUCCESS,
    "Skipped": Detail.SUCCESS,
    "Failed": Detail.FAILED,
    "TimedOut": Detail.EXECUTION_TIMED_OUT,
    "Cancelled": Detail.CANCELLED,
}
Lock = AbstractContextManager[Any]


@dataclass(kw_only=True)
class Message:
    """One message to one instance; ``visible`` is when it may be given out (again), by
    ``time.monotonic``."""

    message_id: str
    destination: str
    topic: str
    payload: str
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    visible: float = 0.0
    deliveries: int = 0

    def to_json(self) -> dict[str, str]:
        """The members that GetMessages answers with."""
        return {
            "CreatedDate": iso_time(self.created),
            "Destination": self.destination,
            "MessageId": self.message_id,
            "Payload": self.payload,
            "PayloadDigest": hashlib.sha256(self.payload.encode()).hexdigest(),
            "Topic": self.topic,
        }


class Messages:
    """What is on its way to agents; safe to use from many threads."""

    def __init__(self) -> None:
        self._waiting: dict[str, Message] = {}
        self._changed = threading.Condition()
        self._stopped = False

    def put(self, message: Message) -> None:
        """Let the next poll of its destination have it."""
        with self._changed:
            self._waiting[message.message_id] = message
            self._changed.notify_all()

    def receive(self, destination: str, *, hidden: float, wait: float) -> list[Message]:
        """What is visible for an instance, oldest first; waits up to ``wait`` seconds for one.

        Each comes again after ``hidden`` seconds unless it was removed.
        """
        end = time.monotonic() + wait
        with self._changed:
            while not (found := self._visible(destination)) and not self._stopped:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, _VISIBILITY_SECONDS))
            for message in found:
                message.visible = time.monotonic() + hidden
                message.deliveries += 1
            return found

    def remove(self, message_id: str) -> None:
        """It has arrived, or nobody wants it any more."""
        with self._changed:
            self._waiting.pop(message_id, None)

    def withdraw(self, message_id: str) -> bool:
        """Remove it if nobody ever got it; whether that was so."""
        with self._changed:
            message = self._waiting.get(message_id)
            if message is None or message.deliveries:
                return False
            del self._waiting[message_id]
            return True

    def stop(self) -> None:
        """End every poll."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _visible(self, destination: str) -> list[Message]:
        now = time.monotonic()
        return [
            message
            for message in self._waiting.values()
            if message.destination == destination and message.visible <= now
        ]


@dataclass(kw_only=True, eq=False)
class _Delivery:
    """An invocation that is with its agent; ``outcome`` is set under the scheduler's lock."""

    invocation: Invocation
    lock: Lock
    woken: threading.Event = field(default_factory=threading.Event)
    outcome: Detail | None = None


class PollingAgents:
    """Hands invocations to agents and takes their replies; ``messages`` is what they poll."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._under_way: dict[str, _Delivery] = {}
        # Ids of all messages ever sent: of a cancel message, or after the end, a reply is no error.
        self._sent: set[str] = set()

    def run(self, invocation: Invocation, lock: Lock) -> Detail | None:
        """Block until the agent has reported the outcome; None when nobody will ever know it."""
        message = _message(invocation, SEND_TOPIC, invocation.command.id, _payload(invocation))
        delivery = _Delivery(invocation=invocation, lock=lock)
        self._under_way[message.message_id] = delivery
        invocation.interrupt.listen(delivery.woken.set)
        try:
            self._send(message)
            return self._outcome(delivery, message)
        finally:
            invocation.interrupt.listen(None)
            del self._under_way[message.message_id]
            self._messages.remove(message.message_id)

    def reply(self, message_id: str, payload: str) -> None:
        """Take what an agent says of a message; raises InvalidMessageId, ValidationException."""
        delivery = self._delivery(message_id)
        given = _reply(payload)
        if delivery is None:
            return
        with delivery.lock:
            if delivery.outcome is not None:
                return
            delivery.invocation.running = True
            for name, result in (given.get("runtimeStatus") or {}).items():
                _record(delivery.invocation.steps, name, result)
            delivery.invocation.trace += str(given.get("documentTraceOutput") or "")
            delivery.outcome = _DETAILS.get(given.get("documentStatus", ""))
        delivery.woken.set()

    def acknowledge(self, message_id: str) -> None:
        """The agent has the message; raises InvalidMessageId."""
        delivery = self._delivery(message_id)
        self._messages.remove(message_id)
        if delivery is not None:
            with delivery.lock:
                delivery.invocation.running = True

    def fail(self, message_id: str, why: str) -> None:
        """The agent cannot handle the message, so its invocation failed; InvalidMessageId."""
        delivery = self._delivery(message_id)
        self._messages.remove(message_id)
        if delivery is not None:
            with delivery.lock:
                delivery.invocation.trace += f"The agent refused the message: {why}"
                delivery.outcome = delivery.outcome or Detail.FAILED
            delivery.woken.set()

    def _delivery(self, message_id: str) -> _Delivery | None:
        if message_id not in self._sent:
            raise InvalidMessageId(f"There is no message {message_id}.")
        return self._under_way.get(message_id)

    def _send(self, message: Message) -> None:
        self._sent.add(message.message_id)
        self._messages.put(message)

    def _outcome(self, delivery: _Delivery, message: Message) -> Detail | None:
        invocation, cancelled = delivery.invocation, False
        while True:
            delivery.woken.wait(_LOOK_SECONDS)
            delivery.woken.clear()
            reason = invocation.interrupt.reason
            # A timeout of the service settles an invocation without asking its agent.
            if reason in (Reason.LOST, Reason.STOP) or invocation.detail.terminal:
                return None
            if delivery.outcome is not None:
                return delivery.outcome
            if reason is Reason.CANCEL and not cancelled:
                cancelled = True
                if self._messages.withdraw(message.message_id):
                    return Detail.CANCELLED
                payload = {"CancelMessageId": message.message_id}
                self._send(_message(invocation, CANCEL_TOPIC, str(uuid.uuid4()), payload))


def _message(invocation: Invocation, topic: str, number: str, payload: Any) -> Message:
    return Message(
        message_id=f"aws.ssm.{number}.{invocation.instance_id}",
        destination=invocation.instance_id,
        topic=topic,
        payload=json.dumps(payload),
    )


def _payload(invocation: Invocation) -> dict[str, Any]:
    command: Command = invocation.command
    log: Mapping[str, Any] = command.request.get("CloudWatchOutputConfig", {})
    return {
        "CommandId": command.id,
        "DocumentName": command.bare_document_name,
        "DocumentVersion": command.document_version,
        "DocumentContent": command.document,
        # Defaults are the agent's to fill in.
        "Parameters": {name: command.bound[name] for name in command.request.get("Parameters", {})},
        "OutputS3BucketName": command.request.get("OutputS3BucketName", ""),
        "OutputS3KeyPrefix": command.request.get("OutputS3KeyPrefix", ""),
        "CloudWatchLogGroupName": log.get("CloudWatchLogGroupName", ""),
        "CloudWatchOutputEnabled": str(bool(log.get("CloudWatchOutputEnabled"))).lower(),
    }


def _reply(payload: str) -> Mapping[str, Any]:
    try:
        given = json.loads(payload)
    except ValueError as error:
        raise ValidationException("The reply's payload is no JSON.") from error
    if not isinstance(given, dict):
        raise ValidationException("The reply's payload must be an object.")
    return given


def _record(steps: list[StepRecord], name: str, result: Mapping[str, Any]) -> None:
    """Note a step's result; one that is under way has a start and no end."""
    for step in steps:
        if step.name == name:
            outcome = _DETAILS.get(result.get("status", ""))
            step.detail = outcome or Detail.IN_PROGRESS
            step.started = _moment(result.get("startDateTime"))
            if outcome is None:
                return
            step.exit_code = int(result.get("code", 0))
            step.stdout = str(result.get("standardOutput") or "")
            step.stderr = str(result.get("standardError") or "")
            step.output = str(result.get("output") or "")
            step.finished = _moment(result.get("endDateTime")) or step.started
            return
    logger.warning("An agent reported a step %s that the document does not have", name)


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
