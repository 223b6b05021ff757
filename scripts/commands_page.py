"""The command reference, docs/commands.md, made from the commands themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import click

from codeferry_agent.main import main as agent
from codeferry_cli.commands.group import ferry
from codeferry_contracts.request import Options

_STATED_DEFAULT = re.compile(r"\s*\[default: ([^\]]+)\]\.?$")
_COMMON = 10  # an option of so many commands is explained once


@dataclass(frozen=True)
class Row:
    """An option as a table shows it; two commands that share one show the same."""

    names: str
    default: str
    variable: str
    meaning: str

    def __str__(self) -> str:
        cells = (self.names, self.default, self.variable, self.meaning)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def commands_page(note: str) -> Iterator[str]:
    """The lines of docs/commands.md; ``note`` says that it is generated."""
    found = dict(commands())
    tables = {name: rows(context) for name, context in found.items()}
    uses = Counter(row for table in tables.values() for row in dict.fromkeys(table))
    common = [row for row, count in uses.items() if count >= _COMMON]
    yield from ("# Commands", "", note, "")
    yield "Every command with every option, its default and the variable that may stand in for it."
    yield "What may also stand in a file, and what holds if several say something, is in"
    yield "[configuration.md](configuration.md). The source is what `--help` prints."
    yield ""
    yield from (f"- [{name}](#{_anchor(name)}): {_summary(c)}" for name, c in found.items())
    yield from ("", "## Options of most commands", "", *_table(common))
    for name, context in found.items():
        yield from ("", f"## {name}", "", *_description(context))
        own = [row for row in tables[name] if row not in common]
        if own:
            yield from ("", *_table(own))
        shared = [row.names for row in tables[name] if row in common]
        if shared:
            yield from (
                "",
                f"And, [of most commands](#options-of-most-commands): {', '.join(shared)}.",
            )


def commands() -> Iterator[tuple[str, click.Context]]:
    """Every command by its whole name, groups before what is in them."""
    for program in (ferry, agent):
        name = "ferry" if program is ferry else "codeferry-agent"
        yield from _below(program, _context(program, name), name)


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    return click.Context(command, parent, name, **command.context_settings)


def _below(
    command: click.Command, context: click.Context, name: str
) -> Iterator[tuple[str, click.Context]]:
    # A group that has no options and does nothing itself is what is in it.
    if not isinstance(command, click.Group) or command.params:
        yield name, context
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            below = command.get_command(context, sub)
            assert below is not None, sub
            yield from _below(below, _context(below, sub, context), f"{name} {sub}")


def rows(context: click.Context) -> list[Row]:
    """The options of a command, in the order of its help."""
    options = [p for p in context.command.params if isinstance(p, click.Option)]
    found = [_row(context, option) for option in options if not option.hidden]
    # click keeps a command's own `--help` as the first context that asked for it would have it.
    names = sorted(context.command.get_help_option_names(context), key=len)
    return [*found, Row(f"`{', '.join(names)}`", "", "", "Show this message and exit.")]


def _row(context: click.Context, option: click.Option) -> Row:
    extra = option.get_help_extra(context)
    record = option.get_help_record(context)
    assert record is not None, option.name
    meaning = option.help or ""
    stated = _STATED_DEFAULT.search(meaning)
    default = stated.group(1) if stated else _shown(extra) or _default(option)
    meaning = _STATED_DEFAULT.sub("", meaning)
    limits = [f"({extra['range']})"] if "range" in extra else []
    return Row(
        names=f"`{record[0]}`",
        default=default,
        variable=", ".join(f"`{name}`" for name in extra.get("envvars", ())),
        meaning=" ".join([meaning, *limits]).strip(),
    )


def _shown(extra: Any) -> str:
    """What the help says is the default, without the marks that it needs in a line."""
    return str(extra.get("default", "")).strip('()"')


def _default(option: click.Option) -> str:
    """The flag that need not be given, or what a run request means that does not state it."""
    if option.secondary_opts and option.default is True:
        return option.opts[0]
    default: Any = {field.name: field.default for field in fields(Options)}.get(str(option.name))
    if isinstance(default, tuple):
        return ", ".join(default)
    return str(default) if default else ""


def _description(context: click.Context) -> Iterator[str]:
    pieces = context.command.collect_usage_pieces(context)
    yield from ("```", f"{context.command_path} {' '.join(pieces)}", "```")
    for paragraph in (context.command.help or "").strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.replace("\b", "").strip().splitlines()]
        if lines[:1] == ["Examples:"]:
            yield from ("", "```sh", *lines[1:], "```")
        else:
            yield from ("", *(re.sub(r"([<>*])", r"\\\1", line) for line in lines))


def _table(listed: list[Row]) -> Iterator[str]:
    yield from ("| option | default | variable | meaning |", "|---|---|---|---|")
    yield from map(str, listed)


def _summary(context: click.Context) -> str:
    return context.command.get_short_help_str(limit=200)


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
