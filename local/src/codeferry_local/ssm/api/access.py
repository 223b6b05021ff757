"""The callers of SSM: the permissions each operation needs of IAM, and the journal of calls.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Systems
Manager". An action that knows no resource type there is asked for on ``*``.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codeferry_local.emulator.iam import PATH
from codeferry_local.ssm.errors import AccessDeniedException

# An action, a resource, the condition keys.
Check = tuple[str, str, dict[str, str]]
# The access key and what is asked; answers as ``emulator.iam.refusal_of``.
Authorize = Callable[[str, Sequence[Check]], Mapping[str, str] | None]

_OF_A_DOCUMENT = ("DescribeDocument", "GetDocument", "UpdateDocument", "DeleteDocument")
_TIMEOUT_SECONDS = 30

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")
_APPLICATION = re.compile(r"\bapp/(\S+)")
# Names only: parameters and contents never get into a log.
_RESOURCES = ("DocumentName", "Name", "InstanceIds", "InstanceId", "CommandId", "ResourceId")


def ask_iam(endpoint: str) -> Authorize:
    """Ask the IAM of the emulator at ``endpoint``."""

    def ask(access_key: str, checks: Sequence[Check]) -> Mapping[str, str] | None:
        request = urllib.request.Request(  # noqa: S310 - our own address
            endpoint + PATH,
            data=json.dumps({"access_key": access_key, "checks": checks}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
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


def call_of(operation: str, body: Any, headers: Mapping[str, str], error: str | None) -> Call:
    """The call that a request makes."""
    agent = headers.get("User-Agent", "")
    application = _APPLICATION.search(agent)
    given = body if isinstance(body, dict) else {}
    return Call(
        time=time.time(),
        operation=operation,
        access_key=access_key(headers),
        application=application[1] if application else "",
        user_agent=agent,
        resources={name: given[name] for name in _RESOURCES if name in given},
        error=error,
    )


def access_key(headers: Mapping[str, str]) -> str:
    """The access key id in a request's AWS4 Authorization header, or ''."""
    found = _CREDENTIAL.search(headers.get("Authorization", ""))
    return found[1] if found else ""
