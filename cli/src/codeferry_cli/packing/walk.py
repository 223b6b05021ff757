"""The files of a directory by walking it, where nobody can be asked for them."""

# Paths are bytes here, as the file system and git have them; pathlib cannot hold those.
# ruff: noqa: PTH113, PTH118

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

Excluded = Callable[[bytes, bool], bool]


def walk(
    top: bytes, unreadable: dict[bytes, str], excluded: Excluded | None = None, start: bytes = b""
) -> Iterator[bytes]:
    """Every path below ``start`` (inside ``top``) that is no directory; no link is followed.

    Never what is called ``.git``, nor what ``excluded`` says of a path and whether that is a
    directory. With it a repository inside is given once, with a slash at its end; without,
    its files are. A directory that cannot be read is noted in ``unreadable``, with a slash.
    """
    pending = [start]
    while pending:
        directory = pending.pop()
        for name, is_directory in _scan(top, directory, unreadable):
            path = directory + b"/" + name if directory else name
            if name == b".git" or (excluded and excluded(path, is_directory)):
                continue
            if not is_directory:
                yield path
            elif excluded and own_repository(os.path.join(top, path)):
                yield path + b"/"
            else:
                pending.append(path)


def _scan(top: bytes, directory: bytes, unreadable: dict[bytes, str]) -> list[tuple[bytes, bool]]:
    try:
        with os.scandir(os.path.join(top, directory)) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        pass  # gone since its parent was read: as if it had never been there
    except OSError as error:
        unreadable[(directory or b".") + b"/"] = os.strerror(error.errno or 0)
    return []


def own_repository(directory: bytes) -> bool:
    """Whether git would take the directory for another repository: one file or one HEAD."""
    marker = os.path.join(directory, b".git")
    return os.path.isfile(marker) or os.path.isfile(os.path.join(marker, b"HEAD"))
