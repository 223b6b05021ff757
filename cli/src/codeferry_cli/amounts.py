"""Amounts and times as people read them."""

from __future__ import annotations

from datetime import datetime

from codeferry_contracts.amounts import counted, seconds, size

__all__ = ["counted", "seconds", "size", "when"]


def when(moment: datetime) -> str:
    """Local time to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
