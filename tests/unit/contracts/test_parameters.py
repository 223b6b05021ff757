"""Timeouts of the parts of the work."""

from __future__ import annotations

from codeferry_contracts import parameters
from codeferry_contracts.parameters import command_seconds, step_seconds


def test_defaults() -> None:
    """A script has 300 s, a command as long as Run Command allows."""
    assert command_seconds("script", None) == 300
    assert command_seconds("sync", None) == parameters.LONGEST_COMMAND_SECONDS
    assert command_seconds("sync", 7) == command_seconds("script", 7) == 7


def test_the_step_outlasts_its_command() -> None:
    """The step's timeout leaves room before and after, and never exceeds Run Command's."""
    assert step_seconds("script", 10, command=True) > parameters.APPLY_SECONDS + 10
    assert step_seconds("sync", None, command=True) == parameters.LONGEST_STEP_SECONDS


def test_a_step_without_a_command() -> None:
    """What was asked for is the work's own bound, within what Run Command takes."""
    assert step_seconds("sync", None, command=False) == parameters.APPLY_SECONDS
    assert step_seconds("sync", 3600, command=False) == 3600
    assert step_seconds("sync", 1, command=False) == 30
