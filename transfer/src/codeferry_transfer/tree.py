"""A local tree as a sorted stream, in the order in which S3 lists keys."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from codeferry_transfer.errors import FileUnfit
from codeferry_transfer.plan import STAGING_PREFIX, Entry
from codeferry_transfer.selection import Selection

GONE = "gone since it was listed"

OnLeftOut = Callable[[str, str], None]
OnError = Callable[[str, OSError], None]


def _silent(path: str, why: str) -> None:
    """Nobody wants to know."""


def _raise(path: str, error: OSError) -> None:
    raise error


@dataclass(frozen=True)
class Scan:
    """How a tree is looked at, and who is told of what is no part of it.

    ``left_out`` gets, with the reason, what is neither file nor directory and what a download
    left unfinished; ``passed_over`` the directories in which nothing is meant; ``failed`` what
    cannot be looked at. With ``directories`` they are entries too, as ``path/``.
    """

    meant: Selection = field(default_factory=Selection)
    left_out: OnLeftOut = _silent
    passed_over: Callable[[str], None] = lambda _: None
    failed: OnError = _raise
    directories: bool = False

    def files(self, root: str) -> Iterator[Entry]:
        """The regular files under ``root`` that are meant, by the bytes of their paths.

        Links are not followed. What vanishes meanwhile is left out: it may be on its way to
        another name. Raises FileUnfit when ``root`` itself cannot be listed: that is no empty
        tree.
        """
        try:
            names = _sorted(root)
        except OSError as error:
            raise FileUnfit(f"{root} cannot be listed: {error.strerror}.") from error
        yield from self._below(names, "")

    def _below(self, names: list[tuple[str, os.DirEntry[str]]], prefix: str) -> Iterator[Entry]:
        for name, entry in names:
            path = prefix + name
            if name.endswith("/"):
                yield from self._directory(entry, path)
            elif (file := self._file(entry, path)) is not None:
                yield file

    def _directory(self, entry: os.DirEntry[str], path: str) -> Iterator[Entry]:
        if not self.meant.enters(path):
            self.passed_over(path[:-1])
            return
        if entry.name.startswith(STAGING_PREFIX):
            self.left_out(path[:-1], "what a download left unfinished")
            return
        if self.directories and self.meant(path):
            yield Entry(path, 0, 0.0)
        try:
            names = _sorted(entry.path)
        except FileNotFoundError:
            self.left_out(path[:-1], GONE)
            return
        except OSError as error:
            self.failed(path[:-1], error)
            return
        yield from self._below(names, path)

    def _file(self, entry: os.DirEntry[str], path: str) -> Entry | None:
        if not self.meant.concerns(path):
            return None
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            self.left_out(path, GONE)
            return None
        except OSError as error:
            self.failed(path, error)
            return None
        if not stat.S_ISREG(status.st_mode):
            self.left_out(path, kind_of(status.st_mode))
            return None
        return Entry(path, status.st_size, status.st_mtime) if self.meant(path) else None


def kind_of(mode: int) -> str:
    """What something that is no regular file is called."""
    return _KINDS.get(stat.S_IFMT(mode), "not a regular file")


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _sorted(directory: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Directories sort as what is in them does: ``a/`` after ``a-b`` and before ``a0``."""
    with os.scandir(directory) as entries:
        named = [(entry.name + "/" * _is_directory(entry), entry) for entry in entries]
    named.sort(key=lambda pair: pair[0])
    return named


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False  # what it is will be asked again, where the answer counts
