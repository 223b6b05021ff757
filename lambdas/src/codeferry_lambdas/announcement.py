"""How a run ended, in a line that can go anywhere: into an e-mail, a chat, a log. Values only."""

from __future__ import annotations

from datetime import datetime

from codeferry_contracts.escaping import HARMFUL
from codeferry_contracts.formatting import seconds
from codeferry_contracts.report import Report

MOST_CHARACTERS = 1000
# EventBridge puts a value into the text of a rule's target as it is: a quote in it, or a
# backslash, would end the text early and lose the message.
_PLAIN = str.maketrans({'"': "'", "\\": "/", "<": "‹", ">": "›"})


def announcement(report: Report) -> str:
    """One line of printable characters without double quotes and backslashes."""
    return _plain(f"{_subject(report)} {_outcome(report)}")


def _subject(report: Report) -> str:
    what = report["project"] or "A run"
    where = f" to {report['target']}" if report["target"] else ""
    return f"{what}{where} on {report['stage']} {report['status'].lower()}"


def _outcome(report: Report) -> str:
    counts, error = report["counts"], report["error"]
    started, finished = map(datetime.fromisoformat, (report["started_at"], report["finished_at"]))
    took = seconds(max(0.0, (finished - started).total_seconds()))
    if error is None:
        return f"after {took}: {counts['succeeded']}/{counts['total']} instances succeeded."
    return f"after {took}: {error['message']} {error['hint']}"


def _plain(text: str) -> str:
    cut = text[: MOST_CHARACTERS - 1] + ("…" if len(text) >= MOST_CHARACTERS else "")
    # Not spelled out: a backslash would end the text in which EventBridge puts the line.
    return " ".join(HARMFUL.sub(" ", cut).split()).translate(_PLAIN)
