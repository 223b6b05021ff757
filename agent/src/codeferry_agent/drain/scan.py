"""Listing a tree by open directories, so that no link on the way is ever followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What a directory answers that was removed, or swapped for something else, since it was listed.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_LINK = "it is a link, which is not followed (mount --bind puts a directory here, too)"


class Directory:
    """An open directory; closed, like a file object, when nothing refers to it any more.

    ``path`` is relative to the root ("" is the root itself); undecodable bytes are
    surrogates, as everywhere in Python.
    """

    __slots__ = ("descriptor", "path")

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        self.path = path

    @classmethod
    def top(cls, path: str) -> Directory:
        """The root itself, which may be a link: it is what the user named."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "")

    def below(self, name: str) -> Directory:
        """Open a subdirectory. Raises OSError, also when it is a link."""
        return Directory(os.open(name, _OPEN, dir_fd=self.descriptor), self.path_of(name))

    def above(self) -> Directory:
        """Open the directory this one is in."""
        return Directory(os.open("..", _OPEN, dir_fd=self.descriptor), self.path.rpartition("/")[0])

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    def __del__(self) -> None:
        os.close(self.descriptor)


class Place(NamedTuple):
    """A name in an open directory."""

    directory: Directory
    name: str

    @property
    def path(self) -> str:
        return self.directory.path_of(self.name)

    def status(self) -> os.stat_result | None:
        """What the name stands for, a link itself; None when it is free."""
        try:
            return os.stat(self.name, dir_fd=self.directory.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None


class Found(NamedTuple):
    """A regular file as it was when its directory was listed; ``modified`` in seconds."""

    place: Place
    size: int
    modified: float


Trouble = Callable[[str, OSError], None]
Visit = Callable[[Directory], None]
Leave = Callable[[str], None]


def files(
    top: Directory,
    trouble: Trouble,
    visit: Visit = lambda _: None,
    leave: Leave = lambda _: None,
    *,
    hidden: bool = False,
) -> Iterator[Found]:
    """Every regular file in the subdirectories of ``top``.

    Names that begin with a dot are skipped, unless ``hidden``. ``visit`` is called with each
    directory before it is listed, ``trouble`` with one that cannot be opened or listed and
    why; the others are listed all the same. A link directly in ``top`` that leads to a
    directory is such a one: it may be what somebody takes for a bucket's, and to follow it
    would let whoever may write here have anything uploaded and deleted. ``leave`` is called
    with what is left alone: other links, what is neither file nor directory, and files
    directly in ``top``. Holds open one directory for each level.
    """
    below: list[str] = []
    for found in _listed(top, below, trouble, _or_link_to_directory(top, trouble, leave), hidden):
        leave(found.place.path)
    visit(top)
    way = [(top, below)]
    while way:
        parent, names = way[-1]
        directory = _opened(parent, names.pop(), trouble) if names else None
        if directory is not None:
            visit(directory)
            below = []
            yield from _listed(directory, below, trouble, leave, hidden)
            way.append((directory, below))
        elif not names:
            way.pop()


def _or_link_to_directory(top: Directory, trouble: Trouble, leave: Leave) -> Leave:
    def left(name: str) -> None:
        if _leads_to_directory(Place(top, name)) and not name.startswith("."):
            trouble(name, OSError(errno.ELOOP, _LINK))
        else:
            leave(name)

    return left


def _leads_to_directory(link: Place) -> bool:
    try:
        status = os.stat(link.name, dir_fd=link.directory.descriptor)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode)


def _opened(parent: Directory, name: str, trouble: Trouble) -> Directory | None:
    try:
        return parent.below(name)
    except OSError as error:
        if error.errno not in _GONE:
            trouble(parent.path_of(name), error)
        return None


def _listed(
    directory: Directory, below: list[str], trouble: Trouble, leave: Leave, hidden: bool
) -> Iterator[Found]:
    """The files of one directory; the names of its subdirectories are added to ``below``, and
    ``leave`` gets what is neither."""
    try:
        with os.scandir(directory.descriptor) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not hidden:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # somebody was faster
                    yield Found(Place(directory, entry.name), status.st_size, status.st_mtime)
                else:
                    leave(directory.path_of(entry.name))
    except OSError as error:
        trouble(directory.path, error)
