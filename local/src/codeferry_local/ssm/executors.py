"""What runs one step of a document on an instance.

The shell executor has its own module; the null executor here costs no process, so a
fleet of ten thousand instances is only a dictionary.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from codeferry_local.ssm.instances import LocalInstance
    from codeferry_local.ssm.log_stream import StepLog


# Exit codes that mean something to the agent: it stopped the step itself, the step asks for a
# reboot, or for the document to end here, well or badly.
STOPPED, REBOOT, EXIT_WITH_SUCCESS, EXIT_WITH_FAILURE = 137, 194, 168, 169


class Reason(Enum):
    """Why a running step is interrupted."""

    CANCEL = auto()
    LOST = auto()
    STOP = auto()


class Ending(Enum):
    """How a step came to its end."""

    EXITED = auto()
    TIMED_OUT = auto()
    CANCELLED = auto()
    LOST = auto()


# How a step ends for which reason.
ENDINGS = {Reason.CANCEL: Ending.CANCELLED, Reason.LOST: Ending.LOST, Reason.STOP: Ending.LOST}


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
class StepOutcome:
    """How a step ended: exit code, and the heads of its two outputs."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    ending: Ending = Ending.EXITED


class Executor(Protocol):
    """Runs one step; called from several threads at once."""

    def run(self, context: InvocationContext) -> StepOutcome:
        """Run the step to its end, its timeout or its interrupt."""
        ...


Answer = Callable[[InvocationContext], tuple[int, str, str]]


class NullExecutor:
    """Runs nothing and answers with ``answer(context)`` = (exit code, stdout, stderr)."""

    def __init__(self, answer: Answer = lambda _: (0, "", "")) -> None:
        self._answer = answer

    def run(self, context: InvocationContext) -> StepOutcome:
        """The answer, unless an interrupt came while it was made."""
        exit_code, stdout, stderr = self._answer(context)
        reason = context.interrupt.reason
        ending = Ending.EXITED if reason is None else ENDINGS[reason]
        return StepOutcome(exit_code=exit_code, stdout=stdout, stderr=stderr, ending=ending)
