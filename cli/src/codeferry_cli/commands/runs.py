"""`ferry runs`."""

from __future__ import annotations

import click

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import find_stage
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.options.groups import access_options, config_option, table_options
from codeferry_cli.runs.find import STATUSES, Run, list_runs, person
from codeferry_cli.terminal.output import Output, contacting_aws
from codeferry_cli.terminal.table import Cell, Column, Row
from codeferry_cli.views.report_view import MARKS
from codeferry_contracts import formatting

# What the id of a run says itself goes first where there is no room: its start, its project.
_COLUMNS = (
    Column("run"),
    Column(""),
    Column("status", drops=1),
    Column("target", drops=2, shrinks=True),
    Column("project", drops=4, shrinks=True),
    Column("who", drops=6, shrinks=True),
    Column("from", drops=7),
    Column("started", drops=5),
    Column("took", drops=3, key="seconds"),
)
_MARKS = {"succeeded": MARKS["succeeded"], "running": ("…", "yellow"), "cancelled": ("-", "")}


@click.command(cls=FerryCommand, short_help="List runs, newest first.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--status", type=click.Choice(list(STATUSES)), help="Only runs of this status.")
@access_options
@config_option
@table_options
def runs(limit: int, status: str | None, access: Access, output: Output) -> None:
    """List the runs of a stage, newest first, whichever way they were started.

    \b
    Examples:
      ferry runs
      ferry runs --status failed --limit 5
      ferry runs --stage prod --json
      ferry runs --limit 100 --output csv > runs.csv
    """
    stage = find_stage(Aws(access), contacting_aws)
    found = list_runs(stage, limit, status)
    if found:
        output.table(_COLUMNS, map(_row, found))
    else:
        output.note("No runs." if status is None else f"No run is {status}.")
    output.document({"runs": [run.to_json() for run in found]})


def _row(run: Run) -> Row:
    mark, colour = _MARKS.get(run.status, MARKS["failed"])
    started = run.execution.started
    return (
        run.execution.run_id,
        Cell(mark, "", colour),
        run.status,
        run.target,
        run.project,
        person(run.by),
        run.source,
        Cell(formatting.when(started), started.isoformat()),
        Cell(formatting.seconds(run.seconds), f"{run.seconds:.3f}")
        if run.seconds is not None
        else "",
    )
