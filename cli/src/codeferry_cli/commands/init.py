"""`ferry init`."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.errors import ConfigExists, OutputRefused
from codeferry_cli.options.config import FILE_NAME, sample
from codeferry_cli.options.groups import dry_run_option, output_options
from codeferry_cli.terminal.output import Output
from codeferry_contracts.names import project_name


@click.command(cls=FerryCommand, short_help="Write a commented codeferry.toml.")
@click.argument(
    "directory",
    metavar="[DIR]",
    default=Path(),
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--force", is_flag=True, help="Overwrite a codeferry.toml that is there.")
@dry_run_option
@output_options
def init(directory: Path, force: bool, dry_run: bool, output: Output) -> None:
    """Write a codeferry.toml with every key explained.

    \b
    Examples:
      ferry init                     here
      ferry init ./service           in another directory
      ferry init --dry-run           print it instead
    """
    path = directory / FILE_NAME
    text = sample(project_name(directory.resolve().name))
    if dry_run:
        output.line(text.rstrip("\n"))
    else:
        _write(path, text, force)
        output.note(f"Wrote {path}. Next: ferry doctor, then ferry push TARGET")
    output.document({"path": str(path), "written": not dry_run, "content": text})


def _write(path: Path, text: str, force: bool) -> None:
    """Exclusive creation, so that a file that appeared in between is not lost either."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigExists(
            f"{path} is already there.", hint="Overwrite it: ferry init --force"
        ) from error
    except PermissionError as error:
        raise OutputRefused(
            f"{path} cannot be written: {error.strerror}.",
            hint=f"You may not write into {path.parent.resolve()}. Name another directory:"
            " ferry init DIR; or print it: ferry init --dry-run",
        ) from error
