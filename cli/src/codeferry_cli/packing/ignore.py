"""Which paths ignore files exclude, decided as git decides.

git looks at one directory level at a time: an excluded directory is never entered, so
nothing in it can be brought back, and for one path the last matching line of the nearest
file that has a matching line decides. Paths are bytes, relative to the top, as in git.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from codeferry_cli.packing.wildmatch import Pattern, parse

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Patterns = tuple[Pattern, ...]  # the last line of the file first


def read_patterns(file: bytes) -> Patterns:
    """The patterns of an ignore file; none if it is absent or no regular file, as for git."""
    try:
        descriptor = os.open(file, _FLAGS)
    except OSError:
        return ()  # git, too, goes on without an ignore file it cannot open
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ()
        lines = stream.read().removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    return tuple(pattern for line in reversed(lines) if (pattern := parse(line)))


def standard_patterns(top: Path) -> Patterns:
    """``.git/info/exclude`` and the user's own ignore file where git looks by default."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    files = (top / ".git" / "info" / "exclude", Path(home) / "git" / "ignore")
    return tuple(pattern for file in files for pattern in read_patterns(os.fsencode(file)))


class IgnoreRules:
    """The ignore files of one tree, each read when a path first needs it.

    ``file_name`` is what they are called in every directory, ``lowest`` are patterns that
    apply to the whole tree when no file decides.
    """

    def __init__(self, top: Path, file_name: bytes, lowest: Iterable[Pattern] = ()) -> None:
        self._top = os.fsencode(top)
        self._name = file_name
        self._lowest = tuple(lowest)
        self._levels: dict[bytes, tuple[tuple[int, Patterns], ...]] = {}
        self._shut: dict[bytes, bool] = {b"": False}

    def excludes(self, path: bytes, *, directory: bool) -> bool:
        """Whether ``path`` is excluded, provided that no directory above it is."""
        parent, _, name = path.rpartition(b"/")
        for start, patterns in self._above(parent):
            relative = path[start:]
            for pattern in patterns:
                if pattern.directories_only and not directory:
                    continue
                if pattern.matches(name if pattern.by_name else relative):
                    return not pattern.negative
        return False

    def shuts_out(self, path: bytes) -> bool:
        """Whether the file at ``path``, or any directory above it, is excluded."""
        return self.shuts_out_directory(path.rpartition(b"/")[0]) or self.excludes(
            path, directory=False
        )

    def shuts_out_directory(self, path: bytes) -> bool:
        """Whether the directory at ``path``, or any above it, is excluded."""
        if path not in self._shut:
            self._shut[path] = self.shuts_out_directory(path.rpartition(b"/")[0]) or self.excludes(
                path, directory=True
            )
        return self._shut[path]

    def _above(self, directory: bytes) -> tuple[tuple[int, Patterns], ...]:
        """Where each non-empty ignore file above counts from, with its patterns, nearest first."""
        if directory not in self._levels:
            own = read_patterns(b"/".join(filter(None, (self._top, directory, self._name))))
            level = ((len(directory) + 1 if directory else 0, own),) if own else ()
            self._levels[directory] = level + self._inherited(directory)
        return self._levels[directory]

    def _inherited(self, directory: bytes) -> tuple[tuple[int, Patterns], ...]:
        if directory:
            return self._above(directory.rpartition(b"/")[0])
        return ((0, self._lowest),) if self._lowest else ()
