"""`ferry s3`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.errors import Interrupted
from codeferry_cli.options import groups
from codeferry_cli.s3 import places
from codeferry_cli.s3.client import Server, bucket_remedy, open_s3
from codeferry_cli.s3.options import (
    Choice,
    Settings,
    TransferRequest,
    copy_options,
    list_options,
    recursive_option,
    server_options,
    sync_options,
)
from codeferry_cli.terminal.output import Output
from codeferry_cli.terminal.progress import progress
from codeferry_cli.views.transfers import (
    TransferProgress,
    show_listing,
    show_plan,
    show_result,
    show_s5cmd_result,
)

if TYPE_CHECKING:
    from codeferry_transfer.s3 import S3
    from codeferry_transfer.transfers import Transfer

_LOCAL = click.Path(path_type=Path)


@click.group(short_help="Parallel transfers: upload, download, sync, list.")
def s3() -> None:
    """Carry files to and from S3: many at a time, checked, resumed, never half.

    \b
    Examples:
      ferry s3 upload model.bin s3://bucket/models/
      ferry s3 upload ./output s3://bucket/run-7 --recursive
      ferry s3 download s3://bucket/run-7 ./output --recursive
      ferry s3 sync ./data s3://bucket/data --direction up --delete --dry-run
      ferry s3 list s3://bucket/data
    """


@s3.command(cls=FerryCommand, short_help="Upload a file, or a directory with --recursive.")
@click.argument("source", metavar="SRC", type=_LOCAL)
@click.argument("destination", metavar="s3://BUCKET/PATH")
@recursive_option
@copy_options
@groups.output_options
def upload(
    source: Path, destination: str, recursive: bool, settings: Settings, output: Output
) -> None:
    """Upload SRC to S3, whatever is there already.

    A path that ends in / takes the file's own name. Of a directory everything below it goes
    to the path; links and special files are left out.

    \b
    Examples:
      ferry s3 upload model.bin s3://bucket/models/
      ferry s3 upload ./output s3://bucket/run-7 --recursive --exclude '*.tmp'
      ferry s3 upload ./output s3://bucket/run-7 --recursive --checksum
    """
    to = places.remote(destination)
    request = TransferRequest("upload", str(source), str(to), settings)
    if settings.choice.use_s5cmd:
        places.assert_uploadable(source, recursive=recursive)
        to = to.directory if recursive else to
        below = f"{source}/" if recursive else str(source)
        _transfer_by_s5cmd(request, output, "cp", below, str(to))
    else:
        make = partial(
            places.upload, source=source, to=to, choice=settings.choice, recursive=recursive
        )
        _transfer(request, output, make)


@s3.command(cls=FerryCommand, short_help="Download an object, or all below with --recursive.")
@click.argument("source", metavar="s3://BUCKET/PATH")
@click.argument("destination", metavar="[DEST]", type=click.Path(), default=".")
@recursive_option
@copy_options
@groups.output_options
def download(
    source: str, destination: str, recursive: bool, settings: Settings, output: Output
) -> None:
    """Download from S3 to DEST, by default here.

    A DEST that ends in / is a directory, also one that is not there yet.
    A file appears whole or not at all: it arrives under a temporary name, is compared with
    S3's checksum, and takes its place at once.

    \b
    Examples:
      ferry s3 download s3://bucket/models/model.bin
      ferry s3 download s3://bucket/run-7 ./output --recursive
      ferry s3 download s3://bucket/run-7 ./output --recursive --include '*.csv'
    """
    place = places.remote(source)
    request = TransferRequest("download", str(place), destination, settings)
    if settings.choice.use_s5cmd:
        below = f"{place.directory}*" if recursive else str(place)
        to = f"{destination}/" if recursive else str(places.file_for(place, destination))
        _transfer_by_s5cmd(request, output, "cp", below, to)
    else:
        make = partial(
            places.download,
            source=place,
            to=destination,
            choice=settings.choice,
            recursive=recursive,
        )
        _transfer(request, output, make)


@s3.command(cls=FerryCommand, short_help="Make one side like the other.")
@click.argument("sides", metavar="DIR s3://BUCKET/PATH", nargs=2)
@click.option(
    "--direction",
    type=click.Choice([places.UP, places.DOWN]),
    required=True,
    help="up: S3 becomes like DIR. down: DIR becomes like S3.",
)
@sync_options
@groups.output_options
def sync(sides: tuple[str, str], direction: str, settings: Settings, output: Output) -> None:
    """Carry what is missing, of another size, or newer; with --checksum what differs.

    The two may stand in either order: --direction says which is the source. With --delete
    what the source does not have is deleted, after both sides have been listed completely
    and everything else went well.

    \b
    Examples:
      ferry s3 sync ./data s3://bucket/data --direction up
      ferry s3 sync ./data s3://bucket/data --direction down --delete --dry-run
      ferry s3 sync ./data s3://bucket/data --direction up --checksum --exclude 'tmp/'
    """
    up = direction == places.UP
    local, place = places.local_and_remote(sides)
    here, there = str(local), str(place.directory)
    source, destination = (here, there) if up else (there, here)
    request = TransferRequest(f"sync {direction}", source, destination, settings)
    if settings.choice.use_s5cmd:
        ends = (f"{here}/", there) if up else (f"{there}*", f"{here}/")
        _transfer_by_s5cmd(request, output, "sync", *ends)
    elif up:
        _transfer(
            request, output, partial(places.sync_up, source=local, to=place, choice=settings.choice)
        )
    else:
        make = partial(places.sync_down, source=place, to=local, choice=settings.choice)
        _transfer(request, output, make)


@s3.command("list", cls=FerryCommand, short_help="List objects.")
@click.argument("location", metavar="s3://BUCKET[/PATH]")
@click.option("--one-level", is_flag=True, help="Only this level: its objects and directories.")
@list_options
@server_options
@groups.access_options
@groups.config_option
@groups.output_options
def list_(
    location: str, one_level: bool, choice: Choice, server: Server, access: Access, output: Output
) -> None:
    """List every object at the path and below it: size, time, key.

    \b
    Examples:
      ferry s3 list s3://bucket
      ferry s3 list s3://bucket/data --one-level
      ferry s3 list s3://bucket/data --include '*.csv' --json
    """
    from codeferry_transfer.selection import Selection

    place = places.remote(location)
    meant = Selection(choice.includes, choice.excludes)
    with bucket_remedy():
        pages = places.list_pages(open_s3(Aws(access), server), place, one_level=one_level)
        show_listing(pages, place, meant, output)


def _transfer(request: TransferRequest, output: Output, make: Callable[[S3], Transfer]) -> None:
    """Do what ``make`` plans, or show it. Raises ObjectsFailed, Interrupted."""
    settings = request.settings
    s3 = open_s3(Aws(settings.access), settings.server)
    try:
        with bucket_remedy():
            transfer = make(s3)
            if settings.dry_run:
                show_plan(transfer.plan(), transfer.summary, output, request.facts)
                return
            with progress() as shown:
                doing = "Uploading" if request.is_upload else "Downloading"
                meter = TransferProgress(doing, transfer.summary, shown)
                transfer.run(meter)
            show_result(transfer.summary, meter.seconds, output, request.facts)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "Interrupted: what was complete stays, nothing unfinished is left behind."
        ) from stop
    finally:
        s3.close()


def _transfer_by_s5cmd(
    request: TransferRequest, output: Output, verb: str, source: str, destination: str
) -> None:
    from codeferry_cli.s3 import s5cmd  # rarely wanted, and takes a while to import

    aws = Aws(request.settings.access)
    command = s5cmd.command_line(request, aws, verb, source, destination)
    output.detail(" ".join(command))
    show_s5cmd_result(s5cmd.run(command, aws), output, request.facts)
