"""`ferry completion`."""

from __future__ import annotations

import click

from codeferry_cli.commands.command import FerryCommand


@click.command(cls=FerryCommand, short_help="Print the shell completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete ferry's commands and options.

    \b
    Examples:
      eval "$(ferry completion bash)"                 in ~/.bashrc
      eval "$(ferry completion zsh)"                  in ~/.zshrc
      ferry completion fish > ~/.config/fish/completions/ferry.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click has a completion class for each of the choices"
    script = kind(ctx.find_root().command, {}, "ferry", "_FERRY_COMPLETE")
    # The base class's: bash's own starts a bash first, only to warn of an old one.
    click.echo(ShellComplete.source(script))
