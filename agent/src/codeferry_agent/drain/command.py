"""`codeferry-agent drain` and `codeferry-agent drain status`."""

from __future__ import annotations

import json
import logging
from typing import Any

import click

from codeferry_agent.drain import logs
from codeferry_agent.drain.errors import DrainError
from codeferry_agent.drain.options import drain_options
from codeferry_agent.drain.settings import Settings

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
    from codeferry_agent.drain.status_view import lines, status_of

    found = status_of(directories or settings.directories)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))


def _run(settings: Settings, *, once: bool, region: str | None, profile: str | None) -> int:
    # Late, so that `status` and `--help` need neither boto3 nor the network.
    from codeferry_agent.drain.service import require_directories, serve
    from codeferry_agent.drain.surroundings import Clients, Surroundings

    require_directories(settings.directories, once=once)
    surroundings = Surroundings.find(region=region, profile=profile)
    clients = Clients(surroundings, settings.owners, settings.any_owner)
    return serve(settings, clients, once=once)
