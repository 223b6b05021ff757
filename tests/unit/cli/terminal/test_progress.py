"""Progress of a run: in place on a terminal, in few lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

import click
from rich.console import Console

from codeferry_cli.runs.log_lines import Line
from codeferry_cli.terminal.progress import LiveProgress, PlainProgress
from scripts.screen import screen

ONE = "i-00000000000000001"


def bar(text: str) -> Line:
    return Line(ONE, 0, text, redrawn=True)


def test_a_bar_is_drawn_in_place_and_stays_as_it_was_left() -> None:
    """A hundred states are one line above the step at hand."""
    live = LiveProgress()
    written = io.StringIO()
    live._console = Console(file=written, force_terminal=True, width=60, color_system="standard")
    with live:
        live.now("Running…", "apply")
        for share in range(101):
            live.output(bar(f"\x1b[32m{share} %\x1b[0m"), "cyan")
        live.output(Line(ONE, 0, "done"), "cyan")
    bars = [click.unstyle(line) for line in screen(written.getvalue()) if "|" in line]
    assert bars == [f"{ONE} | 100 %", f"{ONE} | done"]


def test_off_a_terminal_a_bar_is_few_lines(capsys: Any) -> None:
    """Its first state, and how it was left; no colour."""
    with PlainProgress() as plain:
        for share in range(101):
            plain.output(bar(f"\x1b[32m{share} %\x1b[0m"), "cyan")
    assert capsys.readouterr().err.splitlines() == [f"{ONE} | 0 %", f"{ONE} | 100 %"]
