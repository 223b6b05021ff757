"""The table of commands, and a group that loads none of them to list them all.

`ferry --help` has to answer at once, so the summaries stand here; a test holds them
to what the commands say themselves. Another installed package may bring a command (entry
points ``codeferry.commands``).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import click

from codeferry_cli.errors import LocalNotInstalled

ENTRY_POINTS = "codeferry.commands"
PACKAGE = "codeferry-local"


def load_extension(name: str, summary: str) -> click.Command:
    """The command of that name, or one in its place that says how to get it."""
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            command: click.Command = entry_point.load()
        except ImportError as error:
            return _absent(name, summary, f"is not installed whole here ({error})")
        return command
    return _absent(name, summary, "is not installed here")


def _absent(name: str, summary: str, why: str) -> click.Command:
    """Takes any arguments, so that the answer is how to get the command and not a usage error."""
    remedy = f"uv pip install {PACKAGE}"

    def refuse() -> None:
        raise LocalNotInstalled(
            f"'ferry {name}' needs the package {PACKAGE}, which {why}.",
            hint=f"Install it beside ferry: {remedy}",
        )

    return click.Command(
        name,
        callback=refuse,
        help=f"{summary}\n\n\b\nExamples:\n  {remedy}    then: ferry {name}",
        short_help=summary,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@dataclass(frozen=True)
class Listed:
    """A command as ``--help`` lists it; ``module`` is empty when another package brings it."""

    summary: str
    module: str = ""


COMMANDS = {
    "demo": Listed("See the whole thing work on this machine."),
    "local": Listed("The embedded AWS: up, down, status, env."),
    "init": Listed("Write a commented codeferry.toml.", "init"),
    "pack": Listed("Make the archive, or list what would be in it.", "pack"),
    "push": Listed("Pack, upload, and carry a project to instances.", "push"),
    "run": Listed("Push a project, then run a command in it.", "run"),
    "script": Listed("Run a script, with supporting files, on instances.", "script"),
    "rollback": Listed("Make an earlier release current again.", "rollback"),
    "releases": Listed("List a project's releases on a target.", "releases"),
    "upload": Listed("Pack and upload to the inbox; the arrival starts the run.", "upload"),
    "runs": Listed("List runs, newest first.", "runs"),
    "status": Listed("Show how a run went or is going.", "status"),
    "logs": Listed("Show what a run printed on its instances.", "logs"),
    "cancel": Listed("Stop a run.", "cancel"),
    "s3": Listed("Parallel transfers: upload, download, sync, list.", "s3"),
    "doctor": Listed("Find what is missing, and how to fix it.", "doctor"),
    "completion": Listed("Print the shell completion script.", "completion"),
}


# What other tools call it.
SYNONYMS = {
    "ls": "runs",
    "ps": "runs",
    "list": "runs",
    "history": "runs",
    "show": "status",
    "deploy": "push",
    "sync": "push",
    "send": "push",
    "exec": "run",
    "ssh": "run",
    "tail": "logs",
    "log": "logs",
    "stop": "cancel",
    "kill": "cancel",
    "abort": "cancel",
    "undo": "rollback",
    "revert": "rollback",
    "check": "doctor",
    "config": "init",
    "cp": "s3",
    "archive": "pack",
}


class LazyGroup(click.Group):
    """A group whose commands are modules of this package or entry points of others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        listed = COMMANDS.get(cmd_name)
        if listed is None:
            return None
        if not listed.module:
            return load_extension(cmd_name, listed.summary)
        module = importlib.import_module(f"codeferry_cli.commands.{listed.module}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.summary) for name, listed in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            if args == ["help"]:
                click.echo(ctx.get_help())
                ctx.exit()
            if args[0] == "help":  # `ferry help push` is `ferry push --help`
                return self.resolve_command(ctx, [*args[1:], "--help"])
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            name = SYNONYMS.get(args[0]) or next(iter(near), "")
            meant = f" Did you mean '{name}'?" if name else ""
            ctx.fail(f"No such command '{args[0]}'.{meant}")
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"ferry {version('codeferry-cli')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def ferry() -> None:
    """Carry code to machines that have no open port, and bring the results back.

    \b
    Examples:
      ferry demo                     see it work, on this machine alone
      ferry init                     write a codeferry.toml here
      ferry push gpu-workers         this project, to every instance of that target
      ferry status latest            how the last run went
      ferry doctor gpu-workers       what is missing, and how to fix it
    """
