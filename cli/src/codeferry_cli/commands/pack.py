"""`ferry pack`."""

from __future__ import annotations

from pathlib import Path

import click

from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.options import groups
from codeferry_cli.options.groups import Packing
from codeferry_cli.packing import project, refused
from codeferry_cli.packing.errors import show
from codeferry_cli.packing.project import Packed, Prepared, write_file, write_stdout
from codeferry_cli.terminal.output import Output
from codeferry_cli.views import packing_view
from codeferry_contracts import formatting

_STDOUT = "-"


@click.command(cls=FerryCommand, short_help="Make the archive, or list what would be in it.")
@groups.directory_argument
@click.option(
    "-o",
    "--output-file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where to write the archive; - is stdout.  [default: PROJECT.tar.gz]",
)
@click.option("--list", "listing", is_flag=True, help="List the files instead of packing them.")
@groups.packing_options
@groups.config_option
@groups.output_options
def pack(
    directory: Path | None, output_file: str | None, listing: bool, packing: Packing, output: Output
) -> None:
    """Make a project's archive, or list what would be in it.

    The archive is a tar.gz that any tar reads; its last members are a manifest and the
    checksums of all files. An upload of it to the inbox starts a run.

    \b
    Examples:
      ferry pack                              PROJECT.tar.gz, here
      ferry pack ./service -o service.tar.gz
      ferry pack -o - | tar -tz
      ferry pack --list --json                with size, mode and sha256 of each file
      ferry pack --list -v                    what was left out, too
    """
    if output.json and output_file == _STDOUT:
        raise click.UsageError("--json and -o - both want stdout.")
    if listing and output_file:
        raise click.UsageError("--list writes no archive: leave out -o.")
    if output_file and output_file.endswith("/"):
        raise click.UsageError(f"{output_file} is a directory; -o names a file.")
    prepared = project.prepare(directory, packing)
    packing_view.show_selection(prepared, output)
    if listing:
        _list(prepared, output)
    else:
        _write(prepared, output_file, output)


def _list(prepared: Prepared, output: Output) -> None:
    """Names come from the selection, with a mark where packing will refuse; digests need the files
    read."""
    if not output.json:
        marked = refused(prepared.selection)
        for file in prepared.selection.files:
            why = f"  ! refused: {marked[file.path]}" if file.path in marked else ""
            output.line(f"{show(file.path)}{why}")
        if marked:
            some = formatting.counted(len(marked), "file")
            output.note(
                f"Push refuses {some}: exclude them in .gitignore or .ferryignore, or pass a"
                " credential on purpose with --allow-secret PATH."
            )
        return
    packed = project.measure(prepared)
    files = [packing_view.entry_json(entry) for entry in packed.entries]
    output.document(packing_view.packed_json(prepared, packed) | {"files": files})


def _write(prepared: Prepared, output_file: str | None, output: Output) -> None:
    if output_file == _STDOUT:
        output.note(packing_view.start_line(prepared))
        packed = write_stdout(prepared)
        _show_packed(prepared, packed, output, to_stderr=True)
        return
    path = Path(output_file or f"{prepared.project}.tar.gz").absolute()
    if not path.parent.is_dir():
        raise click.UsageError(f"The directory '{path.parent}' does not exist.")
    prepared = prepared.without(path.resolve())
    output.note(packing_view.start_line(prepared))
    packed = write_file(prepared, path)
    _show_packed(prepared, packed, output, to_stderr=False)
    output.line(f"Wrote {path}")
    if path.resolve().is_relative_to(prepared.selection.root):
        output.note(f"{path.name} lies in the project: packed next time, unless it is ignored.")
    output.document(packing_view.packed_json(prepared, packed) | {"path": str(path)})


def _show_packed(prepared: Prepared, packed: Packed, output: Output, *, to_stderr: bool) -> None:
    say = output.note if to_stderr else output.line
    packing_view.show_warnings(prepared, packed, output)
    say(packing_view.end_line(packed))
    say(f"Digest {packed.summary.digest}")
