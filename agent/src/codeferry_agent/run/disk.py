"""Files and directories that a crash or a full disk leaves as they were, or as they should be."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codeferry_agent.run.failures import log

LEVELS = 10_000  # of a tree that are removed by one run
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# What only we can rename: a link there is the administrator's, to a larger disk perhaps.
OURS = os.O_RDONLY | os.O_DIRECTORY


@contextlib.contextmanager
def opened(path: Path, how: int = OURS) -> Iterator[int]:
    descriptor = os.open(path, how)
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
    """Replace a small file of ours; a reader or a crash sees the old or the new one."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w") as file:
        os.fchmod(file.fileno(), 0o600)
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
    """Remove a tree, or a file, and never raise; what resists stays for the next run.

    However deep it is, and whatever its owner does to it meanwhile: what a directory in it holds is
    moved up to its top, a level at a time, and by descriptors that follow no link.
    """
    try:
        for _ in range(LEVELS):
            if removed(path):
                return
            with opened(path, DIRECTORY) as top:
                gone = [lift(name, top) for name in os.listdir(top)]  # noqa: PTH208
            if not any(gone):
                break
    except FileNotFoundError:
        return
    except OSError as error:
        log(f"{path.name}: {error.strerror}")
    log(f"Could not remove all of {path.name}")


def lift(name: str, top: int) -> bool:
    """Remove what has this name in ``top``, its directories moved to ``top``; whether that went."""
    if removed(name, top):
        return True
    with contextlib.suppress(OSError):
        below = os.open(name, DIRECTORY, dir_fd=top)
        try:
            for each in os.listdir(below):  # noqa: PTH208 - of a descriptor
                if not removed(each, below):
                    with contextlib.suppress(OSError):
                        os.rename(each, os.urandom(16).hex(), src_dir_fd=below, dst_dir_fd=top)
        finally:
            os.close(below)
    return removed(name, top)


def removed(name: str | Path, at: int | None = None) -> bool:
    """Remove a file, link or empty directory; whether it is gone."""
    for remove in (os.unlink, os.rmdir):
        try:
            remove(name, dir_fd=at)
        except FileNotFoundError:
            return True
        except OSError:
            continue
        return True
    return False


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
