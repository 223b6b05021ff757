"""The managed instances, directories on this machine, and the executors that run steps on them.

The null executor costs no process, so a fleet of ten thousand instances is only a dictionary.
"""

from __future__ import annotations

import binascii
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any

from codeferry_contracts.archive import release_id
from codeferry_contracts.parameters import PAYLOAD_PARAMETER, decode_payload
from codeferry_contracts.result import RESULT_FORMAT, RESULT_KEY
from codeferry_local.ssm.errors import InvalidInstanceId, ValidationException
from codeferry_local.ssm.output import StepLog

# Exit codes that mean something to the agent: it stopped the step itself, the step asks for a
# reboot, or for the document to end here, well or badly.
STOPPED, REBOOT, EXIT_WITH_SUCCESS, EXIT_WITH_FAILURE = 137, 194, 168, 169

# The executor of instances whose agent is a program of its own.
POLLING = "agent"


class Reason(Enum):
    """Why a running step is interrupted."""

    CANCEL = auto()
    LOST = auto()
    STOP = auto()


class Outcome(Enum):
    """How a step came to its end."""

    EXITED = auto()
    TIMED_OUT = auto()
    CANCELLED = auto()
    LOST = auto()


# How a step ends for which reason.
OUTCOMES = {Reason.CANCEL: Outcome.CANCELLED, Reason.LOST: Outcome.LOST, Reason.STOP: Outcome.LOST}


class Interrupt:
    """Asks a running invocation to stop; the first reason counts."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._lock = threading.Lock()
        self._notify: Callable[[], None] | None = None

    def set(self, reason: Reason) -> None:
        """Interrupt, and wake whoever listens. LOST and STOP override a CANCEL."""
        with self._lock:
            if self.reason in (None, Reason.CANCEL):
                self.reason = reason
            if self._notify is not None:
                self._notify()

    def listen(self, notify: Callable[[], None] | None) -> None:
        """Call ``notify`` at each interrupt from now on (at once if there was one)."""
        with self._lock:
            self._notify = notify
            if notify is not None and self.reason is not None:
                notify()


@dataclass(frozen=True, kw_only=True)
class InvocationContext:
    """One step about to run on one instance; times are seconds as AWS would report them."""

    command_id: str
    document_name: str
    step: str
    script: str
    timeout_seconds: float
    instance: LocalInstance
    parameters: Mapping[str, object]
    working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    region: str = "us-east-1"
    time_scale: float = 1.0
    interrupt: Interrupt = field(default_factory=Interrupt)
    log: StepLog | None = None


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """How a step ended: exit code, and the heads of its two outputs."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    outcome: Outcome = Outcome.EXITED


# Runs one step to its end, its timeout or its interrupt; called from several threads at once.
Executor = Callable[[InvocationContext], StepResult]


def null_executor(answer: Callable[[InvocationContext], tuple[int, str, str]]) -> Executor:
    """Runs nothing: the result is ``answer(context)`` = (exit code, stdout, stderr), unless an
    interrupt came while it was made."""

    def run(context: InvocationContext) -> StepResult:
        exit_code, stdout, stderr = answer(context)
        reason = context.interrupt.reason
        outcome = Outcome.EXITED if reason is None else OUTCOMES[reason]
        return StepResult(exit_code=exit_code, stdout=stdout, stderr=stderr, outcome=outcome)

    return run


def applied(context: InvocationContext) -> tuple[int, str, str]:
    """Success with the payload's tree; without any output for a command that has no payload."""
    try:
        payload = decode_payload(str(context.parameters[PAYLOAD_PARAMETER]))
        line = _result_line(payload)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return 0, "", ""
    return 0, f"{json.dumps(line, separators=(',', ':'))}\n", ""


def _result_line(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        RESULT_KEY: RESULT_FORMAT,
        "run_id": payload["run_id"],
        "status": "applied",
        "project": payload["project"],
        "release_id": release_id(payload["digest"]),
        "digest": payload["digest"],
        "files": payload["files"],
        "manifest": bool(payload["digest"]),
    }


