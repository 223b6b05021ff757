"""The project's directory: find its root, recognise repositories, walk its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from codeferry_cli.packing.errors import RootMissing

# os.path answers False where pathlib raises: above a project there may be anything.
# ruff: noqa: PTH110, PTH112, PTH113


MARKERS = (
    "requirements.txt",
    "setup.py",
    "pyproject.toml",
    "Cargo.toml",
    "package.json",
    "go.mod",
)


def find_root(typed: Path | None, explicit: Path | None = None) -> Path:
    """The project's root, symlinks resolved. Raises RootMissing.

    ``explicit`` wins, then the directory that was ``typed``. Without either it is the nearest
    directory from here upwards that is the top of a repository or holds one of ``MARKERS``,
    else this one.
    """
    if explicit is not None or typed is not None:
        return _directory(explicit or typed or Path())
    here = _directory(Path())
    return next((place for place in (here, *here.parents) if _begins_project(place)), here)


def in_repository(root: Path) -> bool:
    """Whether ``root`` or a directory above it has a ``.git``."""
    return any(is_repository(place) for place in (root, *root.parents))


def is_repository(place: Path) -> bool:
    """A ``.git`` directory, or the file that stands for one in worktrees and submodules."""
    return os.path.exists(place / ".git")


def _begins_project(place: Path) -> bool:
    return is_repository(place) or any(os.path.isfile(place / marker) for marker in MARKERS)


def _directory(path: Path) -> Path:
    resolved = path.resolve()
    if not os.path.isdir(resolved):
        raise RootMissing(
            f"{str(path)!r} is not a directory.",
            hint="Name the project's directory, or run ferry inside it.",
        )
    return resolved


# Paths are bytes here, as the file system and git have them; pathlib cannot hold those.
# ruff: noqa: PTH113, PTH118


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
