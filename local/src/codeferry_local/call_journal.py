"""Who called what on the emulated services: ``GET /_codeferry/calls`` on their endpoint.

The local SSM keeps a journal of its own under the same path of its endpoint. Together they
are what IAM policies are compared with.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

PATH = "/_codeferry/calls"
_ENTRIES = 100_000

Answer = tuple[int, dict[str, str], Any]
Dispatch = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Need:
    """What IAM would ask before a call: ``action`` as policies spell it, ``resource`` an ARN."""

    access_key: str
    action: str
    resource: str


def keep_journal() -> None:
    """Record every call that reaches a service; called before the server starts."""
    from ministack import app

    app._dispatch_service_request = journaled(  # noqa: SLF001 - there is no public seam
        app._dispatch_service_request,  # noqa: SLF001
        need_of,
    )


def journaled(dispatch: Dispatch, need: Callable[..., Need | None]) -> Dispatch:
    """``dispatch`` that records the latest calls (100,000 of them) and tells them on ``PATH``.

    Names only: parameters and contents never get into the journal.
    """
    calls: deque[dict[str, Any]] = deque(maxlen=_ENTRIES)

    async def serve(method: str, path: str, *request: Any) -> Answer:
        if path == PATH:
            body = json.dumps({"calls": list(calls)}).encode()
            return 200, {"Content-Type": "application/json"}, body
        needed = need(method, path, *request)
        if needed is not None:
            calls.append({"time": time.time(), **asdict(needed)})
        return await dispatch(method, path, *request)

    return serve


def need_of(
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    query: dict[str, Any],
    request_id: str,
) -> Need | None:
    """What the request needs, as MiniStack itself would check it; None for no AWS call."""
    from ministack import app
    from ministack.core import iam_actions, responses, router

    parameters = app._routing_params(method, path, headers, body, query)  # noqa: SLF001
    service = router.detect_service(method, path, headers, parameters)
    action = iam_actions.extract_iam_action(service, method, path, headers, body, parameters)
    if action is None:
        return None
    owner = (router.extract_region(headers), responses.get_account_id())
    return Need(
        access_key=router.extract_access_key_id(headers, query),
        action=action,
        resource=iam_actions.extract_resource_arn(
            service, method, path, headers, body, parameters, *owner
        ),
    )
