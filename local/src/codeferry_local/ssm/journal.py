"""Who called which operation when: what IAM policies are later compared with."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")
_APPLICATION = re.compile(r"\bapp/(\S+)")
_ENTRIES = 100_000
# Names only: parameters and contents never get into a log.
_RESOURCES = ("DocumentName", "Name", "InstanceIds", "InstanceId", "CommandId", "ResourceId")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call: ``time`` in epoch seconds, ``error`` is AWS's code or None.

    ``application`` is what the caller's ``AWS_SDK_UA_APP_ID`` says, which is how a
    Lambda names itself when all share one access key.
    """

    time: float
    operation: str
    access_key: str
    application: str
    user_agent: str
    resources: Mapping[str, Any]
    error: str | None = None


class Journal:
    """The latest calls (100,000 of them); safe to use from many threads."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=_ENTRIES)
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        """Record a call."""
        with self._lock:
            self._calls.append(call)

    def to_json(self) -> list[dict[str, Any]]:
        """Every recorded call, oldest first."""
        with self._lock:
            return [asdict(call) for call in self._calls]

    def clear(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._calls.clear()


def access_key(authorization: str) -> str:
    """The access key id of an AWS4 Authorization header, or ''."""
    found = _CREDENTIAL.search(authorization)
    return found[1] if found else ""


def application(user_agent: str) -> str:
    """The application id in an SDK's user agent, or ''."""
    found = _APPLICATION.search(user_agent)
    return found[1] if found else ""


def resources(request: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a request that name what it touches."""
    return {name: request[name] for name in _RESOURCES if name in request}
