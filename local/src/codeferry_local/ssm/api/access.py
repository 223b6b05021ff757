"""The callers of SSM: the permissions each operation needs of IAM, and the journal of calls.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Systems
Manager". An action that knows no resource type there is asked for on ``*``.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codeferry_local.emulator.iam import PATH
from codeferry_local.ssm.errors import AccessDeniedException

# An action, a resource, the condition keys.
Check = tuple[str, str, dict[str, str]]
# The access key and what is asked; answers as ``emulator_iam.refusal_of``.
Authorize = Callable[[str, Sequence[Check]], Mapping[str, str] | None]

_OF_A_DOCUMENT = ("DescribeDocument", "GetDocument", "UpdateDocument", "DeleteDocument")
_PATIENCE_SECONDS = 30


def ask_iam(endpoint: str) -> Authorize:
    """Ask the IAM of the emulator at ``endpoint``."""

    def ask(access_key: str, checks: Sequence[Check]) -> Mapping[str, str] | None:
        request = urllib.request.Request(  # noqa: S310 - our own address
            endpoint + PATH,
            data=json.dumps({"access_key": access_key, "checks": checks}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:  # noqa: S310 - as above
            refused: Mapping[str, str] | None = json.load(answer)
        return refused

    return ask


def check_allowed(
    authorize: Authorize,
    access_key: str,
    operation: str,
    request: Mapping[str, Any],
    *,
    region: str,
    account: str,
) -> None:
    """Raise AccessDeniedException, worded as IAM words it, when the caller may not."""
    place = f"arn:aws:{{service}}:{region}:{account}:"
    refused = authorize(access_key, list(_checks(operation, request, place)))
    if refused is not None:
        raise AccessDeniedException(refused["message"])


def _checks(operation: str, request: Mapping[str, Any], place: str) -> Iterator[Check]:
    """An instance's tags are not known here: they are EC2's."""
    action = f"ssm:{operation}"
    if operation == "SendCommand":
        yield action, _document(place, request.get("DocumentName", "")), {}
        for instance_id in request.get("InstanceIds", ()):
            yield action, f"{place.format(service='ec2')}instance/{instance_id}", {}
    elif operation in _OF_A_DOCUMENT:
        yield action, _document(place, request.get("Name", "")), {}
    else:
        yield action, "*", {}


def _document(place: str, name: str) -> str:
    return name if name.startswith("arn:") else f"{place.format(service='ssm')}document/{name}"


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
