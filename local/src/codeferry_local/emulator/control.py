"""The control endpoint ``/_codeferry/…`` of the emulated services: a journal of calls, and faults.

``GET calls``: of a caller that acts as a role all that IAM was asked, also what the local SSM and
the state machines asked for it, with the condition keys; of others what each call would need. The
local SSM keeps a journal of its own under the same path of its endpoint.

``POST faults``, for tests, takes ``{"throttle_first": {"logs:FilterLogEvents": 2}}``: so many of
the next calls of an action are answered with ThrottlingException; ``DELETE`` forgets it. For
services of the JSON protocols, as CloudWatch Logs and Step Functions are.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

CALLS_PATH = "/_codeferry/calls"
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
    iam_evaluator.enforce = with_recorded_checks(iam_evaluator.enforce, calls)
    app._dispatch_service_request = with_journal(  # noqa: SLF001 - there is no public seam
        app._dispatch_service_request,  # noqa: SLF001
        lambda *request: None if app.AUTH else need_of(*request),
        calls,
    )


def with_recorded_checks(enforce: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    """``enforce``, MiniStack's question to IAM, that is recorded."""

    def decide(access_key: str, action: str, *place: Any, **named: Any) -> Any:
        calls.add(
            Need(
                access_key=access_key,
                action=action,
                resource=named.get("resource_arn", "*"),
                context=_texts(named.get("service_context") or {}),
            )
        )
        return enforce(access_key, action, *place, **named)

    return decide


def _texts(context: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in context.items() if isinstance(value, str | list)}


def with_journal(dispatch: Dispatch, need: Callable[..., Need | None], calls: Calls) -> Dispatch:
    """``dispatch`` that records what ``need`` finds, and tells all ``calls`` on ``PATH``."""

    async def serve(method: str, path: str, *request: Any) -> Answer:
        if path == CALLS_PATH:
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


FAULTS_PATH = "/_codeferry/faults"

_JSON = {"Content-Type": "application/json"}


def accept_faults() -> None:
    """Let faults be put in force; called before the server starts."""
    from ministack import app

    app._dispatch_service_request = with_faults(  # noqa: SLF001 - there is no public seam
        app._dispatch_service_request,  # noqa: SLF001
        lambda *request: need.action if (need := need_of(*request)) else None,
    )


class Throttle:
    """So many calls of an action are still to be refused; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: Counter[str] = Counter()

    def set(self, first: Mapping[str, int]) -> None:
        """Refuse so many of the next calls of each action, and none of others."""
        with self._lock:
            self._left = Counter(first)

    def __bool__(self) -> bool:
        """Whether anything is to be refused at all."""
        return self._left.total() > 0

    def takes(self, action: str) -> bool:
        """Whether this call of the action is refused (counts it)."""
        with self._lock:
            taken = self._left[action] > 0
            self._left[action] -= taken
            return taken


def with_faults(
    dispatch: Callable[..., Awaitable[Answer]], action_of: Callable[..., str | None]
) -> Callable[..., Awaitable[Answer]]:
    """``dispatch`` with the faults that are in force; ``action_of`` names a request's action."""
    throttle = Throttle()

    async def serve(method: str, path: str, headers: Any, body: bytes, *rest: Any) -> Answer:
        if path == FAULTS_PATH:
            given = json.loads(body) if method == "POST" else {}
            throttle.set(given.get("throttle_first", {}))
            return 200, _JSON, json.dumps(given).encode()
        if throttle and throttle.takes(action_of(method, path, headers, body, *rest) or ""):
            refusal = {"__type": "ThrottlingException", "message": "Rate exceeded"}
            return 400, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(refusal).encode()
        return await dispatch(method, path, headers, body, *rest)

    return serve
