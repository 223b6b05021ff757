"""The faults of the local SSM, for tests.

Every fault is a field of one frozen value, so that it travels as JSON and a test
sets exactly what it names.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from codeferry_local.ssm.errors import ValidationException

# RestartSec of packaging/linux/amazon-ssm-agent.service in the agent's repository.
AGENT_RESTART_SECONDS = 90

_CHOICES = {"events": ("deliver", "suppress"), "logs": ("accept", "throttle", "unreachable")}


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """The faults in force; the default is none.

    offline: instance ids that do not answer (ConnectionLost; commands wait).
    lost: instance id -> seconds after a step's start at which its process is killed
        and the instance goes offline, its result never reported.
    oom: instance id -> seconds after a step's start at which a lack of memory has its process
        killed and, with systemd's ``OOMPolicy=stop``, the agent's unit ended. The agent is away
        for ``AGENT_RESTART_SECONDS``; then it fails what it finds interrupted.
    slow: instance id -> seconds before a command starts there.
    hidden_polls: how many GetCommandInvocation/ListCommandInvocations calls per
        command do not see its invocations yet.
    throttle_first: operation -> how many of its next calls are throttled.
    throttle_probability, throttle_seed, throttle_operations: throttle at random,
        all operations when the list is empty.
    drop_response: operation -> of how many next calls the answer is never sent.
    logs: "accept", or what CloudWatch Logs does to the agent instead: "throttle", or
        "unreachable", as without a route to it.
    events: "deliver" or "suppress"; event_delay: seconds before delivery.

    Seconds are scaled by the server's ``time_scale``.
    """

    offline: frozenset[str] = frozenset()
    lost: Mapping[str, float] = field(default_factory=dict)
    oom: Mapping[str, float] = field(default_factory=dict)
    slow: Mapping[str, float] = field(default_factory=dict)
    hidden_polls: int = 0
    throttle_first: Mapping[str, int] = field(default_factory=dict)
    throttle_probability: float = 0.0
    throttle_seed: int = 0
    throttle_operations: frozenset[str] = frozenset()
    drop_response: Mapping[str, int] = field(default_factory=dict)
    logs: str = "accept"
    events: str = "deliver"
    event_delay: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The plan with sets as sorted lists."""
        plain = asdict(self)
        return {
            key: sorted(value) if isinstance(value, frozenset) else value
            for key, value in plain.items()
        }


class Faults:
    """The plan in force and what is used up of it; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plan = FaultPlan()
        self._random = random.Random(0)  # noqa: S311 - reproducible faults, no secret
        self._used: Counter[tuple[str, str]] = Counter()
        self._on_change: list[Callable[[], None]] = []

    @property
    def plan(self) -> FaultPlan:
        """The faults in force."""
        with self._lock:
            return self._plan

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` after each change."""
        self._on_change.append(on_change)

    def set(self, **changes: Any) -> FaultPlan:
        """Put the named faults in force and leave the others.

        What counts calls (``hidden_polls``, ``throttle_first``, ``drop_response``)
        starts anew when it is set. Raises ValidationException for an unknown name or type.
        """
        checked = {name: _checked(name, value) for name, value in changes.items()}
        with self._lock:
            self._plan = replace(self._plan, **checked)
            for name, key in list(self._used):
                if name in checked:
                    del self._used[name, key]
            if "throttle_seed" in checked or "throttle_probability" in checked:
                self._random = random.Random(self._plan.throttle_seed)  # noqa: S311 - as above
        return self._changed()

    def clear(self) -> FaultPlan:
        """No fault at all."""
        with self._lock:
            self._plan = FaultPlan()
            self._used.clear()
        return self._changed()

    def lose(self, instance_id: str) -> None:
        """An instance armed by ``lost`` or ``oom`` is gone now: offline, and not armed any more."""
        with self._lock:
            lost, oom = (
                {key: after for key, after in armed.items() if key != instance_id}
                for armed in (self._plan.lost, self._plan.oom)
            )
            offline = self._plan.offline | {instance_id}
            self._plan = replace(self._plan, lost=lost, oom=oom, offline=offline)
        self._changed()

    def come_back(self, instance_id: str) -> None:
        """An instance that was gone answers again."""
        with self._lock:
            self._plan = replace(self._plan, offline=self._plan.offline - {instance_id})
        self._changed()

    def offline(self, instance_id: str) -> bool:
        """Whether the instance does not answer."""
        return instance_id in self.plan.offline

    def throttles(self, operation: str) -> bool:
        """Whether this call of the operation is to be throttled (counts it)."""
        with self._lock:
            if self._uses_up("throttle_first", operation, self._plan.throttle_first):
                return True
            chosen = self._plan.throttle_operations
            if not self._plan.throttle_probability or (chosen and operation not in chosen):
                return False
            return self._random.random() < self._plan.throttle_probability

    def drops_response(self, operation: str) -> bool:
        """Whether the answer of this call is never to be sent (counts it)."""
        with self._lock:
            return self._uses_up("drop_response", operation, self._plan.drop_response)

    def hides(self, command_id: str) -> bool:
        """Whether this poll does not see the command's invocations yet (counts it)."""
        with self._lock:
            polls = {command_id: self._plan.hidden_polls}
            return self._uses_up("hidden_polls", command_id, polls)

    def _uses_up(self, name: str, key: str, limits: Mapping[str, int]) -> bool:
        if self._used[name, key] >= limits.get(key, 0):
            return False
        self._used[name, key] += 1
        return True

    def _changed(self) -> FaultPlan:
        for on_change in self._on_change:
            on_change()
        return self.plan


def _checked(name: str, value: Any) -> Any:
    defaults = vars(FaultPlan())
    if name not in defaults:
        raise ValidationException(f"No fault is called {name!r}; there are {', '.join(defaults)}.")
    kind = type(defaults[name])
    given = frozenset(value) if kind is frozenset and isinstance(value, list | set) else value
    if not isinstance(given, (int, float) if kind is float else kind):
        raise ValidationException(f"Fault {name} cannot be {value!r}.")
    if name in _CHOICES and given not in _CHOICES[name]:
        raise ValidationException(f"Fault {name} is one of {', '.join(_CHOICES[name])}.")
    return given
