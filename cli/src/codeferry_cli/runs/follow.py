"""Follow a run: poll its execution and say what changes, until it ends or the time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import FAILED, Interrupted, StillRunning
from codeferry_cli.options.groups import Waiting
from codeferry_cli.runs.execution import (
    NOTHING_YET,
    Execution,
    Timeline,
    describe,
    phase_label,
    read_history,
    stop_execution,
)
from codeferry_cli.runs.record import RunRecord
from codeferry_cli.terminal.live_output import LiveOutput
from codeferry_cli.terminal.progress import Progress
from codeferry_cli.terminal.report_view import MOST_ROWS, outcome_line
from codeferry_contracts import formatting
from codeferry_contracts.report import Outcome

_FIRST_INTERVAL = 0.3  # seconds; a small run on a quick stage ends within one or two
_LONGEST_INTERVAL = 3.0  # seconds; a day's run then costs 2 % of the API's rate
_LONGEST_WITH_OUTPUT = 1.5  # seconds; what a command prints is wanted sooner
_GROWTH = 1.3
_SETTLING = 1.0  # seconds until what was printed is in the log, as far as one can know
_COUNT_INTERVAL = 1.0  # seconds between two counts of instances that are lines
_MOST_READ = 1000  # outcomes that are looked at for failures while the run goes on

_DOING = {
    "plan": "Planning",
    "dispatch": "Dispatching",
    "apply": "Applying",
    "run": "Running",
    "verify": "Verifying",
    "return": "Returning the wave",
    "cleanup": "Cleaning up",
    "report": "Reporting",
}

_CANCELLED = "is cancelled"


@dataclass(frozen=True)
class Followed:
    """A run that ended: its execution and what its history says."""

    execution: Execution
    timeline: Timeline


class Follower:
    """Watches one run and tells ``progress`` about it.

    ``output`` shows what its command prints; None for a run that has none.
    """

    def __init__(
        self,
        stage: DeployedStage,
        workflow: str,
        run_id: str,
        progress: Progress,
        output: LiveOutput | None = None,
        *,
        cancel: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._workflow = workflow
        self._run_id = run_id
        self._record = RunRecord(stage, run_id)
        self._progress = progress
        self._output = output
        self._cancel = cancel
        self._sleep = sleep
        self._clock = clock
        self._timeline = NOTHING_YET
        self._told_phases: set[str] = set()
        self._told_instances: set[str] = set()
        self._planned: int | None = None
        self._failed = 0
        self._counted_at = -math.inf
        self._count = 0

    def follow(self, patience: float | None = None) -> Followed:
        """Wait for the end of the run, at most ``patience`` seconds.

        Raises StillRunning when patience ends first, Interrupted on Ctrl-C and SIGTERM; the run
        goes on in both cases, unless it is to be cancelled then.
        """
        with explain_interruption(self._stage, self._workflow, self._run_id, cancel=self._cancel):
            execution = self._watch(patience)
            self._settle()
        return Followed(execution, self._timeline)

    def _settle(self) -> None:
        """What the command printed last becomes visible a moment after it has ended."""
        span = self._timeline.spans.get("apply")
        if span and span.ended:
            self._settle_since(span.ended, datetime.now(tz=span.ended.tzinfo))

    def _settle_since(self, ended: datetime, now: datetime) -> None:
        left = _SETTLING - (now - ended).total_seconds()
        if self._output and self._output.shown and left > 0:
            self._sleep(min(_SETTLING, left))
            self._output.show_news(ended=True)

    def _watch(self, patience: float | None) -> Execution:
        begun = self._clock()
        interval = _FIRST_INTERVAL
        longest = _LONGEST_WITH_OUTPUT if self._output else _LONGEST_INTERVAL
        while True:
            # The execution first, its history after: what was read last is then complete.
            execution = describe(self._stage, self._workflow, self._run_id)
            self._tell_news(execution)
            if not execution.running:
                return execution
            waited = self._clock() - begun
            if patience is not None and waited >= patience:
                raise self._out_of_patience(waited)
            left = interval if patience is None else min(interval, patience - waited)
            self._sleep(left)
            interval = min(interval * _GROWTH, longest)

    def _tell_news(self, execution: Execution) -> None:
        self._timeline = read_history(self._stage, self._workflow, self._run_id, self._timeline)
        timeline, current = self._timeline, self._timeline.current
        if self._output and "dispatch" in timeline.spans:
            self._output.show_news(ended=not execution.running)
        for phase in timeline.over() if execution.running else timeline.begun():
            self._tell_end_of(phase)
        if current and execution.running:
            if current == "apply":
                self._tell_instances()
            self._progress.now(self._doing(current), mark=(current, self._count))

    def _tell_end_of(self, phase: str) -> None:
        if phase in self._told_phases:
            return
        if phase == "apply":
            self._tell_instances()
        self._told_phases.add(phase)
        took = formatting.seconds(self._timeline.seconds(phase))
        self._progress.line(f"{self._label(phase):<9} {took}")

    def _doing(self, phase: str) -> str:
        started = self._timeline.spans[phase].started
        elapsed = max(0.0, (datetime.now(tz=started.tzinfo) - started).total_seconds())
        clock = formatting.seconds(elapsed) if elapsed >= 1 else ""
        further = ", ".join(filter(None, (clock, self._arrived())))
        return f"{_DOING[self._label(phase)]}… {further}".rstrip()

    def _arrived(self) -> str:
        done, planned = len(self._told_instances), self._planned
        if not done:
            return ""
        count = f"{done:,} of {formatting.counted(planned, 'instance')}" if planned else f"{done:,}"
        least = "at least " if done > _MOST_READ else ""
        return f"{count} done" + (f", {least}{self._failed:,} failed" if self._failed else "")

    def _label(self, phase: str) -> str:
        return phase_label(phase, command=self._output is not None)

    def _tell_instances(self) -> None:
        """Each instance as it is done; of many only a count, and some that failed."""
        if self._planned is None:
            self._planned = self._record.planned_instances()
        fresh = [i for i in self._record.finished_instances() if i not in self._told_instances]
        room = max(0, _MOST_READ - len(self._told_instances))
        for outcome in self._record.outcomes(fresh[:room]):
            self._tell_instance(outcome)
        self._told_instances.update(fresh)
        if self._many and self._clock() - self._counted_at >= _COUNT_INTERVAL:
            self._counted_at, self._count = self._clock(), len(self._told_instances)

    @property
    def _many(self) -> bool:
        return max(self._planned or 0, len(self._told_instances)) > MOST_ROWS

    def _tell_instance(self, outcome: Outcome) -> None:
        failed = outcome["status"] == "failed"
        self._failed += failed
        if not self._many or (failed and self._failed <= MOST_ROWS):
            self._progress.line(f"  {outcome_line(outcome)}")

    def _out_of_patience(self, waited: float) -> StillRunning:
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


def follow(
    stage: DeployedStage,
    workflow: str,
    run_id: str,
    progress: Progress,
    waiting: Waiting,
    output: LiveOutput | None = None,
) -> Followed | None:
    """Follow the run as ``--wait`` and ``--wait-timeout`` say; None when nobody waits."""
    if not waiting.wait:
        return None
    cancel = waiting.cancel_on_exit
    follower = Follower(stage, workflow, run_id, progress, output, cancel=cancel)
    return follower.follow(waiting.wait_timeout)
