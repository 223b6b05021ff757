"""Commands whose words behind ``--`` belong to another program."""

from __future__ import annotations

import click

from codeferry_cli.commands.ferry_command import FerryCommand
from codeferry_cli.words import is_text


class BehindDashes(FerryCommand):
    """Hands everything behind the first ``--`` on as the parameter ``behind``, untouched.

    Click would count those words among the arguments, and a missing DIR would swallow the
    first of them.
    """

    behind_metavar = "[-- ARGS...]"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, behind = _parted(args)
        if not ctx.resilient_parsing:
            _require_text(ctx, behind)
        rest = super().parse_args(ctx, own)
        ctx.params["behind"] = tuple(behind)
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), self.behind_metavar]


class CommandBehindDashes(BehindDashes):
    """Here they are a command, and there has to be one."""

    behind_metavar = "-- CMD [ARGS...]"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # First of all: without the dashes the command's words look like wrong arguments.
        own, behind = _parted(args)
        asks_for_help = any(name in own for name in ctx.help_option_names)
        if not any(behind[:1]) and not asks_for_help and not ctx.resilient_parsing:
            ctx.fail(
                "What is to be run? Put the command behind --, for example:\n"
                f"  {ctx.command_path} TARGET -- python3 train.py"
            )
        return super().parse_args(ctx, args)


def _parted(args: list[str]) -> tuple[list[str], list[str]]:
    cut = args.index("--") if "--" in args else len(args)
    return args[:cut], args[cut + 1 :]


def _require_text(ctx: click.Context, words: list[str]) -> None:
    """What travels in a request is text."""
    for number, word in enumerate(words, start=1):
        if not is_text(word):
            ctx.fail(f"Word {number} behind -- ({word!r}) is not UTF-8 text without NUL.")
