"""`ferry run`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from codeferry_cli import archive, packing_view
from codeferry_cli.commands.behind_dashes import CommandBehindDashes
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
from codeferry_cli.run_options import RunOptions, command_options, show_option, variables_option
from codeferry_cli.variables import Variables
from codeferry_contracts.layout import archive_key, environment_key
from codeferry_contracts.names import SYNC, new_run_id
from codeferry_contracts.request import Archive, Environment


@click.command(cls=CommandBehindDashes, short_help="Push a project, then run a command in it.")
@click.argument("target", type=TARGET, envvar="FERRY_TARGET")
@directory_argument
@packing_options
@command_options
@variables_option
@show_option
@waiting_options
@dry_run_option
@access_options
@config_option
@output_options
def run(
    target: str,
    directory: Path,
    behind: tuple[str, ...],
    packing: Packing,
    run: RunOptions,
    variables: Variables,
    show: bool | None,
    waiting: Waiting,
    dry_run: bool,
    access: Access,
    config_file: Path | None,
    output: Output,
) -> None:
    """Carry a project to every instance of TARGET, then run CMD in the new release there.

    Everything behind -- is the command, passed on exactly as it is; no shell sees it, so for
    pipes and variables of the instance say: sh -c '…'. The command's exit code decides:
    other than 0 is a failed instance.

    \b
    Examples:
      ferry run gpu-workers -- python train.py --epochs 10
      ferry run gpu-workers --install --env WANDB_API_KEY -- python train.py
      ferry run all ./service --timeout 2m -- sh -c 'nvidia-smi | head -5'
      ferry run gpu-workers --dry-run -- ./scripts/check.sh
    """
    prepared = archive.prepare(directory, packing)
    run_id = new_run_id(prepared.project, datetime.now(UTC))
    request = build_request(
        target,
        prepared.project,
        run,
        Archive(archive_key(run_id)),
        behind,
        Environment(environment_key(run_id)) if variables.values else None,
    )
    packing_view.show_details(prepared, output)
    plan = Launch(SYNC, run_id, prepared, request, variables)
    if dry_run:
        rehearse_launch(plan, output)
    else:
        launch(plan, access, waiting, output, show)
