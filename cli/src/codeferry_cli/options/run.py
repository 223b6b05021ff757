"""Options that become part of a run request, and the variables of a command."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import click

from codeferry_cli.errors import VariableRefused
from codeferry_cli.options.groups import Decorator, option, option_group
from codeferry_cli.options.types import BAKE, DURATION, WAVES, WORDS, is_text
from codeferry_contracts.request import Rollout

MOST_BYTES = 256 * 1024  # what an instance takes, as JSON

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Variables:
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> list[str]:
        return sorted(self.values)

    def encode(self) -> bytes:
        """The object the instance fetches: a JSON object of strings."""
        return json.dumps(dict(self.values)).encode()


def parse_variables(texts: Sequence[str], own: Mapping[str, str]) -> Variables:
    """The variables of ``NAME=VALUE`` or ``NAME``, which is taken from ``own``; the last wins.

    Raises VariableRefused.
    """
    found = Variables(dict(_parse_variable(n, text, own) for n, text in enumerate(texts, start=1)))
    if len(found.encode()) > MOST_BYTES:
        raise VariableRefused(
            f"The variables of --env are more than {MOST_BYTES // 1024} KiB together.",
            hint="Put what is large into a file of the project.",
        )
    return found


def _parse_variable(number: int, text: str, own: Mapping[str, str]) -> tuple[str, str]:
    name, stated, value = text.partition("=")
    if not _NAME.fullmatch(name):
        # Not quoted: with a sign missing or one too many, this is a piece of a value.
        raise VariableRefused(
            f"--env number {number} does not begin with the name of a variable.",
            hint="Give NAME=VALUE, or NAME to pass on your own. A name has letters, digits and"
            " underscores, and no digit first.",
        )
    if not stated:
        if name not in own:
            raise VariableRefused(
                f"--env {name}: you have no variable of that name.",
                hint=f"Set it, or give its value: --env {name}=VALUE",
            )
        value = own[name]
    if not is_text(value):
        raise VariableRefused(
            f"The value of --env {name} is not UTF-8 text without NUL.",
            hint="Encode it, for example as base64, and decode it in the command.",
        )
    return name, value


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


def _variables_of(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> Variables:
    return parse_variables(texts, os.environ)


# No FERRY_ variable: it would put every value into the environment of everything else.
variables_option = click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    callback=_variables_of,
    help="A variable of the command; NAME alone passes on your own. Repeatable.",
)

show_option = click.option(
    "--show-output/--no-output",
    "show",
    default=None,
    help="Show what is printed while it runs.  [default: for up to 20 instances]",
)
