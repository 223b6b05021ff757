"""boto3 clients of the embedded AWS around the local SSM, made when first needed."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

# Logs and events are best effort: a neighbour that is down must not hold them up for long.
_CONFIG = Config(
    connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}
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
