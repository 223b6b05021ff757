"""What IAM is asked before an operation of SSM, and whom.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Systems
Manager". An action that knows no resource type there is asked for on ``*``.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codeferry_local.emulator_iam import PATH
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
