"""Who called what on the emulated services: ``GET /_codeferry/calls`` on their endpoint.

Of a caller that acts as a role it is all that IAM was asked, also what the local SSM and the
state machines asked for it, with the condition keys; of others what each call would need. The
local SSM keeps a journal of its own under the same path of its endpoint.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PATH = "/_codeferry/calls"
_ENTRIES = 100_000

Answer = tuple[int, dict[str, str], Any]
Dispatch = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Need:
    """What IAM would ask before a call: ``action`` as policies spell it, ``resource`` an ARN,
    ``context`` the condition keys that come with the call."""

    access_key: str
    action: str
    resource: str
    context: Mapping[str, Any] = field(default_factory=dict)


class Calls:
    """The latest needs (100,000 of them), each with the time of its call. Names only: parameters
    and contents never get in."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=_ENTRIES)

    def add(self, need: Need) -> None:
        """Record a need; from any thread."""
        self._entries.append({"time": time.time(), **asdict(need)})

    def to_json(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return list(self._entries)


def keep_journal() -> None:
    """Record every call that reaches a service; called before the server starts."""
    from ministack import app
    from ministack.core import iam_evaluator

    calls = Calls()
    iam_evaluator.enforce = asked(iam_evaluator.enforce, calls)
    app._dispatch_service_request = journaled(  # noqa: SLF001 - there is no public seam
        app._dispatch_service_request,  # noqa: SLF001
        lambda *request: None if app.AUTH else need_of(*request),
        calls,
    )


def asked(enforce: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    """``enforce``, MiniStack's question to IAM, that is recorded."""

    def decide(access_key: str, action: str, *place: Any, **named: Any) -> Any:
        calls.add(
            Need(
                access_key=access_key,
                action=action,
                resource=named.get("resource_arn", "*"),
                context=_words(named.get("service_context") or {}),
            )
        )
        return enforce(access_key, action, *place, **named)

    return decide


def _words(context: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in context.items() if isinstance(value, str | list)}


def journaled(dispatch: Dispatch, need: Callable[..., Need | None], calls: Calls) -> Dispatch:
    """``dispatch`` that records what ``need`` finds, and tells all ``calls`` on ``PATH``."""

    async def serve(method: str, path: str, *request: Any) -> Answer:
        if path == PATH:
            body = json.dumps({"calls": calls.to_json()}).encode()
            return 200, {"Content-Type": "application/json"}, body
        needed = need(method, path, *request)
        if needed is not None:
            calls.add(needed)
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
