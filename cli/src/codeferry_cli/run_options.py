"""The options that become part of a run request, and those about a command's variables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import click

from codeferry_cli.options.groups import Decorator, option, option_group
from codeferry_cli.options.types import BAKE, DURATION, WAVES, WORDS
from codeferry_cli.variables import Variables, parse_variables
from codeferry_contracts.request import Rollout


@dataclass(frozen=True)
class RunOptions:
    """What a request says beyond archive and target; None is the contract's default."""

    timeout_seconds: int | None = None
    max_concurrency: str | None = None
    max_errors: str | None = None
    keep_releases: int | None = None
    strict: bool = False
    install: bool = False
    user: str | None = None
    persist: tuple[str, ...] = ()
    expect_files: tuple[str, ...] = ()
    expect_directories: tuple[str, ...] = ()
    waves: tuple[str, ...] = ()
    bake: int | None = None
    health: tuple[str, ...] = ()

    @property
    def rollout(self) -> Rollout | None:
        """What was asked of a roll-out; without waves it is one of everybody."""
        if not (self.waves or self.bake or self.health):
            return None
        return Rollout(self.waves or ("100%",), self.bake or 0, self.health)


def _timeout(what: str) -> Decorator:
    return option("--timeout", "timeout_seconds", type=DURATION, help=what)


_LIMITS = (
    option("--max-concurrency", metavar="N|N%", help="Instances at a time."),
    option("--max-errors", metavar="N|N%", help="Failed instances a run may have and go on."),
)
_RELEASE = (
    option("--keep-releases", type=click.IntRange(1, 100), help="Releases kept on an instance."),
    option("--strict", is_flag=True, help="An unmet expectation fails the instance."),
    option(
        "--install",
        is_flag=True,
        help="Install what requirements.txt, pyproject.toml or uv.lock names.",
    ),
    option("--user", help="Owner of the tree on the instance, and who a command runs as."),
    option("--persist", multiple=True, metavar="PATH", help="Lives on between releases."),
    option(
        "--expect-file", "expect_files", multiple=True, metavar="PATH", help="Must exist there."
    ),
    option(
        "--expect-dir",
        "expect_directories",
        multiple=True,
        metavar="PATH",
        help="Must exist there.",
    ),
)


_ROLLOUT = (
    option(
        "--waves",
        type=WAVES,
        default="",
        metavar="N,N%,…",
        help="Carry it out in waves: how many have it after each, such as 1,10%,50%,100%. "
        "A wave that fails is returned, and the rest stays untouched.",
    ),
    option("--bake", type=BAKE, help="Leave each instance alone for this long."),
    option(
        "--health",
        type=WORDS,
        default="",
        metavar="CMD",
        help="Run this in the release after that; other than exit code 0 it goes back.",
    ),
)

push_options = option_group(
    "run",
    RunOptions,
    _timeout("Of the work on each instance, such as 90, 15m, 2h."),
    *_LIMITS,
    *_ROLLOUT,
    *_RELEASE,
)

rollback_options = option_group(
    "run",
    RunOptions,
    _timeout("Of the work on each instance, such as 90, 15m, 2h."),
    *_LIMITS,
)

command_options = option_group(
    "run",
    RunOptions,
    _timeout("Of the command on each instance, such as 90, 15m, 2h; without it 48 h."),
    *_LIMITS,
    *_ROLLOUT,
    *_RELEASE,
)

script_options = option_group(
    "run",
    RunOptions,
    _timeout("Of the script on each instance, such as 90, 15m, 2h.  [default: 5m]"),
    *_LIMITS,
    option("--user", help="Who the script runs as."),
)


def _parse_variables(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> Variables:
    return parse_variables(texts, os.environ)


# No FERRY_ variable: it would put every value into the environment of everything else.
variables_option = click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    callback=_parse_variables,
    help="A variable of the command; NAME alone passes on your own. Repeatable.",
)

show_option = click.option(
    "--show-output/--no-output",
    "show",
    default=None,
    help="Show what is printed while it runs.  [default: for up to 20 instances]",
)
