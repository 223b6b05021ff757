"""`ferry push`."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli.aws.session import Access
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.commands.start import start_run
from codeferry_cli.options import groups
from codeferry_cli.options.groups import Packing, Waiting
from codeferry_cli.options.run import RunOptions, push_options
from codeferry_cli.packing import project
from codeferry_cli.runs.start import plan_run
from codeferry_cli.terminal.output import Output
from codeferry_cli.views import packing_view
from codeferry_contracts.names import SYNC


@click.command(cls=FerryCommand, short_help="Pack, upload, and carry a project to instances.")
@groups.target_argument
@groups.directory_argument
@groups.packing_options
@push_options
@groups.start_options
def push(
    target: str,
    directory: Path | None,
    packing: Packing,
    run: RunOptions,
    waiting: Waiting,
    dry_run: bool,
    access: Access,
    output: Output,
) -> None:
    """Pack a project, upload it, and carry it to every instance of TARGET.

    TARGET is an instance id, tag:Key=Value, asg:NAME, all, or a value of the instance
    tag codeferry:target. The project is DIR; without it, the one this directory lies in.

    \b
    Examples:
      ferry push gpu-workers
      ferry push i-0123456789abcdef0 ./service
      ferry push tag:Role=train --include-pattern data/small
      ferry push all --max-concurrency 10% --max-errors 5
      ferry push gpu-workers --dry-run
    """
    prepared = project.prepare(directory, packing)
    plan = plan_run(SYNC, target, prepared, run)
    packing_view.show_selection(prepared, output)
    start_run(plan, access, waiting, output, dry_run=dry_run)
