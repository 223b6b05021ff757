"""Where a command's words go: data to stdout, talk to stderr, one document for --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.escaping import harmless, one_line


@dataclass(frozen=True)
class Output:
    """``json`` asks for one document on stdout; ``verbose`` counts the -v."""

    json: bool = False
    verbose: int = 0

    def document(self, answer: Mapping[str, Any]) -> None:
        """The ``--json`` answer of a command that succeeded; nothing without ``--json``."""
        if self.json:
            print_document({"success": True, **answer})

    def line(self, text: str = "") -> None:
        """A line of data, for people; nothing under ``--json``."""
        if not self.json:
            click.echo(harmless(text))

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Aligned columns on stdout; nothing under ``--json``."""
        if not self.json:
            _print_table(heads, rows)

    def note(self, text: str) -> None:
        """A line of talk, on stderr."""
        click.echo(harmless(text), err=True)

    def detail(self, text: str) -> None:
        """A line of talk that only -v wants."""
        if self.verbose:
            self.note(text)


def print_document(answer: Mapping[str, Any]) -> None:
    """One JSON document on stdout. ASCII, so that any locale and any file name pass."""
    click.echo(json.dumps(answer, indent=2, default=str))


def print_error(error: CodeferryError) -> None:
    """An error as a person reads it: what failed, then the remedy."""
    click.echo(f"Error: {harmless(error.message)}", err=True)
    for line in harmless(error.hint).splitlines():
        click.echo(f"  {line}", err=True)


def _print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    # Off a terminal there is no width to keep to, and a folded cell breaks `grep`.
    width = None if sys.stdout.isatty() else 10_000
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))
