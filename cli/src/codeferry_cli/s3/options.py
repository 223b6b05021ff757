"""The options of `ferry s3`, and the values they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from codeferry_cli.aws.session import Access
from codeferry_cli.options.groups import (
    Decorator,
    access_options,
    config_option,
    dry_run_option,
    option,
    option_group,
)
from codeferry_cli.s3.client import Server

if TYPE_CHECKING:
    from codeferry_transfer.transfers import Options


@dataclass(frozen=True)
class Choice:
    """The files and objects to transfer, and how."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    checksum: bool = False
    concurrency: int | None = None
    use_s5cmd: bool = False
    delete: bool = False
    delete_all: bool = False

    def options(self) -> Options:
        """The same, as the engine wants it."""
        from codeferry_transfer.transfers import Options

        return Options(
            include=self.includes,
            exclude=self.excludes,
            content=self.checksum,
            delete=self.delete,
            delete_all=self.delete_all,
            concurrency=self.concurrency,
        )


@dataclass(frozen=True)
class Settings:
    """All that the options of a transfer say."""

    choice: Choice
    server: Server
    access: Access
    dry_run: bool


@dataclass(frozen=True)
class TransferRequest:
    """A transfer as one of the commands was asked for it."""

    operation: str
    source: str
    destination: str
    settings: Settings

    @property
    def is_upload(self) -> bool:
        return self.operation in ("upload", "sync up")

    @property
    def facts(self) -> dict[str, str]:
        """The keys that every ``--json`` answer repeats."""
        return {"operation": self.operation, "source": self.source, "destination": self.destination}


server_options = option_group(
    "server",
    Server,
    option("--endpoint-url", metavar="URL", help="Another S3 than AWS's."),
    option(
        "--expected-owner",
        metavar="ACCOUNT",
        help="Refuse a bucket that is not of this AWS account.",
    ),
    option("--request-payer", is_flag=True, help="Pay for the requests to a bucket of others."),
)

_SELECTING = (
    click.option(
        "--include", "includes", multiple=True, metavar="GLOB", help="Only these; repeatable."
    ),
    click.option(
        "--exclude",
        "excludes",
        multiple=True,
        metavar="GLOB",
        help="Not these, even if included; 'name' is also all below it; repeatable.",
    ),
)
_TRANSFERRING = (
    click.option("--checksum", is_flag=True, help="Compare contents, and carry only what differs."),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 1000),
        metavar="N",
        help="Requests at a time, at most; by default as many as pay.",
    ),
    click.option("--use-s5cmd", is_flag=True, help="Hand the work to an installed s5cmd."),
)
_DELETING = (
    click.option("--delete", is_flag=True, help="Delete what the source does not have."),
    click.option(
        "--delete-all", is_flag=True, help="Like --delete, even if the source has nothing."
    ),
)

_EVERYWHERE = (dry_run_option, server_options, access_options, config_option)


def _settings(*choosing: Decorator) -> Decorator:
    choice = option_group("choice", Choice, *choosing)
    return option_group("settings", Settings, choice, *_EVERYWHERE)


copy_options = _settings(*_SELECTING, *_TRANSFERRING)
sync_options = _settings(*_SELECTING, *_TRANSFERRING, *_DELETING)
list_options = option_group("choice", Choice, *_SELECTING)
recursive_option = click.option(
    "-r", "--recursive", is_flag=True, help="A whole directory, with all that is below."
)
