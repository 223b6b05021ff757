"""The commands `codeferry-agent drain` and `codeferry-agent drain status`, and their options."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from codeferry_agent.drain import logs
from codeferry_agent.drain.errors import DrainError, SettingsInvalid
from codeferry_agent.drain.settings import Settings, account_of, bucket_map, stage_name

_POSITIVE = click.FloatRange(min=0, min_open=True)
_FROM_ZERO = click.FloatRange(min=0)

_OPTIONS = (
    click.option(
        "-i",
        "--interval",
        type=_POSITIVE,
        default=60,
        envvar="S3_UPLOAD_INTERVAL",
        show_envvar=True,
        help="Seconds between two scans; a finished file wakes it earlier.",
    ),
    click.option(
        "-d",
        "--directory",
        "directories",
        type=click.Path(),
        multiple=True,
        default=("output/s3",),
        envvar="S3_ROOT_DIR",
        show_envvar=True,
        help="Root with a directory per bucket; may be repeated, may be a pattern.",
    ),
    click.option(
        "-r",
        "--region",
        envvar="AWS_REGION",
        show_envvar=True,
        show_default="the instance's own, the profile's, else eu-west-1",
        help="AWS region.",
    ),
    click.option(
        "-p",
        "--profile",
        envvar="AWS_PROFILE",
        show_envvar=True,
        help="Profile; on EC2 the role is used instead.",
    ),
    click.option(
        "-s",
        "--stability",
        type=_FROM_ZERO,
        default=2,
        envvar="FILE_STABILITY_SECONDS",
        show_envvar=True,
        help="Seconds without a write before a file counts as finished.",
    ),
    click.option("--once", is_flag=True, help="One scan, then exit; 1 if there were errors."),
    click.option(
        "--bucket-map",
        "bucket_map",
        multiple=True,
        metavar="OLD=NEW",
        callback=lambda _, __, values: _usable(bucket_map, values),
        help="Directory OLD goes to bucket NEW; may be repeated.",
    ),
    click.option(
        "--bucket-owner",
        "owners",
        multiple=True,
        metavar="BUCKET=ACCOUNT",
        callback=lambda _, __, values: _usable(account_of, values),
        help="BUCKET may belong to this other account; may be repeated.",
    ),
    click.option(
        "--any-owner", is_flag=True, help="Do not ask that buckets belong to the own account."
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 256),
        default=16,
        help="Files on their way at a time.",
    ),
    click.option(
        "--last-drain",
        type=_FROM_ZERO,
        default=60,
        help="Seconds the last drain after SIGTERM may take.",
    ),
    click.option("--json-logs", is_flag=True, help="Log JSON lines, with CloudWatch metrics."),
    click.option(
        "--stage",
        default="",
        envvar="CODEFERRY_STAGE",
        show_envvar=True,
        callback=lambda _, __, value: _usable(stage_name, value),
        help="Stage whose metrics these are.",
    ),
    click.option("-v", "--verbose", is_flag=True, help="Log every file."),
)
_SETTINGS = (
    "directories",
    "interval",
    "stability",
    "bucket_map",
    "owners",
    "any_owner",
    "workers",
    "last_drain",
    "stage",
)


def drain_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; those that are settings arrive as ``settings``."""

    @wraps(command)
    def with_settings(*arguments: Any, **options: Any) -> Any:
        chosen = {name: options.pop(name) for name in _SETTINGS}
        return command(*arguments, settings=Settings(**chosen), **options)

    for option in reversed(_OPTIONS):
        with_settings = option(with_settings)
    return with_settings


def _usable(parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except SettingsInvalid as error:
        raise click.BadParameter(str(error)) from None


_log = logging.getLogger(__name__)


_CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}


class _Failed(click.ClickException):
    """An error that ends the command, in the log's form."""

    def __init__(self, error: DrainError) -> None:
        super().__init__(str(error))
        self._exit_code = error.exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        return self._exit_code

    def show(self, file: Any = None) -> None:
        _log.error("%s", self.message)


@click.group(invoke_without_command=True, context_settings=_CONTEXT)
@drain_options
@click.pass_context
def drain(
    context: click.Context,
    settings: Settings,
    *,
    once: bool,
    region: str | None,
    profile: str | None,
    json_logs: bool,
    verbose: bool,
) -> None:
    """Upload finished files of ROOT/BUCKET/KEY… to S3 and delete them here.

    A file goes only when S3 has shown that it holds its bytes and nobody writes to it any
    more. SIGTERM: one last drain; a second one stops at once.

    \b
    Examples:
      codeferry-agent drain --once -d output/s3
      codeferry-agent drain -d '/opt/codeferry/*/shared/output/s3' --json-logs
      codeferry-agent drain status -d output/s3
    """
    logs.set_up(as_json=json_logs, verbose=verbose)
    context.obj = settings
    if context.invoked_subcommand is None:
        try:
            context.exit(_run(settings, once=once, region=region, profile=profile))
        except DrainError as error:
            raise _Failed(error) from None


@drain.command()
@click.option("-d", "--directory", "directories", multiple=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def status(settings: Settings, directories: tuple[str, ...], *, as_json: bool) -> None:
    """What waits in the root now, and what its agent last did.

    \b
    Examples:
      codeferry-agent drain status -d output/s3 --json
    """
    from codeferry_agent.drain.status import lines, status_of

    found = status_of(directories or settings.directories)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))


def _run(settings: Settings, *, once: bool, region: str | None, profile: str | None) -> int:
    # Late, so that `status` and `--help` need neither boto3 nor the network.
    from codeferry_agent.drain.daemon import require_directories, serve
    from codeferry_agent.drain.host.environment import Clients, Environment

    require_directories(settings.directories, once=once)
    environment = Environment.find(region=region, profile=profile)
    clients = Clients(environment, settings.owners, settings.any_owner)
    return serve(settings, clients, once=once)
