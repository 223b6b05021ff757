"""Output of a command: data on stdout, messages on stderr, one document for --json."""

from __future__ import annotations

import json
import select
import shutil
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from codeferry_cli.terminal.table import Column, Row, to_csv, to_lines
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.escaping import harmless

SILENCE_SECONDS = 2.0
TABLE, JSON, CSV, RAW = "table", "json", "csv", "raw"


@dataclass(frozen=True)
class Output:
    """``json`` asks for one document on stdout, as ``form`` JSON does. With CSV stdout has the
    table and nothing else, with RAW what a command printed. ``verbose`` counts the -v."""

    json: bool = False
    verbose: int = 0
    form: str | None = None

    def __post_init__(self) -> None:
        if self.json and self.form not in (None, JSON):
            raise click.UsageError(f"--json and --output {self.form} contradict each other.")
        if self.form == JSON:
            object.__setattr__(self, "json", True)

    @property
    def csv(self) -> bool:
        return self.form == CSV

    @property
    def _stdout_is_taken(self) -> bool:
        """Whether what is for people has to leave stdout to something else."""
        return self.form in (CSV, RAW)

    def document(self, answer: Mapping[str, Any]) -> None:
        """The ``--json`` answer of a command that succeeded; nothing without ``--json``."""
        if self.json:
            print_document({"success": True, **answer})

    def line(self, text: str = "") -> None:
        """A line of data, for people; nothing under ``--json``, on stderr beside CSV and RAW."""
        if not self.json:
            _print(harmless(text), err=self._stdout_is_taken)

    def table(self, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """A table on stdout, as wide as the terminal at most, or as CSV; nothing under ``--json``.

        Off a terminal there is no width to keep to.
        """
        if self.json:
            return
        if self.csv:
            click.echo(to_csv(columns, list(rows)), nl=False)
            return
        lines = to_lines(columns, list(rows), _terminal_width(err=self._stdout_is_taken))
        click.echo("\n".join(lines), err=self._stdout_is_taken)

    def note(self, text: str) -> None:
        """A line on stderr, beside the data."""
        _print(harmless(text), err=True)

    def detail(self, text: str) -> None:
        """A line on stderr that only -v wants."""
        if self.verbose:
            self.note(text)


def print_document(answer: Mapping[str, Any]) -> None:
    """One JSON document on stdout. ASCII, so that any locale and any file name pass."""
    click.echo(json.dumps(answer, indent=2, default=str))


def print_error(error: CodeferryError) -> None:
    """An error as a person reads it: what failed, then the remedy."""
    _print(f"Error: {harmless(error.message)}", err=True)
    for line in harmless(error.hint).splitlines():
        _print(f"  {line}", err=True)


def _terminal_width(*, err: bool) -> int | None:
    """The width of stderr or stdout; None where it is no terminal."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _print(text: str, *, err: bool) -> None:
    width = _terminal_width(err=err)
    if width is not None:
        text = "\n".join(part for line in text.split("\n") for part in wrap_line(line, width))
    click.echo(text, err=err)


def wrap_line(line: str, width: int) -> list[str]:
    """``line`` in parts between words, for a terminal that would break an id at its edge.

    A command stays in one piece: pasted, its first line would run.
    """
    if len(line) <= width or "ferry " in line:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
    return wrapper.wrap(line) or [line]


@contextmanager
def notice_when_slow(text: str) -> Iterator[None]:
    """A line on stderr when what is done here takes longer than a person waits in silence."""
    timer = threading.Timer(SILENCE_SECONDS, click.echo, (text,), {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


contacting_aws = partial(notice_when_slow, "Contacting AWS…")


def reader_gone() -> bool:
    """Whether stdout is a pipe that nobody reads."""
    watched = select.poll()
    try:
        watched.register(sys.stdout.fileno(), select.POLLOUT)
    except (OSError, ValueError):
        return False
    return any(event & select.POLLERR for _, event in watched.poll(0))
