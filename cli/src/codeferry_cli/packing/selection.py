"""Which files of a project are packed."""

# Paths are bytes here, as the file system and git have them; pathlib cannot hold those.
# ruff: noqa: PTH114, PTH115, PTH208

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from codeferry_cli.packing.errors import (
    FilesUnreadable,
    LinksLeaveTree,
    NoFiles,
    listing,
    show,
)
from codeferry_cli.packing.ignore import IgnoreRules
from codeferry_cli.packing.links import leaves_tree
from codeferry_cli.packing.repository import IGNORED, GitUnusable, Listing, list_files
from codeferry_cli.packing.root import in_repository
from codeferry_cli.packing.walk import find_all, find_included, own_repository, walk_files
from codeferry_contracts.manifest import META_DIRECTORY

_RESERVED = META_DIRECTORY.encode() + b"/"
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


class File(NamedTuple):
    """A regular file or, with a ``target``, a symlink, as it was when selected.

    A tuple, because there may be 100,000. ``path`` is relative to the root; ``size`` in
    bytes. ``source`` is where it is read from, where that is not below the root.
    """

    path: bytes
    mode: int
    size: int
    mtime_ns: int
    target: bytes | None = None
    source: bytes | None = None


@dataclass(frozen=True)
class Selection:
    """What will be packed: ``files`` in the order of their path's bytes.

    ``left_out`` pairs each path that was dropped for a reason of its own with that reason;
    what git ignores is listed by ``ignored``. ``allowed`` are the paths of --allow-secret.
    """

    root: Path
    files: tuple[File, ...]
    warnings: tuple[str, ...]
    left_out: tuple[tuple[bytes, str], ...]
    allowed: frozenset[bytes]

    @property
    def bytes(self) -> int:
        """The sum of the file sizes when selected."""
        return sum(file.size for file in self.files)

    def largest(self, count: int = 10) -> list[File]:
        """The files that take most room, largest first."""
        return sorted(self.files, key=lambda file: -file.size)[:count]


def select(
    root: Path,
    include_patterns: Sequence[str] = (),
    allow_secrets: Sequence[str] = (),
) -> Selection:
    """Choose the files of ``root`` as git would, less ``.ferryignore``, plus the patterns.

    Raises NoFiles, LinksLeaveTree, FilesUnreadable or GitRefused.
    """
    choice = _Choice(root)
    choice.take_standard()
    for pattern in include_patterns:
        choice.include(pattern)
    choice.look_for_special_files()
    choice.require_sound(include_patterns)
    return choice.made(allow_secrets)


def select_all(root: Path, allow_secrets: Sequence[str] = ()) -> Selection:
    """Choose every file below ``root``, whatever ignores it: it was named. Never ``.git``.

    It may be empty. Raises LinksLeaveTree or FilesUnreadable.
    """
    choice = _Choice(root)
    choice.take_everything()
    choice.require_allowed()
    return choice.made(allow_secrets)


def ignored(root: Path) -> list[bytes]:
    """What the ignore files leave out, whole directories once with a slash at their end.

    Only for people who ask: without a repository it is empty.
    """
    try:
        return sorted(list_files(root, IGNORED).paths) if in_repository(root) else []
    except GitUnusable:
        return []


