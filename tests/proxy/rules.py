"""Rules of a failing proxy, as values, and the count of what has been seen."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Status:
    """Answer with this status, unforwarded, in the words of S3 (XML) and SSM (JSON)."""

    status: int = 503
    code: str = "SlowDown"


@dataclass(frozen=True)
class Delay:
    """Forward after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Reset:
    """Reset the connection, unanswered and unforwarded."""


@dataclass(frozen=True)
class Cut:
    """Reset the connection in the middle of the request's body, unforwarded."""


@dataclass(frozen=True)
class Drop:
    """Forward, and close the connection instead of answering: done, but nobody knows."""


@dataclass(frozen=True)
class Truncate:
    """Forward, and end the connection after so many bytes of the answer's body: by a reset,
    or ``orderly``, as a server does that thinks it is done."""

    after: int
    orderly: bool = False


@dataclass(frozen=True)
class Hold:
    """Neither forward nor answer until the proxy closes."""


Action = Status | Delay | Reset | Cut | Drop | Truncate | Hold


@dataclass(frozen=True)
class Rule:
    """``action`` on the ``nth`` (from 1) fitting request and the ``times - 1`` after it.

    ``method`` must be equal; ``path`` (with the query, as sent) and ``target`` (the header
    X-Amz-Target) are patterns that must be found. What is empty fits everything.
    """

    action: Action
    method: str = ""
    path: str = ""
    target: str = ""
    nth: int = 1
    times: int = 1

    def fits(self, method: str, path: str, target: str) -> bool:
        return (
            self.method in ("", method)
            and re.search(self.path, path) is not None
            and re.search(self.target, target) is not None
        )

    def due(self, count: int) -> bool:
        return self.nth <= count < self.nth + self.times


@dataclass(frozen=True)
class Seen:
    """A request that came, and what was done to it; None is nothing."""

    method: str
    path: str
    target: str
    action: Action | None


@dataclass
class RuleBook:
    """The rules in force; safe to use from many threads. The first rule that is due acts."""

    _rules: list[tuple[Rule, list[int]]] = field(default_factory=list)
    _seen: list[Seen] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def set(self, *rules: Rule) -> None:
        """Replace all rules, with new counts, and forget what was seen."""
        with self._changed:
            self._rules = [(rule, [0]) for rule in rules]
            self._seen = []

    def note(self, method: str, path: str, target: str) -> Action | None:
        """Count a request; what is to be done to it."""
        with self._changed:
            action = self._decide(method, path, target)
            self._seen.append(Seen(method, path, target, action))
            self._changed.notify_all()
            return action

    def _decide(self, method: str, path: str, target: str) -> Action | None:
        found = None
        for rule, count in self._rules:
            if rule.fits(method, path, target):
                count[0] += 1
                if found is None and rule.due(count[0]):
                    found = rule.action
        return found

    def seen(self) -> list[Seen]:
        with self._changed:
            return list(self._seen)

    def wait_for(self, condition: Callable[[list[Seen]], bool], timeout: float = 60) -> None:
        """Block until what was seen fulfils the condition; AssertionError when it never does."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self._seen), timeout)
