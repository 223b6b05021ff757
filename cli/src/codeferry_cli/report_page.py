"""A run's report as a page in the browser."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import PageMissing
from codeferry_cli.execution import Execution
from codeferry_cli.record import RunRecord


def open_page(stage: DeployedStage, execution: Execution) -> Path:
    """Fetch the run's page into the user's cache and have the browser show it.

    Gives the file, for where there is no browser. Raises PageMissing.
    """
    page = RunRecord(stage, execution.run_id).page()
    if page is None:
        raise _missing(stage, execution)
    path = _place(stage) / f"{execution.run_id}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page)
    click.launch(str(path))
    return path


def _place(stage: DeployedStage) -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("codeferry") / "reports" / stage.name


def _missing(stage: DeployedStage, execution: Execution) -> PageMissing:
    if execution.running:
        return PageMissing(
            f"The run {execution.run_id} has no report page yet: it is still going on.",
            hint=f"See how far it is: ferry status {execution.run_id}{stage.option()}",
        )
    return PageMissing(
        f"The run {execution.run_id} has no report page: it left none, or its record has expired.",
        hint=f"See what is known of it: ferry status {execution.run_id}{stage.option()}",
    )
