"""The line about a finished run."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts.escaping import HARMFUL
from codeferry_lambdas.runs.announce import MOST_CHARACTERS, announcement
from tests.browser.reports import failed_run, hostile, report


def test_success() -> None:
    """Who went where, on which stage, for how long, and how many."""
    line = "demo to gpu-workers on prod succeeded after 27.4 s: 3/3 instances succeeded."
    assert announcement(report()) == line


def test_failure() -> None:
    """The error and its hint."""
    said = announcement(failed_run())
    assert said.startswith("demo to gpu-workers on prod failed after 27.4 s: 9/12 instances")
    assert said.endswith("ferry logs has all of it.")


def test_a_run_without_a_project() -> None:
    """A request that could not be read is announced all the same."""
    error = {"code": "request_invalid", "message": "No target.", "hint": ""}
    made = report([], project="", target="", status="FAILED", error=error)
    assert announcement(made) == "A run on prod failed after 27.4 s: No target."


def test_hostile_text_stays_one_short_line() -> None:
    """A megabyte of markup and escapes is cut, and nothing in it acts on anybody."""
    line = announcement(hostile())
    assert len(line) <= MOST_CHARACTERS
    assert line.isprintable()


def test_what_is_not_seen_is_not_mailed() -> None:
    """Marks that reorder, letters that look like nothing, and tags are left out of the line."""
    hidden = "\u061c\xad\u2060\u202e\u3164\U000e0041\x9b"
    error = {"code": "x", "message": f"no{hidden}thing", "hint": hidden}
    made = announcement(report([], status="FAILED", error=error))
    assert made.endswith("no thing")
    assert not HARMFUL.search(made)


@given(st.text(st.characters(exclude_categories=())))
def test_any_error_fits_between_quotes(words: str) -> None:
    """Put as it is into a JSON string, the line is that string."""
    error = {"code": "x", "message": words, "hint": words}
    line = announcement(report([], status="FAILED", error=error))
    assert json.loads(f'"{line}"') == line
    assert "<" not in line
