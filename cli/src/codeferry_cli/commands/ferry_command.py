"""The class of every command: what AWS refuses becomes an error with its remedy."""

from __future__ import annotations

import sys
from typing import Any

import click

from codeferry_cli.errors import AwsFailed, PipeClosed
from codeferry_cli.options import DEFAULT_STAGE, Access
from codeferry_cli.output import reader_gone

# What other tools call it; the first ones that a command has are suggested.
SYNONYMS = {
    "-n": ("--dry-run", "--limit"),
    "--tail": ("--follow", "--limit"),
    "--lines": ("--limit",),
    "--last": ("--limit",),
    "--since": ("--limit",),
    "-q": ("--no-output", "--json"),
    "--quiet": ("--no-output", "--json"),
    "--format": ("--output", "--json"),
    "-y": ("--yes",),
    "--force": ("--yes",),
    "--check": ("--dry-run",),
    "--plan": ("--dry-run",),
    "--background": ("--no-wait",),
    "--detach": ("--no-wait",),
    "-d": ("--no-wait",),
    "--name": ("--project",),
}


class FerryCommand(click.Command):
    """Explains botocore's errors with the stage, profile and region the command was given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = {
                name
                for parameter in self.params
                for name in (*parameter.opts, *parameter.secondary_opts)
            }
            name = error.option_name
            meant = next((option for option in SYNONYMS.get(name, ()) if option in known), "")
            if not meant:
                raise
            said = f"No such option '{name}'. Did you mean '{meant}'?"
            raise click.NoSuchOption(name, said, ctx=ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        given = dict(ctx.params)
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if reader_gone():
                raise PipeClosed("Nobody reads stdout any more.") from error
            raise AwsFailed(f"A connection broke: {error}.", hint="Try again.") from error
        except Exception as error:
            if "botocore" not in sys.modules:  # then it cannot be one of its errors
                raise
            from codeferry_cli.aws_problems import explain

            explained = explain(error, _access(given))
            if explained is None:
                raise
            raise explained from error


def _access(params: dict[str, Any]) -> Access:
    return Access(
        stage=params.get("stage") or DEFAULT_STAGE,
        profile=params.get("profile"),
        region=params.get("region"),
    )
