"""The commands of docs/first-day.md, which nobody can try here, are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from codeferry_cli.commands import ferry

PAGE = Path(__file__).resolve().parents[3] / "docs/first-day.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("ferry ")]


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_first_day_is_understood(line: str, clean_environment: Path) -> None:
    """By the parser of today: each name, option and value. Nothing of it is done."""
    (clean_environment / "big").mkdir()
    name, *arguments = shlex.split(line, comments=True)[1:]
    command = ferry.get_command(click.Context(ferry), name)
    assert command is not None
    command.make_context(name, arguments)


def test_every_step_says_what_it_shows_and_what_it_costs() -> None:
    """A price or a time in each heading; what should be seen in each but the last."""
    steps = re.split(r"\n## (?=\d)", PAGE.read_text())[1:]
    assert len(steps) == 7
    for step in steps[:-1]:
        assert re.match(r"\d\. .*(\$[\d.]+|cents)", step)
        assert "**Shows**" in step
