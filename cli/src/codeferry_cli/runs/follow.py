"""Follow a run: poll its execution and say what changes, until it ends or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import FAILED, Interrupted, StillRunning
from codeferry_cli.runs.execution import (
    NOTHING_YET,
    Execution,
    Timeline,
    describe,
    read_history,
    stop_execution,
)
from codeferry_cli.runs.record import RunRecord
from codeferry_contracts import formatting
from codeferry_contracts.report import Outcome

_FIRST_INTERVAL = 0.3  # seconds; a small run on a quick stage ends within one or two
_LONGEST_INTERVAL = 3.0  # seconds; a day's run then costs 2 % of the API's rate
_LONGEST_WITH_OUTPUT = 1.5  # seconds; what a command prints is wanted sooner
_GROWTH = 1.3
_SETTLING = 1.0  # seconds until what was printed is in the log, as far as one can know
MOST_READ = 1000  # outcomes that are looked at for failures while the run goes on

_CANCELLED = "is cancelled"


@dataclass(frozen=True)
class Followed:
    """A run that ended: its execution and what its history says."""

    execution: Execution
    timeline: Timeline


@dataclass(frozen=True)
class InstanceCount:
    """Instances of a run: ``planned`` is None until it is known; ``ended`` are those that have
    been read as ended, ``failed`` those of them whose outcome was looked at and is that."""

    planned: int | None = None
    ended: int = 0
    failed: int = 0


class RunEvents(Protocol):
    """Hears what changes in a run that is followed."""

    @property
    def watches_output(self) -> bool:
        """Whether what a command prints is looked for at each look."""

    @property
    def wants_last_output(self) -> bool:
        """Whether to wait for what was printed last, which is in the log a moment later."""

    def look_for_output(self, *, ended: bool) -> None:
        """Commands have been sent; ``ended``: nothing more will be printed."""

    def instance_ended(self, outcome: Outcome, count: InstanceCount) -> None: ...

    def counted(self, count: InstanceCount) -> None: ...

    def phase_ended(self, phase: str, seconds: float) -> None: ...

    def phase_running(self, phase: str, seconds: float) -> None: ...


class Follower:
    """Watches one run and tells ``events`` about it."""

    def __init__(
        self,
        stage: DeployedStage,
        workflow: str,
        run_id: str,
        events: RunEvents,
        *,
        cancel: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._workflow = workflow
        self._run_id = run_id
        self._record = RunRecord(stage, run_id)
        self._events = events
        self._cancel = cancel
        self._sleep = sleep
        self._clock = clock
        self._timeline = NOTHING_YET
        self._ended_phases: set[str] = set()
        self._ended_instances: set[str] = set()
        self._planned: int | None = None
        self._failed = 0

    def follow(self, timeout: float | None = None) -> Followed:
        """Wait for the end of the run, at most ``timeout`` seconds.

        Raises StillRunning when timeout ends first, Interrupted on Ctrl-C and SIGTERM; the run
        goes on in both cases, unless it is to be cancelled then.
        """
        with explain_interruption(self._stage, self._workflow, self._run_id, cancel=self._cancel):
            execution = self._watch(timeout)
            self._settle()
        return Followed(execution, self._timeline)

    def _settle(self) -> None:
        """What the command printed last becomes visible a moment after it has ended."""
        span = self._timeline.spans.get("apply")
        if span and span.ended:
            self._settle_since(span.ended, datetime.now(tz=span.ended.tzinfo))

    def _settle_since(self, ended: datetime, now: datetime) -> None:
        left = _SETTLING - (now - ended).total_seconds()
        if self._events.wants_last_output and left > 0:
            self._sleep(min(_SETTLING, left))
            self._events.look_for_output(ended=True)

    def _watch(self, timeout: float | None) -> Execution:
        begun = self._clock()
        interval = _FIRST_INTERVAL
        longest = _LONGEST_WITH_OUTPUT if self._events.watches_output else _LONGEST_INTERVAL
        while True:
            # The execution first, its history after: what was read last is then complete.
            execution = describe(self._stage, self._workflow, self._run_id)
            self._tell_news(execution)
            if not execution.running:
                return execution
            waited = self._clock() - begun
            if timeout is not None and waited >= timeout:
                raise self._out_of_timeout(waited)
            left = interval if timeout is None else min(interval, timeout - waited)
            self._sleep(left)
            interval = min(interval * _GROWTH, longest)

    def _tell_news(self, execution: Execution) -> None:
        self._timeline = read_history(self._stage, self._workflow, self._run_id, self._timeline)
        timeline, current = self._timeline, self._timeline.current
        if "dispatch" in timeline.spans:
            self._events.look_for_output(ended=not execution.running)
        for phase in timeline.over() if execution.running else timeline.begun():
            self._tell_end_of(phase)
        if current and execution.running:
            if current == "apply":
                self._tell_instances()
            started = timeline.spans[current].started
            elapsed = (datetime.now(tz=started.tzinfo) - started).total_seconds()
            self._events.phase_running(current, max(0.0, elapsed))

    def _tell_end_of(self, phase: str) -> None:
        if phase in self._ended_phases:
            return
        if phase == "apply":
            self._tell_instances()
        self._ended_phases.add(phase)
        self._events.phase_ended(phase, self._timeline.seconds(phase))

    def _tell_instances(self) -> None:
        if self._planned is None:
            self._planned = self._record.planned_instances()
        fresh = [i for i in self._record.finished_instances() if i not in self._ended_instances]
        room = max(0, MOST_READ - len(self._ended_instances))
        for outcome in self._record.outcomes(fresh[:room]):
            self._failed += outcome["status"] == "failed"
            self._events.instance_ended(outcome, self._counts())
        self._ended_instances.update(fresh)
        self._events.counted(self._counts())

    def _counts(self) -> InstanceCount:
        return InstanceCount(self._planned, len(self._ended_instances), self._failed)

    def _out_of_timeout(self, waited: float) -> StillRunning:
        goes_on, hint = _leave_run(self._stage, self._workflow, self._run_id, cancel=self._cancel)
        return StillRunning(
            f"The run {self._run_id} has not ended after {formatting.seconds(waited)};"
            f" it {goes_on}.",
            hint=hint,
            exit_code=FAILED if goes_on == _CANCELLED else None,
            details={"run_id": self._run_id},
        )


@contextmanager
def explain_interruption(
    stage: DeployedStage, workflow: str, run_id: str, *, cancel: bool
) -> Iterator[None]:
    """Say what becomes of a run that was or is being started where Ctrl-C or SIGTERM ends the
    watching: Interrupted. With ``cancel`` it is stopped."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        goes_on, hint = _leave_run(stage, workflow, run_id, cancel=cancel)
        raise Interrupted(
            f"Stopped watching. The run {run_id} {goes_on}.",
            hint=hint,
            details={"run_id": run_id},
        ) from interrupt


def _leave_run(
    stage: DeployedStage, workflow: str, run_id: str, *, cancel: bool
) -> tuple[str, str]:
    """What becomes of the run, and what to do about it."""
    look = f"Look again: ferry status {run_id}{stage.option()}"
    if not cancel:
        return "goes on", f"{look}\nStop it:    ferry cancel {run_id}{stage.option()}"
    try:
        stop_execution(stage, workflow, run_id, "Cancelled by --cancel-on-exit.")
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is then not known to end
        said = f"could not be cancelled: {error}"
        return said, f"{look}\nStop it:    ferry cancel {run_id}{stage.option()}"
    return _CANCELLED, look
