"""The embedded AWS around the local SSM: its clients, and Parameter Store, which it answers for.

One endpoint serves all of SSM, so a client that is led here for Run Command asks here for
parameters too: the CDK CLI for the version of its bootstrap stack, before each deployment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from codeferry_local.ssm.api.answers import Answer, Request
from codeferry_local.ssm.errors import InternalServerError, SsmError

# Logs and events are best effort: a service that is down must not hold them up for long.
_CONFIG = Config(
    connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}
)

_PASSED_ON = (
    "DeleteParameter",
    "DeleteParameters",
    "DescribeParameters",
    "GetParameter",
    "GetParameterHistory",
    "GetParameters",
    "GetParametersByPath",
    "LabelParameterVersion",
    "PutParameter",
)


class Clients:
    """One client per service; called with the service's name, from any thread.

    The account id serves as access key: that is how MiniStack knows the account.
    """

    def __init__(self, *, endpoint: str | None, region: str, account: str) -> None:
        self._endpoint = endpoint
        self._session = boto3.Session(account, "local", region_name=region)
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, service: str) -> Any:
        """The client of a service."""
        with self._lock:
            if service not in self._clients:
                make: Any = self._session.client
                self._clients[service] = make(service, endpoint_url=self._endpoint, config=_CONFIG)
            return self._clients[service]


class Refusing:
    """Stands for a client of CloudWatch Logs that is throttled, or has no route to it."""

    def __init__(self, how: str) -> None:
        self._how = how

    def __getattr__(self, operation: str) -> Any:
        def refuse(**_: Any) -> None:
            if self._how == "unreachable":
                raise EndpointConnectionError(endpoint_url="https://logs")
            error: Any = {"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}
            raise ClientError(error, operation)

        return refuse


def parameter_operations(ssm: Callable[[], Any]) -> dict[str, Callable[[Request], Answer]]:
    """Operation name to what does it, by the client that ``ssm`` gives when it is first needed."""
    return {name: partial(_pass_on, ssm, name) for name in _PASSED_ON}


def _pass_on(ssm: Callable[[], Any], operation: str, request: Request) -> Answer:
    """The other's answer or error; values are neither kept nor logged."""
    try:
        answer: Answer = getattr(ssm(), xform_name(operation))(**request)
    except ClientError as error:
        refusal = error.response["Error"]
        raise SsmError(refusal.get("Message", ""), code=refusal["Code"]) from error
    except BotoCoreError as error:
        raise InternalServerError(
            f"The embedded AWS, which keeps the parameters, does not answer: {error}"
        ) from error
    return {member: value for member, value in answer.items() if member != "ResponseMetadata"}
