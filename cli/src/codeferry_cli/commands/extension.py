"""Commands that another installed package brings (entry points ``codeferry.commands``)."""

from __future__ import annotations

import click

from codeferry_cli.errors import LocalNotInstalled

GROUP = "codeferry.commands"
PACKAGE = "codeferry-local"


def load_extension(name: str, summary: str) -> click.Command:
    """The command of that name, or one in its place that says how to get it."""
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=GROUP, name=name):
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
