"""How a run ended, said: its report, or what is known when it left none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from codeferry_cli import report_view
from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import FAILED, REFUSED, RunFailed
from codeferry_cli.execution import Execution
from codeferry_cli.follow import Followed
from codeferry_cli.record import RunRecord
from codeferry_cli.terminal.output import Output
from codeferry_contracts.report import ErrorRecord, Report

# A run that was stopped gets its report from the abort function, a moment later.
_LATE = ("ABORTED", "TIMED_OUT")
_REPORT_TRIES = 240  # the instances are asked first, for up to 95 s
_REPORT_INTERVAL = 0.5  # seconds


def conclude(
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
        report_view.show(report, output, option=stage.option())
    error = _failure(followed.execution, report)
    if error:
        raise RunFailed(
            error["message"],
            hint=error["hint"],
            code=error["code"],
            exit_code=FAILED if report is None or _sent(report) else REFUSED,
            details=answer,
        )
    output.document(answer)


def _sent(report: Report) -> bool:
    """Whether any instance was sent anything."""
    return any(outcome["command_id"] for outcome in report["instances"])


def _failure(execution: Execution, report: Report | None) -> ErrorRecord | None:
    if report is None:
        return cause_of_death(execution)
    return None if report["status"] == "SUCCEEDED" else report_view.failure(report)


def await_report(
    stage: DeployedStage, execution: Execution, sleep: Callable[[float], None] = time.sleep
) -> Report | None:
    """The report of a run that ended; one that was stopped may have it only a moment later."""
    record = RunRecord(stage, execution.run_id)
    tries = _REPORT_TRIES if execution.status in _LATE else 1
    for _ in range(tries - 1):
        report = record.report()
        if report is not None:
            return report
        sleep(_REPORT_INTERVAL)
    return record.report()


def cause_of_death(execution: Execution) -> ErrorRecord:
    """Why an execution without a report ended, from Step Functions' error and cause."""
    said = _message(execution.cause)
    error = execution.error or execution.status
    return {
        "code": "run_failed",
        "message": f"The run {execution.run_id} ended {execution.status} without a report"
        f" ({error}{': ' if said else ''}{said}).",
        "hint": "Its history is in the Step Functions console.",
    }


def _message(cause: str) -> str:
    """A Lambda's error message out of its cause, which is JSON, itself perhaps around JSON."""
    try:
        document = json.loads(cause)
    except ValueError:
        return cause
    if not isinstance(document, dict):
        return cause
    inner = document.get("errorMessage") or document.get("message")
    return _message(inner) if isinstance(inner, str) else cause
