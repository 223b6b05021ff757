"""report: how the run went, for people (S3), for dashboards (metrics), for others (event)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from codeferry_contracts.report import EVENT_RUN_FINISHED, EVENT_SOURCE, ErrorRecord, Report
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.observability import Event, entry, logger, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.report_page.page import render
from codeferry_lambdas.runs.announce import announcement, count_run, duration
from codeferry_lambdas.runs.record import Record, Run
from codeferry_lambdas.runs.report import Known, build_report

_ANNOUNCED = ("run_id", "workflow", "stage", "status", "project", "target", "counts", "error")


@entry
@phase("report")
def handler(event: Event) -> dict[str, Any]:
    """Takes ``run``, ``request`` and the execution's ``state``; returns whether the run
    ``succeeded`` and, if not, the ``error`` code and readable ``cause`` to end with."""
    settings, run = Settings.from_env(), Run(**event["run"])
    report = gather(settings, run, event["request"], event["state"])
    record = Record(settings.bucket, run.keys)
    record.write(run.keys.report, report)
    write_page(settings.bucket, run, report)
    announce(report)
    return execution_output(report)


def gather(
    settings: Settings,
    run: Run,
    request: Any,
    state: dict[str, Any],
    stopped: ErrorRecord | None = None,
) -> Report:
    """The report of what the run left behind in S3."""
    record = Record(settings.bucket, run.keys)
    plan = record.find_plan()
    known = Known(
        run=run,
        stage=settings.stage.name,
        request=request,
        finished_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        state=state,
        plan=plan,
        outcomes=record.outcomes(len(plan.batches)) if plan else (),
        verification=record.read(run.keys.verification) if plan else None,
        stopped=stopped,
    )
    return build_report(known)


def write_page(bucket: str, run: Run, report: Report) -> None:
    """The report as a page. A page that cannot be made costs a warning in the log: the run's
    outcome is in report.json, and may not depend on how it looks."""
    try:
        body = render(report).encode()
    except Exception:  # noqa: BLE001 - logged with its traceback
        logger.exception("The report's page could not be made.")
        return
    kind = "text/html; charset=utf-8"
    clients.s3().put_object(Bucket=bucket, Key=run.keys.page, Body=body, ContentType=kind)


def announce(report: Report) -> None:
    """Metrics, and one event that carries the counts but not the instances."""
    count_run(report)
    detail = {name: value for name, value in report.items() if name in _ANNOUNCED}
    detail["duration_seconds"] = round(duration(report), 3)
    detail["summary"] = announcement(report)
    clients.events().put_events(
        Entries=[
            {
                "Source": EVENT_SOURCE,
                "DetailType": EVENT_RUN_FINISHED,
                "Detail": json.dumps(detail),
            }
        ]
    )


def execution_output(report: Report) -> dict[str, Any]:
    """What the execution ends with."""
    error = report["error"]
    if error is None:
        counts = report["counts"]
        cause = f"{counts['succeeded']}/{counts['total']} instances succeeded."
        return {"succeeded": True, "error": "", "cause": cause}
    cause = f"{error['message']} {error['hint']}".strip()
    return {"succeeded": False, "error": error["code"], "cause": cause}
