"""How the emulated services can be told to misbehave: ``/_codeferry/faults`` on their endpoint.

For tests. ``POST`` takes ``{"throttle_first": {"logs:FilterLogEvents": 2}}``: so many of the next
calls of an action are answered with ThrottlingException; ``DELETE`` forgets it. For services of
the JSON protocols, as CloudWatch Logs and Step Functions are.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from codeferry_local.call_journal import need_of

PATH = "/_codeferry/faults"

Answer = tuple[int, dict[str, str], Any]

_JSON = {"Content-Type": "application/json"}


def accept_faults() -> None:
    """Let faults be put in force; called before the server starts."""
    from ministack import app

    app._dispatch_service_request = misbehaving(  # noqa: SLF001 - there is no public seam
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


def misbehaving(
    dispatch: Callable[..., Awaitable[Answer]], action_of: Callable[..., str | None]
) -> Callable[..., Awaitable[Answer]]:
    """``dispatch`` with the faults that are in force; ``action_of`` names a request's action."""
    throttle = Throttle()

    async def serve(method: str, path: str, headers: Any, body: bytes, *rest: Any) -> Answer:
        if path == PATH:
            given = json.loads(body) if method == "POST" else {}
            throttle.set(given.get("throttle_first", {}))
            return 200, _JSON, json.dumps(given).encode()
        if throttle and throttle.takes(action_of(method, path, headers, body, *rest) or ""):
            refusal = {"__type": "ThrottlingException", "message": "Rate exceeded"}
            return 400, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(refusal).encode()
        return await dispatch(method, path, headers, body, *rest)

    return serve
