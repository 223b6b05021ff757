"""Messages that wait for agents: a queue for each instance, with redelivery and a long poll."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

# How often a poll looks at what has become visible again.
_LOOK_SECONDS = 0.5


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
            "CreatedDate": self.created.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
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
                self._changed.wait(min(left, _LOOK_SECONDS))
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
