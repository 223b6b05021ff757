"""The options of `drain`, and the variables that may stand in for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from codeferry_agent.drain.errors import SettingsInvalid
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
