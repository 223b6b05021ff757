"""The class of every command: free order of arguments, pass-through arguments, AWS's errors."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from codeferry_cli.aws.session import Access
from codeferry_cli.errors import AwsFailed, PipeClosed
from codeferry_cli.options.groups import VARIABLES
from codeferry_cli.options.types import Type, is_text
from codeferry_cli.terminal.output import reader_gone
from codeferry_contracts.escaping import harmless
from codeferry_contracts.names import DEFAULT_STAGE

# What other tools call it; the first ones that a command has are suggested.
OPTION_SYNONYMS = {
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


def _completions(kind: str, given: Mapping[str, Any]) -> Iterable[str]:
    from codeferry_cli.runs.completion import completions

    return completions(kind, given)


Type.completions = _completions


class FerryCommand(click.Command):
    """Tells a target from a path by its form, and explains botocore's errors with the stage,
    profile and region the command was given."""

    def make_parser(self, ctx: click.Context) -> Any:
        parser = super().make_parser(ctx)
        paths = [p.name for p in self.params if p.name in ("directory", "script")]
        if paths and any(p.name == "target" for p in self.params):
            parse = parser.parse_args

            def parse_args(args: list[str]) -> Any:
                given, rest, order = parse(args)
                _order_arguments(given, str(paths[0]))
                return given, rest, order

            # Before values are looked up: what is then missing is the configuration's.
            parser.parse_args = parse_args  # type: ignore[method-assign]
        return parser

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
            meant = next(
                (option for option in OPTION_SYNONYMS.get(name, ()) if option in known), ""
            )
            if not meant:
                raise
            message = f"No such option '{name}'. Did you mean '{meant}'?"
            raise click.NoSuchOption(name, message, ctx=ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        _warn_of_unknown_variables(ctx)
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if reader_gone():
                raise PipeClosed("Nobody reads stdout any more.") from error
            raise AwsFailed(f"A connection broke: {error}.", hint="Try again.") from error
        except Exception as error:
            if "botocore" not in sys.modules:  # then it cannot be one of its errors
                raise
            from codeferry_cli.aws.errors import explain

            explained = explain(error, _access(ctx.params))
            if explained is None:
                raise
            raise explained from error


def _order_arguments(given: dict[str, Any], path: str) -> None:
    """Give each word to the argument whose form it has: `push ./dir`, `push ./dir gpu`."""
    first, second = given.get("target"), given.get(path)
    if not isinstance(first, str) or not _is_path(first, path):
        return
    if isinstance(second, str):
        if _is_path(second, path):
            return
        given["target"] = second
    else:
        del given["target"]
    given[path] = first


def _is_path(word: str, what: str) -> bool:
    """Whether a word is a path: a target has no slash, but in the values of its prefixes, and
    begins with no dot. A script may be named alone."""
    if re.match("(tag|asg|run|wave):", word):
        return False
    if "/" in word or word.startswith(".") or word == "~":
        return True
    return what == "script" and Path(word).is_file()


def _warn_of_unknown_variables(ctx: click.Context) -> None:
    """Warn of a misspelt variable, which would be a default that silently does not hold."""
    stated = {name for name in os.environ if name.startswith(VARIABLES)}
    unknown = stated - _variables(ctx.command)
    if unknown:  # another command's option may be meant: only now is it worth loading them all
        known = _variables(ctx.find_root().command)
        for name in sorted(unknown - known):
            near = difflib.get_close_matches(name, sorted(known), n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            warning = f"Warning: no option reads the variable {name}.{meant}"
            click.echo(harmless(warning), err=True)


def _variables(command: click.Command) -> set[str]:
    """The variables that options of this command, or of those below it, read."""
    if isinstance(command, click.Group):
        listed = command.list_commands(click.Context(command))
        below = (command.get_command(click.Context(command), name) for name in listed)
        return {name for each in below if each for name in _variables(each)}
    return {str(p.envvar) for p in command.params if p.envvar}


def _access(params: dict[str, Any]) -> Access:
    return Access(
        stage=params.get("stage") or DEFAULT_STAGE,
        profile=params.get("profile"),
        region=params.get("region"),
    )


class PassThrough(FerryCommand):
    """Hands everything behind the first ``--`` on as the parameter ``pass_through``, untouched.

    Click would count those words among the arguments, and a missing DIR would swallow the
    first of them.
    """

    arguments_metavar = "[-- ARGS...]"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, pass_through = _split_at_dashes(args)
        if not ctx.resilient_parsing:
            _require_text(ctx, pass_through)
        rest = super().parse_args(ctx, own)
        ctx.params["pass_through"] = tuple(pass_through)
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), self.arguments_metavar]


class PassThroughCommand(PassThrough):
    """Here they are a command, and there has to be one."""

    arguments_metavar = "-- CMD [ARGS...]"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # First of all: without the dashes the command's words look like wrong arguments.
        own, pass_through = _split_at_dashes(args)
        asks_for_help = any(name in own for name in ctx.help_option_names)
        if not any(pass_through[:1]) and not asks_for_help and not ctx.resilient_parsing:
            ctx.fail(
                "What is to be run? Put the command behind --, for example:\n"
                f"  {ctx.command_path} TARGET -- python3 train.py"
            )
        return super().parse_args(ctx, args)


def _split_at_dashes(args: list[str]) -> tuple[list[str], list[str]]:
    cut = args.index("--") if "--" in args else len(args)
    return args[:cut], args[cut + 1 :]


def _require_text(ctx: click.Context, words: list[str]) -> None:
    """Refuse what a request cannot hold."""
    for number, word in enumerate(words, start=1):
        if not is_text(word):
            ctx.fail(f"Word {number} behind -- ({word!r}) is not UTF-8 text without NUL.")
