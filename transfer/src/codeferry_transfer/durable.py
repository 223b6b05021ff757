"""Making many small files durable for the price of one.

An fsync waits for the filesystem's journal, for each file anew; syncfs waits once for all of
them, and for whatever else that filesystem has not written yet. So a few files are synced one
by one, and many together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_FEW = 8


def make_durable(directory: int, names: Sequence[str]) -> None:
    """The content of these files of one open directory is on the disk. Raises OSError."""
    if len(names) > _FEW and _synced(directory):
        return
    for name in names:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _synced(directory: int) -> bool:
    """Whether all of its filesystem is on the disk now; False where syncfs is unknown.

    Raises OSError.
    """
    import ctypes  # late: few transfers need it, and it takes a while

    syncfs = getattr(_libc(), "syncfs", None)
    if syncfs is not None and syncfs(directory) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return syncfs is not None


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
