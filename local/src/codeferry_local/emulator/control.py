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
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from codeferry_local.emulator import wrap

CALLS_PATH = "/_codeferry/calls"
FAULTS_PATH = "/_codeferry/faults"
_ENTRIES = 100_000
# Copied for each answer: the server adds the length of this one to it.
_JSON = {"Content-Type": "application/json"}
_JSON_1_1 = {"Content-Type": "application/x-amz-json-1.1"}

Answer = tuple[int, dict[str, str], Any]
Dispatch = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Need:
    """What IAM would ask before a call: ``action`` as policies write it, ``resource`` an ARN,
    ``context`` the condition keys that come with the call."""

    access_key: str
    action: str
    resource: str
    context: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)


class Journal:
    """The latest entries (100,000 of them), dataclass instances; from any thread. Names only:
    parameters and contents never get in."""

    def __init__(self) -> None:
        self._entries: deque[Any] = deque(maxlen=_ENTRIES)
        self.add = self._entries.append
        self.clear = self._entries.clear

    def to_json(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return [asdict(entry) for entry in list(self._entries)]


def keep_journal() -> None:
    """Record every call that reaches a service; called before the server starts."""
    from ministack import app
    from ministack.core import iam_evaluator

    journal = Journal()
    wrap(iam_evaluator, "enforce", with_recorded_checks, journal)
    wrap(
        app,
        "_dispatch_service_request",
        with_journal,
        lambda *request: None if app.AUTH else need_of(*request),
        journal,
    )


def with_recorded_checks(enforce: Callable[..., Any], journal: Journal) -> Callable[..., Any]:
    """``enforce``, MiniStack's question to IAM, that is recorded."""

    def decide(access_key: str, action: str, *place: Any, **named: Any) -> Any:
        journal.add(
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


def with_journal(
    dispatch: Dispatch, need: Callable[..., Need | None], journal: Journal
) -> Dispatch:
    """``dispatch`` that records what ``need`` finds, and answers with it on ``CALLS_PATH``."""

    async def serve(method: str, path: str, *request: Any) -> Answer:
        if path == CALLS_PATH:
            body = json.dumps({"calls": journal.to_json()}).encode()
            return 200, dict(_JSON), body
        needed = need(method, path, *request)
        if needed is not None:
            journal.add(needed)
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

    parameters = app._routing_params(method, path, headers, body, query)
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


def accept_faults() -> None:
    """Let faults be put in force; called before the server starts."""
    from ministack import app

    def action_of(*request: Any) -> str | None:
        need = need_of(*request)
        return need.action if need else None

    wrap(app, "_dispatch_service_request", with_faults, action_of)


def with_faults(
    dispatch: Callable[..., Awaitable[Answer]], action_of: Callable[..., str | None]
) -> Callable[..., Awaitable[Answer]]:
    """``dispatch`` with the faults that are in force; ``action_of`` names a request's action."""
    throttled: Counter[str] = Counter()

    async def serve(method: str, path: str, headers: Any, body: bytes, *rest: Any) -> Answer:
        if path == FAULTS_PATH:
            given = json.loads(body) if method == "POST" else {}
            throttled.clear()
            throttled.update(given.get("throttle_first", {}))
            return 200, dict(_JSON), json.dumps(given).encode()
        if throttled.total():
            action = action_of(method, path, headers, body, *rest) or ""
            if throttled[action] > 0:
                throttled[action] -= 1
                refusal = {"__type": "ThrottlingException", "message": "Rate exceeded"}
                return 400, dict(_JSON_1_1), json.dumps(refusal).encode()
        return await dispatch(method, path, headers, body, *rest)

    return serve
