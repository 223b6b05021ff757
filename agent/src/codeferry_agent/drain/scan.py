"""Listing a tree by open directories, so that no link on the way is ever followed.

But a link in the root itself may stand for a bucket's directory, on a larger disk perhaps. It is
followed if its owner owns that directory (of root's link, the owner of the root directory), or if
nobody but root or the agent's own user can have put it there: else whoever may write in the root
could have an agent of root's rights upload and delete what is not theirs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What a directory answers that was removed, or swapped for something else, since it was listed.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


# What a name of the agent's own begins with: it is no one's result.
OWN_PREFIX = ".codeferry-"


class LinkUnusable(OSError):
    """A link in the root that does not lead to a directory of its owner."""


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

    def bucket(self, name: str) -> Directory:
        """Open a subdirectory of the root, also one that a link stands for.

        Raises OSError; LinkUnusable when the link is at fault.
        """
        link = self._status(name)
        if not stat.S_ISLNK(link.st_mode):
            return self.below(name)
        try:
            # By what was read, and not by name: that might be another link by then.
            target = os.readlink(name, dir_fd=self.descriptor)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            opened = Directory(os.open(target, flags, dir_fd=self.descriptor), name)
        except OSError as error:
            raise LinkUnusable(error.errno, f"it is a link: {error.strerror}") from None
        again, owner = self._status(name), os.fstat(self.descriptor).st_uid
        same = os.path.samestat(link, again) and link.st_ctime_ns == again.st_ctime_ns
        # Root's link may have been moved here by whoever owns the root directory.
        theirs = os.fstat(opened.descriptor).st_uid == (link.st_uid or owner)
        ours = link.st_uid == owner and owner in (0, os.geteuid())
        if not same or not (theirs or ours):
            raise LinkUnusable(errno.EPERM, "it is a link to a directory of another owner")
        return opened

    def _status(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

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


class Why(Enum):
    """Why something is left alone."""

    HIDDEN = "hidden"
    IN_ROOT = "directly in the root"
    LINK = "a link"
    SPECIAL = "no regular file"


Trouble = Callable[[str, OSError], None]
Visit = Callable[[Directory], None]
Left = Callable[[str, Why], None]


class Listener(NamedTuple):
    """Who is told of what a listing meets besides files.

    ``trouble`` of what cannot be opened, listed or looked at, and why; the rest is listed all the
    same. ``visit`` of each directory before it is listed. ``left`` of what is left alone.
    """

    trouble: Trouble
    visit: Visit = lambda _: None
    left: Left = lambda _, __: None


def files(top: Directory, listener: Listener, *, hidden: bool = False) -> Iterator[Found]:
    """Every regular file in the subdirectories of ``top``.

    Left alone are what lies directly in it, links (but for those in it that lead to a directory),
    whatever is no regular file, and names that begin with a dot, unless ``hidden``. Holds open one
    directory for each level.
    """
    below: list[str] = []
    for found in _listed(top, below, listener, hidden):
        listener.left(found.place.path, Why.IN_ROOT)
    listener.visit(top)
    way = [(top, below)]
    while way:
        parent, names = way[-1]
        directory = _opened(parent, names.pop(), listener.trouble) if names else None
        if directory is not None:
            listener.visit(directory)
            below = []
            yield from _listed(directory, below, listener, hidden)
            way.append((directory, below))
        elif not names:
            way.pop()


def _opened(parent: Directory, name: str, trouble: Trouble) -> Directory | None:
    try:
        return parent.below(name) if parent.path else parent.bucket(name)
    except OSError as error:
        if error.errno not in _GONE or isinstance(error, LinkUnusable):
            trouble(parent.path_of(name), error)
        return None


def _listed(
    directory: Directory, below: list[str], listener: Listener, hidden: bool
) -> Iterator[Found]:
    """The files of one directory; the names of its subdirectories are added to ``below``, and
    ``leave`` gets what is neither."""
    try:
        with os.scandir(directory.descriptor) as entries:
            for entry in entries:
                try:
                    found = _looked_at(directory, entry, below, listener.left, hidden)
                except FileNotFoundError:
                    continue  # somebody was faster
                except OSError as error:
                    listener.trouble(directory.path_of(entry.name), error)
                    continue
                if found is not None:
                    yield found
    except OSError as error:
        listener.trouble(directory.path, error)


def _looked_at(
    directory: Directory, entry: os.DirEntry[str], below: list[str], left: Left, hidden: bool
) -> Found | None:
    """The file that an entry stands for; None for all else, which is told or added."""
    if entry.name.startswith(".") and not hidden:
        if not entry.name.startswith(OWN_PREFIX):
            left(directory.path_of(entry.name), Why.HIDDEN)
    elif entry.is_symlink():
        if directory.path or entry.is_file():
            left(directory.path_of(entry.name), Why.LINK)
        else:
            below.append(entry.name)
    elif entry.is_dir(follow_symlinks=False):
        below.append(entry.name)
    elif entry.is_file(follow_symlinks=False):
        status = entry.stat(follow_symlinks=False)
        return Found(Place(directory, entry.name), status.st_size, status.st_mtime)
    else:
        left(directory.path_of(entry.name), Why.SPECIAL)
    return None
