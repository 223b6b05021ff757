"""Making many small files durable for the price of one.

An fsync waits for the filesystem's journal, for each file anew; syncfs waits once for all of
them, and for whatever else that filesystem has not written yet. So a few files are synced one
by one, and many together.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache

_FEW = 8


def make_durable(directory: int, names: Sequence[str]) -> None:
    """The content of these files of one open directory is on the disk. Raises OSError."""
    syncfs = _syncfs() if len(names) > _FEW else None
    if syncfs is not None:
        if syncfs(directory) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return
    for name in names:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@cache
def _syncfs() -> Callable[[int], int] | None:
    """The system call where there is one: Linux."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return found
