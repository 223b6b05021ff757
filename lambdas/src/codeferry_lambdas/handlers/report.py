"""report: how the run went, for people (S3), for dashboards (metrics), for others (event)."""

from __future__ import annotations

from typing import Any

from codeferry_lambdas.aws.observability import Event, entry, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.report_page.page import write_page
from codeferry_lambdas.runs.announce import announce
from codeferry_lambdas.runs.record import Record, Run
from codeferry_lambdas.runs.report import execution_output, gather


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