@dataclass(frozen=True, kw_only=True)
class LocalInstance:
    """A managed instance whose file system is the directory ``root``.

    ``executor`` is ``"shell"`` (real processes), ``"null"`` (none, for fleets) or an
    Executor of one's own, or ``"agent"``: an agent that polls for messages, and is there when
    it has said so (``last_ping``).
    """

    instance_id: str
    root: Path
    tags: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    platform_type: str = "Linux"
    platform_name: str = "Debian GNU/Linux"
    platform_version: str = "13"
    agent_version: str = "3.3.3050.0"
    ip_address: str = "127.0.0.1"
    executor: str | Executor = "shell"
    registered: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_ping: datetime | None = None

    @property
    def polls(self) -> bool:
        """Whether an agent of its own fetches its commands."""
        return self.executor == POLLING

    @property
    def home(self) -> Path:
        """Where Codeferry keeps its projects on this instance."""
        return self.root / "opt" / "codeferry"

    def to_json(self) -> dict[str, Any]:
        """What the control endpoint shows of it."""
        return {
            "instance_id": self.instance_id,
            "root": str(self.root),
            "tags": dict(self.tags),
            "name": self.name,
            "executor": self.executor if isinstance(self.executor, str) else "custom",
        }


class Fleet:
    """The registered instances; safe to use from many threads."""

    def __init__(self) -> None:
        self._instances: dict[str, LocalInstance] = {}
        self._lock = threading.Lock()
        self._on_change: list[Callable[[], None]] = []

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` after each registration, removal or change of tags."""
        self._on_change.append(on_change)

    def add(self, instance: LocalInstance) -> None:
        """Register an instance, or replace the one with its id."""
        with self._lock:
            self._instances[instance.instance_id] = instance
        self._changed()

    def remove(self, instance_id: str) -> None:
        """Forget an instance; commands under way to it become Undeliverable."""
        with self._lock:
            self._instances.pop(instance_id, None)
        self._changed()

    def tag(self, instance_id: str, tags: Mapping[str, str]) -> None:
        """Add or overwrite tags; raises InvalidInstanceId."""
        instance = self.require([instance_id])[0]
        self.add(replace(instance, tags={**instance.tags, **tags}))

    def get(self, instance_id: str) -> LocalInstance | None:
        """The instance, if it is registered."""
        with self._lock:
            return self._instances.get(instance_id)

    def all(self) -> list[LocalInstance]:
        """Every instance, in the order of registration."""
        with self._lock:
            return list(self._instances.values())

    def require(self, instance_ids: Sequence[str], account: str = "") -> list[LocalInstance]:
        """The instances of these ids; one that is unknown refuses them all, as AWS does."""
        with self._lock:
            unknown = [i for i in instance_ids if i not in self._instances]
            if unknown:
                raise InvalidInstanceId(
                    f"Instances [[{', '.join(unknown)}]] not in a valid state for account {account}"
                )
            return [self._instances[i] for i in instance_ids]

    def _changed(self) -> None:
        for on_change in self._on_change:
            on_change()


def targeted(
    fleet: Fleet, targets: Iterable[Mapping[str, Any]], account: str
) -> list[LocalInstance]:
    """The instances that every target (``tag:K``, ``tag-key``, ``InstanceIds``) selects."""
    chosen = fleet.all()
    for target in targets:
        key, values = target.get("Key", ""), target.get("Values", [])
        if key == "InstanceIds":
            fleet.require(values, account)
        chosen = [instance for instance in chosen if _selects(key, values, instance)]
    return chosen


def _selects(key: str, values: Sequence[str], instance: LocalInstance) -> bool:
    if key == "InstanceIds":
        return instance.instance_id in values
    if key == "tag-key":
        return any(value in instance.tags for value in values)
    if key.startswith("tag:"):
        return instance.tags.get(key[4:]) in values
    raise ValidationException(
        f"Target key {key!r} is not supported here; use InstanceIds, tag:KEY or tag-key."
    )
