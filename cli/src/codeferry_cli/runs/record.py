"""Read what a run leaves in S3: report, commands, outcomes of instances."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import click

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import PageMissing
from codeferry_cli.runs.execution import Execution
from codeferry_contracts.layout import RunKeys
from codeferry_contracts.report import CommandRecord, ErrorRecord, Outcome, Report

_READERS = 8
# S3 answers 403 for a missing key to an identity that may not list the bucket.
_ABSENT = {"NoSuchKey", "404", "403", "AccessDenied"}


class RunRecord:
    """What a run leaves under ``runs/<run_id>/``."""

    def __init__(self, stage: DeployedStage, run_id: str) -> None:
        self._stage = stage
        self._keys = RunKeys(run_id)

    def report(self) -> Report | None:
        """The report; None while there is none."""
        return cast("Report | None", self._read(self._keys.report))

    def request(self) -> dict[str, Any] | None:
        return self._read(self._keys.request)

    def planned_instances(self) -> int | None:
        """How many instances the run is about, reachable or not; None until it is planned."""
        plan = self._read(self._keys.targets)
        if plan is None:
            return None
        return sum(map(len, plan["batches"])) + len(plan["unreachable"])

    def page(self) -> bytes | None:
        """The report as an HTML page; None when there is none."""
        return self._body(self._keys.page)

    def commands(self, known: Container[str] = ()) -> Iterator[tuple[str, CommandRecord]]:
        """What the run's batches were sent as so far, by key; less those ``known`` by theirs."""
        for key in self._listed(self._keys.commands):
            if key not in known and (found := self._read(key)):
                yield key, cast("CommandRecord", found)

    def named(self, name: str) -> list[str]:
        """The ids of the run's instances of that name, as its plan has them."""
        plan = self._read(self._keys.targets) or {"batches": []}
        instances = [i for batch in plan["batches"] for i in batch]
        return [str(i["instance_id"]) for i in instances if i["name"] == name]

    def finished_instances(self) -> Iterator[str]:
        """The ids of the instances that have an outcome."""
        for key in self._listed(self._keys.instances):
            yield key.removeprefix(self._keys.instances).removesuffix(".json")

    def outcomes(self, instance_ids: list[str]) -> list[Outcome]:
        """The outcomes of these instances, in this order; one that is gone is left out."""
        with ThreadPoolExecutor(_READERS) as readers:
            found = readers.map(self._read, map(self._keys.instance, instance_ids))
            return [cast("Outcome", outcome) for outcome in found if outcome]

    def _listed(self, prefix: str) -> Iterator[str]:
        pages = self._stage.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._stage.bucket, Prefix=prefix
        )
        for page in pages:
            for entry in page.get("Contents", ()):
                yield entry["Key"]

    def _read(self, key: str) -> dict[str, Any] | None:
        body = self._body(key)
        return None if body is None else json.loads(body)

    def _body(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        try:
            answer = self._stage.s3.get_object(Bucket=self._stage.bucket, Key=key)
            body: bytes = answer["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return None
            raise
        return body


# A run that was stopped gets its report from the abort function, a moment later.
_LATE = ("ABORTED", "TIMED_OUT")
_REPORT_TRIES = 240  # the instances are asked first, for up to 95 s
_REPORT_INTERVAL = 0.5  # seconds


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


def failure_of_execution(execution: Execution) -> ErrorRecord:
    """Why an execution without a report ended, from Step Functions' error and cause."""
    said = _message_of_cause(execution.cause)
    error = execution.error or execution.status
    return {
        "code": "run_failed",
        "message": f"The run {execution.run_id} ended {execution.status} without a report"
        f" ({error}{': ' if said else ''}{said}).",
        "hint": "Its history is in the Step Functions console.",
    }


def _message_of_cause(cause: str) -> str:
    """A Lambda's error message out of its cause, which is JSON, itself perhaps around JSON."""
    try:
        document = json.loads(cause)
    except ValueError:
        return cause
    if not isinstance(document, dict):
        return cause
    inner = document.get("errorMessage") or document.get("message")
    return _message_of_cause(inner) if isinstance(inner, str) else cause


def open_page(stage: DeployedStage, execution: Execution) -> Path:
    """Fetch the run's page into the user's cache and have the browser show it.

    Gives the file, for where there is no browser. Raises PageMissing.
    """
    page = RunRecord(stage, execution.run_id).page()
    if page is None:
        raise _page_missing(stage, execution)
    path = _page_directory(stage) / f"{execution.run_id}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page)
    click.launch(str(path))
    return path


def _page_directory(stage: DeployedStage) -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("codeferry") / "reports" / stage.name


def _page_missing(stage: DeployedStage, execution: Execution) -> PageMissing:
    if execution.running:
        return PageMissing(
            f"The run {execution.run_id} has no report page yet: it is still going on.",
            hint=f"See how far it is: ferry status {execution.run_id}{stage.option()}",
        )
    return PageMissing(
        f"The run {execution.run_id} has no report page: it left none, or its record has expired.",
        hint=f"See what is known of it: ferry status {execution.run_id}{stage.option()}",
    )
