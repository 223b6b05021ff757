"""Where a project begins."""

# os.path answers False where pathlib raises: above a project there may be anything.
# ruff: noqa: PTH110, PTH112, PTH113

from __future__ import annotations

import os
from pathlib import Path

from codeferry_cli.packing.errors import RootMissing

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
