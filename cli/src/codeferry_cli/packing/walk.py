"""The files of a tree by walking it: without git, and for include patterns."""

# Paths are bytes here, as the file system and git have them; pathlib cannot hold those.
# ruff: noqa: PTH113, PTH114, PTH118

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from codeferry_cli.packing.errors import FilesUnreadable, listing, show
from codeferry_cli.packing.ignore import IgnoreRules, standard_patterns
from codeferry_cli.packing.repository import Listing
from codeferry_cli.packing.root import is_repository
from codeferry_cli.packing.wildmatch import Pattern, literal_prefix, parse


def walk_files(root: Path) -> Listing:
    """What git would list of ``root`` if all of it were untracked.

    A directory that is a repository of its own is given once, with a slash at its end.
    Raises FilesUnreadable.
    """
    top = next((place for place in (root, *root.parents) if is_repository(place)), root)
    rules = IgnoreRules(top, b".gitignore", standard_patterns(top))
    inside = b"" if top == root else os.fsencode(root.relative_to(top)) + b"/"
    if rules.shuts_out_directory(inside.rstrip(b"/")):
        return Listing((), ())

    def excluded(path: bytes, directory: bool) -> bool:
        return rules.excludes(inside + path, directory=directory)

    return Listing(tuple(_walk(os.fsencode(root), b"", excluded)), ())


def find_included(root: Path, text: str) -> list[bytes]:
    """The files an include pattern names, ignored or not, never inside a ``.git``.

    It is a gitignore pattern, except that one without a wildcard is a path from the root;
    what it matches is a file or a whole tree. Raises FilesUnreadable.
    """
    wanted = os.fsencode(text).removeprefix(b"./").strip(b"/")
    anchored = b"/" if literal_prefix(wanted) == wanted or text.startswith("/") else b""
    pattern = parse(anchored + wanted)
    if pattern is None:
        return []
    # A pattern from the root cannot leave the directory it spells out: walk only that.
    fixed = b"" if pattern.by_name else literal_prefix(wanted).rpartition(b"/")[0]
    top = os.fsencode(root)
    if fixed and _beyond_link(top, fixed):
        return []
    return [path for path in _walk(top, fixed, _nothing) if _names(pattern, path)]


def find_all(root: Path) -> list[bytes]:
    """Every file of ``root``, ignored or not, never inside a ``.git``. Raises FilesUnreadable."""
    return list(_walk(os.fsencode(root), b"", _nothing))


def _nothing(_path: bytes, _directory: bool) -> bool:
    return False


def _beyond_link(top: bytes, directory: bytes) -> bool:
    parts = directory.split(b"/")
    ways = (b"/".join((top, *parts[: depth + 1])) for depth in range(len(parts)))
    return b".." in parts or b".git" in parts or any(os.path.islink(way) for way in ways)


def _names(pattern: Pattern, path: bytes) -> bool:
    """Whether ``path`` or a directory above it matches."""
    while path:
        if pattern.matches(path.rpartition(b"/")[2] if pattern.by_name else path):
            return True
        path = path.rpartition(b"/")[0]
    return False


def _walk(top: bytes, start: bytes, excluded: Callable[[bytes, bool], bool]) -> Iterator[bytes]:
    """Every path below ``start`` that is no directory and not excluded; no link is followed."""
    pending, unreadable = [start], list[str]()
    stops_at_repositories = excluded is not _nothing
    while pending:
        directory = pending.pop()
        for name, is_directory in _scan(top, directory, unreadable):
            path = directory + b"/" + name if directory else name
            if name == b".git" or excluded(path, is_directory):
                continue
            if not is_directory:
                yield path
            elif stops_at_repositories and own_repository(os.path.join(top, path)):
                yield path + b"/"
            else:
                pending.append(path)
    if unreadable:
        raise FilesUnreadable(
            f"You may not read {len(unreadable)} directories:{listing(unreadable)}",
            hint="Give yourself permission, or exclude them in .gitignore or .ferryignore.",
        )


def _scan(top: bytes, directory: bytes, unreadable: list[str]) -> list[tuple[bytes, bool]]:
    try:
        with os.scandir(os.path.join(top, directory)) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except PermissionError:
        unreadable.append(show(directory) + "/")
    except (FileNotFoundError, NotADirectoryError):
        pass  # gone since its parent was read: as if it had never been there
    return []


def own_repository(directory: bytes) -> bool:
    """Whether git would take the directory for another repository: one file or one HEAD."""
    marker = os.path.join(directory, b".git")
    return os.path.isfile(marker) or os.path.isfile(os.path.join(marker, b"HEAD"))
