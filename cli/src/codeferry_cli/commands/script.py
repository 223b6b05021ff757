"""`ferry script`."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli.aws.session import Access
from codeferry_cli.commands.command import PassThrough
from codeferry_cli.commands.start import start_run
from codeferry_cli.errors import ScriptRefused
from codeferry_cli.options import groups
from codeferry_cli.options.groups import Waiting
from codeferry_cli.options.run import (
    RunOptions,
    Variables,
    script_options,
    show_option,
    variables_option,
)
from codeferry_cli.packing import FILES, select_script
from codeferry_cli.packing.project import Prepared
from codeferry_cli.packing.script import require_files, require_script
from codeferry_cli.runs.start import plan_run
from codeferry_cli.terminal.output import Output
from codeferry_cli.views import packing_view
from codeferry_contracts.names import SCRIPT, project_name


@click.command(cls=PassThrough, short_help="Run a script, with supporting files, on instances.")
@groups.target_argument
@groups.script_argument
@groups.option(
    "--files",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Goes along, all of it.  [default: the directory 'files' beside the script]",
)
@click.option("--no-files", is_flag=True, help="Nothing goes along, not even './files'.")
@click.option(
    "--allow-secret",
    "allow_secrets",
    multiple=True,
    metavar="PATH",
    help="Take this file, such as files/key.pem, although it looks like a secret; repeatable.",
)
@script_options
@variables_option
@show_option
@groups.command_start_options
def script(
    target: str,
    script: Path,
    pass_through: tuple[str, ...],
    files: Path | None,
    no_files: bool,
    allow_secrets: tuple[str, ...],
    run: RunOptions,
    variables: Variables,
    show: bool | None,
    waiting: Waiting,
    dry_run: bool,
    access: Access,
    output: Output,
) -> None:
    """Run SCRIPT on every instance of TARGET, in a directory of its own that is removed.

    A directory 'files' beside the script goes along; the script finds what went along in
    $DEPLOY_FILES_DIR. What stands behind -- are its arguments.

    \b
    Examples:
      ferry script gpu-workers ./scripts/setup.sh
      ferry script all ./patch.py --files ./patches --timeout 10m
      ferry script tag:Role=train ./check.sh --no-files -- --deep
      ferry script gpu-workers ./scripts/setup.sh --dry-run
    """
    require_script(script)
    prepared = _prepare(script, _supporting(script, files, no_files), allow_secrets)
    plan = plan_run(SCRIPT, target, prepared, run, (script.name, *pass_through), variables)
    packing_view.show_selection(prepared, output, of_project=False)
    start_run(plan, access, waiting, output, dry_run=dry_run, show=show)


def _supporting(script: Path, files: Path | None, no_files: bool) -> Path | None:
    """The directory that goes along."""
    if files and no_files:
        raise click.UsageError("--files and --no-files contradict each other.")
    if files:
        require_files(files)
        return files
    beside = script.parent / FILES
    return beside if beside.is_dir() and not no_files else None


def _prepare(script: Path, files: Path | None, allow_secrets: tuple[str, ...]) -> Prepared:
    if files and script.name == FILES:
        raise ScriptRefused(
            f"A script cannot be called '{FILES}': its supporting files are.",
            hint="Rename it, or leave them behind with --no-files.",
            code="script_name",
        )
    selection = select_script(script, files, allow_secrets)
    return Prepared(project_name(script.name), selection)
