"""abort: an execution that was stopped stops on the instances too."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from codeferry_contracts.report import ErrorRecord
from codeferry_lambdas.aws.observability import Event, entry
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.report_page.page import write_page
from codeferry_lambdas.runs import cancelled
from codeferry_lambdas.runs.announce import announce
from codeferry_lambdas.runs.cleanup import clean_up
from codeferry_lambdas.runs.record import Record, Run
from codeferry_lambdas.runs.report import gather

_REASONS: dict[str, ErrorRecord] = {
    "ABORTED": {"code": "cancelled", "message": "The run was stopped.", "hint": ""},
    "TIMED_OUT": {
        "code": "run_timed_out",
        "message": "The execution ran longer than it may.",
        "hint": "Split the target or lower options.timeout_seconds.",
    },
}


@entry
def handler(event: Event) -> None:
    """Takes EventBridge's "Step Functions Execution Status Change" of a stopped run. A
    report that exists stays: the run had ended before it was stopped."""
    settings, detail = Settings.from_env(), event["detail"]
    run, request = stopped_run(settings, detail), _request(detail)
    clean_up(settings, run, request)
    cancelled.record_outcomes(settings, run)
    report = gather(settings, run, request, {}, _REASONS[detail["status"]])
    record = Record(settings.bucket, run.keys)
    if record.write(run.keys.report, report, new=True):
        write_page(settings.bucket, run, report)
        announce(report)


def stopped_run(settings: Settings, detail: Event) -> Run:
    """The run from its event, whose dates are milliseconds since 1970."""
    started = datetime.fromtimestamp(detail["startDate"] / 1000, UTC)
    machine = detail["stateMachineArn"].rsplit(":", 1)[-1]
    workflow = machine.removeprefix(settings.stage.state_machine(""))
    return Run(detail["name"], started.isoformat(timespec="milliseconds"), workflow)


def _request(detail: Event) -> Any:
    """The execution's input; the event leaves out one that is too large."""
    return json.loads(detail["input"]) if detail.get("input") else None
