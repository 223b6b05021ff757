"""`ferry push`."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import click

from codeferry_cli import archive, packing_view
from codeferry_cli.archive import Prepared
from codeferry_cli.aws import Aws
from codeferry_cli.commands.ferry_command import FerryCommand
from codeferry_cli.ending import conclude
from codeferry_cli.follow import accompany
from codeferry_cli.options import (
    Access,
    Packing,
    RunOptions,
    Waiting,
    access_options,
    config_option,
    directory_argument,
    dry_run_option,
    output_options,
    packing_options,
    run_options,
    waiting_options,
)
from codeferry_cli.output import Output
from codeferry_cli.params import TARGET
from codeferry_cli.progress import progress
from codeferry_cli.rehearsal import rehearse
from codeferry_cli.request import build_request
from codeferry_cli.stage import find_stage
from codeferry_cli.start import start
from codeferry_cli.upload import send, sent_json
from codeferry_contracts.layout import archive_key
from codeferry_contracts.names import new_run_id
from codeferry_contracts.request import Archive, RunRequest


@click.command(cls=FerryCommand, short_help="Pack, upload, and carry a project to instances.")
@click.argument("target", type=TARGET, envvar="FERRY_TARGET")
@directory_argument
@packing_options
@run_options
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
    if dry_run:
        rehearse(prepared, output, {"request": request.to_json()})
    else:
        _push(prepared, run_id, request, access, waiting, output)


def _push(
    prepared: Prepared,
    run_id: str,
    request: RunRequest,
    access: Access,
    waiting: Waiting,
    output: Output,
) -> None:
    stage = find_stage(Aws(access))
    with progress() as shown:
        sent = send(stage, prepared, archive_key(run_id), shown)
        start(stage, run_id, dataclasses.replace(request, archive=sent.archive))
        shown.line(f"Run {run_id}")
        followed = accompany(stage, run_id, shown, waiting)
    packing_view.show_warnings(sent.packed, output)
    conclude(stage, followed, output, sent_json(run_id, prepared, sent))
