"""Text from others, made safe for the report page. Values only.

Instances, tags and file names say what they like. The template escapes markup, and contracts'
``escaping`` what a browser would not show.
"""

from __future__ import annotations

from datetime import datetime

from codeferry_contracts.escaping import harmless
from codeferry_contracts.escaping import one_line as on_one_line

NAME_CHARACTERS = 48


def visible(text: object) -> str:
    """``text`` with every character that would not be seen written as its code."""
    return harmless(str(text))


def one_line(text: object, limit: int) -> str:
    """``visible``, on one line: the first ``limit`` characters."""
    whole = str(text)
    shown = on_one_line(whole[:limit])
    return f"{shown}…" if len(whole) > limit else shown


def lines(text: object, limit: int) -> str:
    """``visible``, lines kept: the first ``limit`` characters."""
    whole = str(text)
    return visible(whole[:limit]) + ("…" if len(whole) > limit else "")


def when(moment: datetime) -> str:
    """``2026-11-12 09:30:00 UTC``, of a moment in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
