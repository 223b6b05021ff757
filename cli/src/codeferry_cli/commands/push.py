"""`ferry push`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from codeferry_cli import archive, packing_view
from codeferry_cli.commands.ferry_command import FerryCommand
from codeferry_cli.launch import Launch, launch, rehearse_launch
from codeferry_cli.options import (
    Access,
    Packing,
    Waiting,
    access_options,
    config_option,
    directory_argument,
    dry_run_option,
    output_options,
    packing_options,
    waiting_options,
)
from codeferry_cli.output import Output
from codeferry_cli.params import TARGET
from codeferry_cli.request import build_request
from codeferry_cli.run_options import RunOptions, push_options
from codeferry_contracts.layout import archive_key
from codeferry_contracts.names import SYNC, new_run_id
from codeferry_contracts.request import Archive


@click.command(cls=FerryCommand, short_help="Pack, upload, and carry a project to instances.")
@click.argument("target", type=TARGET, envvar="FERRY_TARGET")
@directory_argument
@packing_options
@push_options
@waiting_options
@dry_run_option
@access_options
@config_option
@output_options
def push(
    target: str,
    directory: Path,
    packing: Packing,
    run: RunOptions,
    waiting: Waiting,
    dry_run: bool,
    access: Access,
    config_file: Path | None,
    output: Output,
) -> None:
    """Pack a project, upload it, and carry it to every instance of TARGET.

    TARGET is an instance id, tag:Key=Value, asg:NAME, all, or a value of the instance
    tag codeferry:target. The project is the one DIR lies in, by default this directory.

    \b
    Examples:
      ferry push gpu-workers
      ferry push i-0123456789abcdef0 ./service
      ferry push tag:Role=train --include-pattern data/small
      ferry push all --max-concurrency 10% --max-errors 5
      ferry push gpu-workers --dry-run
    """
    prepared = archive.prepare(directory, packing)
    run_id = new_run_id(prepared.project, datetime.now(UTC))
    request = build_request(target, prepared.project, run, Archive(archive_key(run_id)))
    packing_view.show_details(prepared, output)
    plan = Launch(SYNC, run_id, prepared, request)
    if dry_run:
        rehearse_launch(plan, output)
    else:
        launch(plan, access, waiting, output)
