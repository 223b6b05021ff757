"""`ferry run`."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli.aws.session import Access
from codeferry_cli.commands.command import PassThroughCommand
from codeferry_cli.commands.start import start_run
from codeferry_cli.options import groups
from codeferry_cli.options.groups import Packing, Waiting
from codeferry_cli.options.run import (
    RunOptions,
    Variables,
    command_options,
    show_option,
    variables_option,
)
from codeferry_cli.packing import project
from codeferry_cli.runs.start import plan_run
from codeferry_cli.terminal.output import Output
from codeferry_cli.views import packing_view
from codeferry_contracts.names import SYNC


@click.command(cls=PassThroughCommand, short_help="Push a project, then run a command in it.")
@groups.target_argument
@groups.directory_argument
@groups.packing_options
@command_options
@variables_option
@show_option
@groups.command_start_options
def run(
    target: str,
    directory: Path | None,
    pass_through: tuple[str, ...],
    packing: Packing,
    run: RunOptions,
    variables: Variables,
    show: bool | None,
    waiting: Waiting,
    dry_run: bool,
    access: Access,
    output: Output,
) -> None:
    """Carry a project to every instance of TARGET, then run CMD in the new release there.

    Everything behind -- is the command, passed on exactly as it is; no shell sees it, so for
    pipes and variables of the instance say: sh -c '…'. The command's exit code decides:
    other than 0 is a failed instance.

    \b
    Examples:
      ferry run gpu-workers -- python3 train.py --epochs 10
      ferry run gpu-workers --install --env WANDB_API_KEY -- python3 train.py
      ferry run all ./service --timeout 2m -- sh -c 'nvidia-smi | head -5'
      ferry run gpu-workers --dry-run -- ./scripts/check.sh
    """
    prepared = project.prepare(directory, packing)
    plan = plan_run(SYNC, target, prepared, run, pass_through, variables)
    packing_view.show_selection(prepared, output)
    start_run(plan, access, waiting, output, dry_run=dry_run, show=show)
