"""The agent's state, which anybody may have written, and its log lines, as people read them."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from codeferry_agent.drain.logs import JsonLines, PlainLines
from codeferry_agent.drain.status import lines
from codeferry_contracts.escaping import HARMFUL

NASTY = "\x1b]0;x\x07\x9b2J\u202e\u061c\xad\u2060\U000e0041\r\n"


def shown(state: object) -> list[str]:
    """What `drain status` prints of a root whose agent left this state."""
    root = {"root": f"/srv/{NASTY}", "running": True, "pending_files": 0, "pending_bytes": 0}
    waiting = {"oldest_seconds": None, "unreadable": [NASTY], "left": 0, "left_first": []}
    return list(lines({"roots": [{**root, **waiting, "agent": state}]}))


def state(**changes: Any) -> dict[str, Any]:
    speed = {"files_per_second": 1.0, "bytes_per_second": 1.0, "window_seconds": 300}
    error = {"over": False, "at": 0.0, "message": "no such bucket"}
    whole = {"pid": 1, "scanned": 0.0, "last_scan": {"uploaded": 1}, "throughput": speed}
    return {**whole, "buckets": {"results": error}, **changes}


def test_a_state_that_others_wrote_moves_no_terminal() -> None:
    """Escapes in the names and messages of a state file are spelled out, each line one line."""
    error = {"over": False, "at": 0.0, "message": f"gone {NASTY}"}
    hostile = state(buckets={f"b{NASTY}": error}, last_scan={f"n{NASTY}": NASTY})
    found = shown(hostile)
    assert not any(HARMFUL.search(line) or "\n" in line for line in found)
    assert any("gone \\x1b]0;x" in line and "\\U000e0041" in line for line in found)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"pid": "\x1b[2J"},
        state(last_scan=[]),
        state(throughput={}),
        state(scanned="now"),
        state(buckets=[1]),
        state(buckets={"b": None}),
        state(throughput=dict.fromkeys(state()["throughput"], "x")),
    ],
)
def test_a_state_of_another_kind_is_not_shown(wrong: dict[str, Any]) -> None:
    """What waits is told all the same."""
    found = shown(wrong)
    assert any("waiting: 0 files" in line for line in found)
    assert not wrong or found[-1] == "  the agent's state cannot be read"


@pytest.mark.parametrize("formatter", [PlainLines(), JsonLines()], ids=["plain", "json"])
def test_a_log_line_is_one_line_without_escapes(formatter: logging.Formatter) -> None:
    """For people and for programs, also of an error that quotes what others wrote."""
    try:
        raise ValueError(NASTY)
    except ValueError:
        record = logging.LogRecord("x", 20, "x", 1, "of %s", (NASTY,), sys.exc_info())
    text = formatter.format(record)
    assert not HARMFUL.search(text)
    assert text.isascii()
    assert "\n" not in text.partition("\nTraceback")[0]
