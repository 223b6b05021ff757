"""`ferry runs`."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli import amounts
from codeferry_cli.aws import Aws
from codeferry_cli.commands.ferry_command import FerryCommand
from codeferry_cli.here import who
from codeferry_cli.options import Access, access_options, config_option, output_options
from codeferry_cli.output import Output
from codeferry_cli.runs import STATUSES, Run, list_runs
from codeferry_cli.stage import find_stage

_HEADS = ("run", "status", "target", "project", "who", "from", "started", "took")


@click.command(cls=FerryCommand, short_help="List runs, newest first.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--status", type=click.Choice(list(STATUSES)), help="Only runs of this status.")
@access_options
@config_option
@output_options
def runs(
    limit: int, status: str | None, access: Access, config_file: Path | None, output: Output
) -> None:
    """List the runs of a stage, newest first, whichever way they were started.

    \b
    Examples:
      ferry runs
      ferry runs --status failed --limit 5
      ferry runs --stage prod --json
    """
    stage = find_stage(Aws(access))
    found = list_runs(stage, limit, status)
    if found:
        output.table(_HEADS, map(_row, found))
    else:
        output.note("No runs." if status is None else f"No run is {status}.")
    output.document({"runs": [run.to_json() for run in found]})


def _row(run: Run) -> tuple[str, ...]:
    return (
        run.execution.run_id,
        run.status,
        run.target,
        run.project,
        who(run.by),
        run.source,
        amounts.when(run.execution.started),
        amounts.seconds(run.seconds) if run.seconds is not None else "",
    )
