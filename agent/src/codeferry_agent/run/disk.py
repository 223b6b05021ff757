"""Files and directories that a crash or a full disk leaves as they were, or as they should be."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codeferry_agent.run.failures import log

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# What only we can rename: a link there is the administrator's, to a larger disk perhaps.
OURS = os.O_RDONLY | os.O_DIRECTORY


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, OURS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_filesystem(directory: Path) -> None:
    with opened(directory) as descriptor:
        if ctypes.CDLL(None).syncfs(descriptor) != 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False where kernel or filesystem cannot."""
    rename, here, swap = getattr(ctypes.CDLL(None), "renameat2", None), -100, 2
    return rename is not None and rename(here, bytes(one), here, bytes(other), swap) == 0


def sync_directory(directory: Path) -> None:
    with opened(directory) as descriptor:
        os.fsync(descriptor)


def write_json(path: Path, document: Any) -> None:
    """Replace a small file; a reader or a crash sees the old or the new one."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def discard(path: Path) -> None:
    """Remove a tree; what resists stays in staging for the next run."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # Python needs an open file and a call for each level
        with contextlib.suppress(OSError):
            rm = ["rm", "-rf", "--", str(path)]
            subprocess.run(rm, stderr=subprocess.DEVNULL, check=False)
    if path.exists():
        log(f"Could not remove all of {path.name}")


def reserve(path: Path, size: int) -> None:
    """Take room on the disk for what will be ``fill``ed."""
    with spare(path).open("wb") as file:
        file.write(b" " * size)
        file.flush()
        os.fsync(file.fileno())


def fill(path: Path, words: str) -> None:
    """Replace a file at once, in the room reserved for it if there is any."""
    place = spare(path)
    place.touch(mode=0o600)
    with place.open("r+b") as file:
        file.write(words.encode())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    place.replace(path)
    sync_directory(path.parent)


def spare(path: Path) -> Path:
    return path.with_name(f".{path.name}.spare")
