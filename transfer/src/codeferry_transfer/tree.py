"""A local tree as a sorted stream, in the order in which S3 lists keys."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from codeferry_transfer.plan import Entry

# What a download leaves behind when it is killed; never part of a tree.
STAGING_PREFIX = ".ferry-download"

LeftOut = Callable[[str, str], None]


def scan(root: str, left_out: LeftOut) -> Iterator[Entry]:
    """The regular files under ``root``, by the bytes of their relative paths.

    Links are not followed; they and everything else that is no regular file go to
    ``left_out`` with the reason. A file that vanishes is not there. Raises OSError for a
    directory that cannot be read: half a listing is none.
    """
    return _scan(root, "", left_out)


def _scan(directory: str, prefix: str, left_out: LeftOut) -> Iterator[Entry]:
    for name, entry in _sorted(directory):
        path = prefix + name
        if name.endswith("/"):
            if not name.startswith(STAGING_PREFIX):
                yield from _scan(entry.path, path, left_out)
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield Entry(path, status.st_size, status.st_mtime)
        else:
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
            left_out(path, kind)


def _sorted(directory: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Directories sort as what is in them does: ``a/`` after ``a-b`` and before ``a0``."""
    with os.scandir(directory) as entries:
        named = [
            (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name, entry)
            for entry in entries
        ]
    named.sort(key=lambda pair: pair[0])
    return named