class _Choice:
    """The selection while it is made."""

    def __init__(self, root: Path) -> None:
        self.files: dict[bytes, File] = {}
        self.warnings: list[str] = []
        self.left_out: dict[bytes, str] = {}
        self._root = root
        self._prefix = os.fsencode(root) + b"/"
        self._ferryignore = IgnoreRules(root, b".ferryignore")
        self._real = {b"": True}
        self._leaving: list[str] = []
        self._unreadable: list[str] = []

    def take_standard(self, inside: bytes = b"") -> None:
        """Take what git would list, in ``inside`` (a submodule, ending in a slash) or the root."""
        found = _list(Path(os.fsdecode(self._prefix + inside)))
        self.warnings += found.warnings
        for name in found.paths:
            path = inside + name
            if path.endswith(b"/"):
                self._skip(path, "is a repository of its own; --include-pattern takes its files")
            elif self._ferryignore.shuts_out(path):
                self.left_out[path] = "is excluded by .ferryignore"
            else:
                self._take(path)

    def take_everything(self) -> None:
        for path in find_all(self._root):
            self._take(path)

    def include(self, pattern: str) -> None:
        """Take what an include pattern names, whatever ignores it."""
        found = find_included(self._root, pattern)
        if not found:
            self.warnings.append(f"--include-pattern {pattern!r} names no file.")
        for path in found:
            self.left_out.pop(path, None)
            self._take(path)

    def look_for_special_files(self) -> None:
        """Warn of sockets, FIFOs and devices too: git lists none of them."""
        ignores = IgnoreRules(self._root, b".gitignore")
        for directory in [path for path, real in self._real.items() if real]:
            for path in _special_files(self._prefix, directory):
                if not (ignores.shuts_out(path) or self._ferryignore.shuts_out(path)):
                    self._take(path)

    def require_sound(self, include_patterns: Sequence[str]) -> None:
        """Raise for what forbids packing."""
        self.require_allowed()
        if not self.files:
            raise _no_files(self._root, include_patterns, len(self.left_out))

    def require_allowed(self) -> None:
        """Raise for files that cannot go."""
        if self._leaving:
            raise LinksLeaveTree(
                f"{len(self._leaving)} symlinks lead out of the project:"
                + listing(sorted(self._leaving)),
                hint="Make them relative and inside, or exclude them in .ferryignore.",
            )
        if self._unreadable:
            raise FilesUnreadable(
                f"You may not read {len(self._unreadable)} files:"
                + listing(sorted(self._unreadable)),
                hint="Give yourself permission, or exclude them in .gitignore or .ferryignore.",
            )

    def made(self, allow_secrets: Sequence[str]) -> Selection:
        return Selection(
            root=self._root,
            files=tuple(self.files[path] for path in sorted(self.files)),
            warnings=tuple(dict.fromkeys(self.warnings)),
            left_out=tuple(sorted(self.left_out.items())),
            allowed=frozenset(_relative(self._root, path) for path in allow_secrets),
        )

    def _take(self, path: bytes) -> None:
        if path == _RESERVED[:-1] or path.startswith(_RESERVED):
            self._skip(_RESERVED, "is where the archive's own manifest goes")
            return
        try:
            # A tracked path may lie beyond what is now a link: git counts it as deleted.
            found = os.lstat(self._prefix + path) if self._is_real(path) else None
        except (FileNotFoundError, NotADirectoryError):
            return
        except PermissionError:
            self._unreadable.append(show(path))
            return
        if found is not None:
            self._take_as_found(path, found)

    def _take_as_found(self, path: bytes, found: os.stat_result) -> None:
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            self.files[path] = File(path, found.st_mode, found.st_size, found.st_mtime_ns)
        elif kind == stat.S_IFLNK:
            self._take_link(path, found)
        elif kind == stat.S_IFDIR:
            self._take_directory(path)
        else:
            self._skip(path, f"is {_KINDS.get(kind, 'a device')}")

    def _take_link(self, path: bytes, found: os.stat_result) -> None:
        target = os.readlink(self._prefix + path)
        why = leaves_tree(self._prefix[:-1], path, target)
        if why:
            self._leaving.append(f"{show(path)} -> {show(target)} ({why})")
        self.files[path] = File(path, found.st_mode, 0, found.st_mtime_ns, target)

    def _take_directory(self, path: bytes) -> None:
        """Git lists a directory without a slash when it is tracked as a submodule."""
        if own_repository(self._prefix + path):
            self.take_standard(path + b"/")
        elif not os.listdir(self._prefix + path):
            self._skip(path, "is a submodule that is not checked out")

    def _is_real(self, path: bytes) -> bool:
        """Whether the directories above ``path`` are directories and not links."""
        parent = path.rpartition(b"/")[0]
        if parent not in self._real:
            self._real[parent] = self._is_real(parent) and not os.path.islink(self._prefix + parent)
        return self._real[parent]

    def _skip(self, path: bytes, why: str) -> None:
        if path not in self.left_out:
            self.left_out[path] = why
            self.warnings.append(f"{show(path)} {why}: left out.")


def _list(root: Path) -> Listing:
    if not in_repository(root):
        return walk_files(root)
    try:
        return list_files(root)
    except GitUnusable as reason:
        warning = f"{reason}: files that are tracked though ignored cannot be known."
        return Listing(walk_files(root).paths, (warning,))


def _special_files(prefix: bytes, directory: bytes) -> list[bytes]:
    inside = directory + b"/" if directory else b""
    with os.scandir(prefix + inside) as entries:
        return [inside + entry.name for entry in entries if _is_special(entry)]


def _is_special(entry: os.DirEntry[bytes]) -> bool:
    return not (
        entry.is_file(follow_symlinks=False)
        or entry.is_dir(follow_symlinks=False)
        or entry.is_symlink()
    )


def _no_files(root: Path, include_patterns: Sequence[str], dropped: int) -> NoFiles:
    how = "as git lists it" if in_repository(root) else "less what .gitignore excludes"
    patterns = f" and --include-pattern {', '.join(include_patterns)}" if include_patterns else ""
    rest = f"; {dropped} paths were left out" if dropped else ""
    return NoFiles(
        f"No files to sync: looked at {str(root)!r} {how}{patterns}{rest}.",
        hint="Add files, check .gitignore and .ferryignore, or use --include-pattern.",
    )


def _relative(root: Path, path: str) -> bytes:
    """A path a person typed, as the selection spells it."""
    return os.fsencode(os.path.relpath(root / path, root))
