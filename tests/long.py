"""Sizes of the long version of a test, which ``make chaos`` asks for, and of the usual one."""

from __future__ import annotations

import os
from typing import TypeVar

Size = TypeVar("Size")


def sized(usual: Size, long: Size) -> Size:
    """``usual`` shows the same by less: enough parts, enough kills."""
    return long if os.environ.get("CODEFERRY_LONG") else usual
