"""The services of the embedded AWS: MiniStack, corrected, and the app deployed to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def wrap(module: Any, name: str, wrapper: Callable[..., Any], *arguments: Any) -> None:
    """Replace a function of MiniStack, which has no public seam, by ``wrapper`` of it."""
    setattr(module, name, wrapper(getattr(module, name), *arguments))
