"""A run as it goes: upload, phases, instances and output while it is followed, then its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import FAILED, REFUSED, RunFailed
from codeferry_cli.options.groups import Waiting
from codeferry_cli.packing.project import BeforeEnd, Prepared
from codeferry_cli.runs import upload
from codeferry_cli.runs.execution import Execution, phase_label
from codeferry_cli.runs.follow import MOST_READ, Followed, Follower, InstanceCount
from codeferry_cli.runs.record import await_report, failure_of_execution
from codeferry_cli.runs.upload import UploadedArchive
from codeferry_cli.terminal.output import Output
from codeferry_cli.terminal.progress import Progress
from codeferry_cli.views import packing_view, report_view
from codeferry_cli.views.live_output import LiveOutput
from codeferry_cli.views.report_view import MOST_ROWS, outcome_line
from codeferry_contracts import formatting
from codeferry_contracts.report import ErrorRecord, Outcome, Report

_STEPS = 4  # lines of upload progress off a terminal
_COUNT_INTERVAL = 1.0  # seconds between two counts of instances that are lines

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


def upload_archive(
    stage: DeployedStage,
    prepared: Prepared,
    key: str,
    progress: Progress,
    before_end: BeforeEnd | None = None,
) -> UploadedArchive:
    """``runs.upload.upload_archive``, shown."""
    progress.line(packing_view.start_line(prepared))
    view = UploadView(prepared, progress)
    sent = upload.upload_archive(stage, prepared, key, view, before_end)
    progress.line(packing_view.end_line(sent.packed))
    return sent


def uploaded_json(run_id: str, prepared: Prepared, sent: UploadedArchive) -> dict[str, Any]:
    """What the ``--json`` answer says of a run and its archive."""
    return {
        "run_id": run_id,
        "key": sent.archive.key,
        "version_id": sent.archive.version_id,
        **packing_view.packed_json(prepared, sent.packed),
    }


class UploadView:
    """Show how far packing and upload are.

    Nobody knows the archive's size before it is whole: it is estimated from the share of
    the files' bytes that are packed, and so exact at the end.
    """

    def __init__(self, prepared: Prepared, progress: Progress) -> None:
        self._progress = progress
        self._files_bytes = max(1, prepared.selection.bytes)
        self._estimate = 0.0
        self._uploaded = 0

    def packed(self, archive: int, files: int) -> None:
        if files:
            self._estimate = archive * max(1.0, self._files_bytes / files)

    def uploaded(self, size: int) -> None:
        self._uploaded += size
        share = min(100, round(100 * self._uploaded / max(self._estimate, self._uploaded, 1)))
        text = f"Uploading… {share} % ({formatting.size(self._uploaded)})"
        self._progress.now(text, mark=("upload", share * _STEPS // 100))


class RunView:
    """Shows a run that is followed: a line for each phase, for each of few instances, and a line
    that is drawn anew meanwhile. ``output`` shows what its command prints; None for a run that
    has none."""

    def __init__(
        self,
        progress: Progress,
        output: LiveOutput | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._output = output
        self._clock = clock
        self._count = InstanceCount()
        self._shown_count = 0
        self._counted_at = -math.inf

    @property
    def watches_output(self) -> bool:
        return self._output is not None

    @property
    def wants_last_output(self) -> bool:
        return self._output is not None and self._output.shown

    def look_for_output(self, *, ended: bool) -> None:
        if self._output:
            self._output.show_news(ended=ended)

    def instance_ended(self, outcome: Outcome, count: InstanceCount) -> None:
        """Each instance as it is done; of many only some that failed."""
        failed = outcome["status"] == "failed"
        if not _are_many(count) or (failed and count.failed <= MOST_ROWS):
            self._progress.line(f"  {outcome_line(outcome)}")

    def counted(self, count: InstanceCount) -> None:
        self._count = count
        if _are_many(count) and self._clock() - self._counted_at >= _COUNT_INTERVAL:
            self._counted_at, self._shown_count = self._clock(), count.ended

    def phase_ended(self, phase: str, seconds: float) -> None:
        self._progress.line(f"{self._label(phase):<9} {formatting.seconds(seconds)}")

    def phase_running(self, phase: str, seconds: float) -> None:
        clock = formatting.seconds(seconds) if seconds >= 1 else ""
        further = ", ".join(filter(None, (clock, _done(self._count))))
        text = f"{_DOING[self._label(phase)]}… {further}".rstrip()
        self._progress.now(text, mark=(phase, self._shown_count))

    def _label(self, phase: str) -> str:
        return phase_label(phase, command=self.watches_output)


def _are_many(count: InstanceCount) -> bool:
    return max(count.planned or 0, count.ended) > MOST_ROWS


def _done(count: InstanceCount) -> str:
    if not count.ended:
        return ""
    planned = count.planned
    of = f" of {formatting.counted(planned, 'instance')}" if planned else ""
    least = "at least " if count.ended > MOST_READ else ""
    failed = f", {least}{count.failed:,} failed" if count.failed else ""
    return f"{count.ended:,}{of} done{failed}"


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
    follower = Follower(stage, workflow, run_id, RunView(progress, output), cancel=cancel)
    return follower.follow(waiting.wait_timeout)


def show_outcome(
    stage: DeployedStage,
    followed: Followed | None,
    output: Output,
    facts: Mapping[str, Any],
) -> None:
    """Show the end of a run, or only that it began when nobody waited for the end.

    ``facts`` go into the ``--json`` answer, success or not. Raises RunFailed unless all
    of it went well.
    """
    if followed is None:
        output.line(f"The run {facts['run_id']} goes on.")
        output.line(f"  Look: ferry status {facts['run_id']}{stage.option()}")
        output.document(facts)
        return
    report = await_report(stage, followed.execution)
    answer = {**facts, "phases": followed.timeline.to_json(), "report": report}
    if report:
        report_view.show_report(report, output, option=stage.option())
    error = _failure(followed.execution, report)
    if error:
        raise RunFailed(
            error["message"],
            hint=error["hint"],
            code=error["code"],
            exit_code=FAILED if report is None or _anything_sent(report) else REFUSED,
            details=answer,
        )
    output.document(answer)


def _anything_sent(report: Report) -> bool:
    """Whether any instance was sent anything."""
    return any(outcome["command_id"] for outcome in report["instances"])


def _failure(execution: Execution, report: Report | None) -> ErrorRecord | None:
    if report is None:
        return failure_of_execution(execution)
    return None if report["status"] == "SUCCEEDED" else report_view.failure(report)
