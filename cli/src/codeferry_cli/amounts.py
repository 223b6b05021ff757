"""Amounts and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from codeferry_contracts.amounts import counted, seconds, size

__all__ = ["counted", "seconds", "size", "when"]


def when(moment: datetime) -> str:
    """To the second and in UTC, as in the ids of runs, on their pages and in the logs."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
