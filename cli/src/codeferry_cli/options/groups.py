"""Groups of options as decorators; each hands the command one frozen value.

Precedence is click's: flag, then FERRY_… variable, then the configuration files,
which become ``default_map`` as soon as the directory they are looked up from is known.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from codeferry_cli.aws.session import Access
from codeferry_cli.errors import ConfigInvalid
from codeferry_cli.options import config
from codeferry_cli.options.types import DURATION, PROFILE, PROJECT, RUN, STAGE, TARGET
from codeferry_cli.terminal.output import CSV, JSON, RAW, TABLE, Output
from codeferry_contracts.escaping import harmless
from codeferry_contracts.names import DEFAULT_STAGE

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

VARIABLES = "FERRY_"  # what the environment variables of options begin with
CONFIG_PROBLEM = "codeferry.config_problem"
CONFIG_FILES = "codeferry.config_files"
_CONFIG_FROM = "codeferry.config_from"


@dataclass(frozen=True)
class Packing:
    root: Path | None = None
    include: tuple[str, ...] = ()
    allow_secrets: tuple[str, ...] = ()
    project: str | None = None


@dataclass(frozen=True)
class Waiting:
    """``wait_timeout`` in seconds bounds the waiting, not the run; None is without bound. With
    ``cancel_on_exit`` the run ends with the waiting."""

    wait: bool = True
    wait_timeout: int | None = None
    cancel_on_exit: bool = False


def option(*names: str, **attributes: Any) -> Decorator:
    """A click option that also reads FERRY_<LONG_NAME>: --wait-timeout is FERRY_WAIT_TIMEOUT."""
    long = next(name for name in names if name.startswith("--"))
    variable = VARIABLES + long.split("/")[0].lstrip("-").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, **attributes)


def option_group(name: str, kind: type, *options: Decorator) -> Decorator:
    """A decorator that adds ``options`` and passes their values on as ``name``, one ``kind``.

    A field that has no option here keeps the default ``kind`` gives it.
    """
    keys = [field.name for field in fields(kind)]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(*args: Any, **values: Any) -> Any:
            values[name] = kind(**{key: values.pop(key) for key in keys if key in values})
            return command(*args, **values)

        return stacked(*options)(call)

    return decorate


def stacked(*options: Decorator) -> Decorator:
    """Decorators as one, the first outermost: it comes first in the help."""

    def decorate(command: Command) -> Command:
        for add in reversed(options):
            command = add(command)
        return command

    return decorate


def _apply_config(
    ctx: click.Context, parameter: click.Parameter, value: Any, *, keep_problem: bool = False
) -> Any:
    """Load the configuration once ``--config`` and the place are known (they are eager)."""
    known = ctx.meta.setdefault(_CONFIG_FROM, {})
    known[parameter.name] = value
    awaited = {p.name for p in ctx.command.params} & {"config_file", "directory", "script"}
    if not awaited <= known.keys() or ctx.resilient_parsing:
        return value
    try:
        loaded = config.load(_place(known), known.get("config_file"))
    except ConfigInvalid as problem:
        if not keep_problem:
            raise
        ctx.meta[CONFIG_PROBLEM] = problem
        return value
    ctx.meta[CONFIG_FILES] = loaded.files
    ctx.default_map = {**loaded.values}
    return value


def _place(known: Mapping[str, Any]) -> Path:
    """The directory to look for the project's file from: DIR, a script's directory, or here."""
    script: Path | None = known.get("script")
    return script.parent if script else known.get("directory") or Path()


def _config_option(callback: Callable[..., Any]) -> Decorator:
    return option(
        "--config",
        "config_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=callback,
        help="This configuration file instead of the nearest codeferry.toml.",
    )


config_option = _config_option(_apply_config)
# For `doctor`: a file that cannot be used is a finding there, kept in ctx.meta.
examined_config_option = _config_option(functools.partial(_apply_config, keep_problem=True))


def _note_target(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Print a target that was not typed, with where it comes from."""
    found = ctx.get_parameter_source(str(parameter.name))
    if not ctx.resilient_parsing and found is not ParameterSource.COMMANDLINE:
        variable = found is ParameterSource.ENVIRONMENT
        source = TARGET_VARIABLE if variable else "the configuration"
        click.echo(harmless(f"Target {value}, from {source}"), err=True)
    return value


TARGET_VARIABLE = f"{VARIABLES}TARGET"
target_argument = click.argument(
    "target", type=TARGET, envvar=TARGET_VARIABLE, callback=_note_target
)

run_argument = click.argument("run", type=RUN, default="latest")
project_of_run_option = option(
    "--project", type=PROJECT, help="The project that `latest` is of, instead of this directory's."
)

directory_argument = click.argument(
    "directory",
    metavar="[DIR]",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    is_eager=True,
    callback=_apply_config,
)

script_argument = click.argument(
    "script",
    metavar="SCRIPT",
    type=click.Path(path_type=Path),
    is_eager=True,
    callback=_apply_config,
)

access_options = option_group(
    "access",
    Access,
    option("--stage", type=STAGE, default=DEFAULT_STAGE, show_default=True, help="The deployment."),
    option("--profile", type=PROFILE, help="The AWS profile."),
    option("--region", help="The AWS region."),
)

_JSON = click.option("--json", is_flag=True, help="One JSON document on stdout.")
_VERBOSE = click.option("-v", "--verbose", count=True, help="Say more; -vv with tracebacks.")


def _form(*forms: str) -> Decorator:
    return click.option(
        "--output", "form", type=click.Choice(forms), help="How stdout has it.  [default: table]"
    )


# Of commands without a table; of those with one; of those whose runs print something as well.
output_options = option_group("output", Output, _JSON, _VERBOSE)
table_options = option_group("output", Output, _form(TABLE, JSON, CSV), _JSON, _VERBOSE)
printing_options = option_group("output", Output, _form(TABLE, JSON, CSV, RAW), _JSON, _VERBOSE)

packing_options = option_group(
    "packing",
    Packing,
    option(
        "--root",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The project's root, wherever DIR is.",
    ),
    option(
        "--include-pattern",
        "include",
        multiple=True,
        metavar="PATTERN",
        help="Pack this although it is ignored; repeatable.",
    ),
    option(
        "--allow-secret",
        "allow_secrets",
        multiple=True,
        metavar="PATH",
        help="Pack this file although it looks like a secret; repeatable.",
    ),
    option("--project", type=PROJECT, help="The project's name, instead of its directory's."),
)

waiting_options = option_group(
    "waiting",
    Waiting,
    click.option("--wait/--no-wait", default=True, help="Follow the run to its end."),
    option("--wait-timeout", type=DURATION, help="Stop waiting (not the run) after this time."),
    option(
        "--cancel-on-exit",
        is_flag=True,
        help="Cancel the run when waiting ends before it does: by Ctrl-C, a job's end, a timeout.",
    ),
)

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done, and do none of it."
)

# What every command takes that starts a run, and those whose run prints something.
_start_options = stacked(waiting_options, dry_run_option, access_options, config_option)
start_options = stacked(_start_options, table_options)
command_start_options = stacked(_start_options, printing_options)
