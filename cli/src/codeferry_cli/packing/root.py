"""Where a project begins."""

from __future__ import annotations

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


def find_root(start: Path, explicit: Path | None = None) -> Path:
    """The project root for ``start`` (a directory, or a file in one), symlinks resolved.

    ``explicit`` wins; then the nearest directory upwards with a ``.git``; then the nearest
    with one of ``MARKERS``; then the start directory. Raises RootMissing.
    """
    if explicit is not None:
        return _directory(explicit)
    begin = _directory(start.parent if start.is_file() else start)
    upwards = (begin, *begin.parents)
    return next(
        (place for place in upwards if is_repository(place)),
        next((place for place in upwards if _marked(place)), begin),
    )


def in_repository(root: Path) -> bool:
    """Whether ``root`` or a directory above it has a ``.git``."""
    return any(is_repository(place) for place in (root, *root.parents))


def is_repository(place: Path) -> bool:
    """A ``.git`` directory, or the file that stands for one in worktrees and submodules."""
    return (place / ".git").exists()


def _marked(place: Path) -> bool:
    return any((place / marker).is_file() for marker in MARKERS)


def _directory(path: Path) -> Path:
    resolved = path.resolve()
    if not resolved.is_dir():
        raise RootMissing(
            f"{str(path)!r} is not a directory.",
            hint="Name the project's directory, or run ferry inside it.",
        )
    return resolved
