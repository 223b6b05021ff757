"""Scan the tree below a root by open directories, so that no link on the way is ever followed.

The first directory stands for a bucket, and the path below it is the key.

But a link on the way to the root, and one in the root that stands for a bucket's directory, may
lead to a larger disk. It is followed if its owner owns that directory (of root's link, the owner
of the directory it is in), or if nobody but root or the agent's own user can have put it there:
else whoever may write there could have an agent of root's rights upload and delete what is not
theirs."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from codeferry_agent.drain.errors import NameImpossible
from codeferry_contracts.names import BUCKET_PATTERN

_KEY_BYTES = 1024


def bucket_of(directory: str, mapped: Mapping[str, str]) -> str:
    """The bucket that a directory in the root stands for: what it is ``mapped`` to, or its
    name with ``-`` for ``_``.

    Raises NameImpossible when no bucket can have that name.
    """
    name = mapped.get(directory) or directory.replace("_", "-")
    if not is_bucket_name(name):
        raise NameImpossible(
            f"No bucket can be called like the directory {shown(directory)}.",
            hint="Rename the directory, or give --bucket-map OLD=NEW.",
        )
    return name


def is_bucket_name(name: str) -> bool:
    """Whether S3 allows it as the name of a bucket (without access point ARNs)."""
    return re.fullmatch(BUCKET_PATTERN, name) is not None


def key_of(path: str) -> str:
    """The key of ``<bucket>/<key…>``. Raises NameImpossible when S3 cannot hold it."""
    key = path.partition("/")[2]
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise NameImpossible(
            f"The name of {shown(path)} is not valid UTF-8, and S3 keys are.",
            hint="Rename the file.",
        ) from None
    if size > _KEY_BYTES:
        raise NameImpossible(
            f"The key of {shown(path)} has {size} bytes, and S3 keys at most {_KEY_BYTES}.",
            hint="Move the file to a shorter path.",
        )
    return key


def shown(path: str) -> str:
    """A path for a message: on one line, and not without end."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    quoted = repr(text)
    return quoted if len(quoted) <= 300 else f"{quoted[:150]}…{quoted[-149:]}"


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN = _DIRECTORY | os.O_NOFOLLOW
# To go through a directory asks for no right to list it, where the system can tell the two apart.
_THROUGH = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_CLOEXEC
# What a directory answers that was removed, or swapped for something else, since it was listed.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


# Bytes of a directory's path below the root. No key is as long as a quarter of it; without a bound
# one deep tree would take all memory, and with it the drain of every other root.
_DEEPEST = 4096

# What a name of the agent's own begins with: it is no one's result.
OWN_PREFIX = ".codeferry-"


class LinkUnusable(OSError):
    """A link on the way to the root or in it that does not lead to a directory of its owner."""


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
        """The root itself. Raises OSError; LinkUnusable when a link on the way is at fault."""
        at = os.open("/", _THROUGH)
        try:
            for name in Path(path).absolute().parts[1:]:
                below = _followed(at, name, _THROUGH)
                os.close(at)
                at = below
            return cls(os.open(".", _DIRECTORY, dir_fd=at), "")
        finally:
            os.close(at)

    def below(self, name: str) -> Directory:
        """Open a subdirectory. Raises OSError, also when it is a link."""
        return Directory(os.open(name, _OPEN, dir_fd=self.descriptor), self.path_of(name))

    def bucket(self, name: str) -> Directory:
        """Open a subdirectory of the root, also one that a link stands for.

        Raises OSError; LinkUnusable when the link is at fault.
        """
        return Directory(_followed(self.descriptor, name, _DIRECTORY), self.path_of(name))

    def above(self) -> Directory:
        """Open the directory this one is in."""
        return Directory(os.open("..", _OPEN, dir_fd=self.descriptor), self.path.rpartition("/")[0])

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    def __del__(self) -> None:
        os.close(self.descriptor)


def _followed(at: int, name: str, flags: int) -> int:
    """Open a directory in the directory ``at``, through a link if that may be followed."""
    link = os.stat(name, dir_fd=at, follow_symlinks=False)
    if not stat.S_ISLNK(link.st_mode):
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=at)
    try:
        # By what was read, and not by name: that might be another link by then.
        found = os.open(os.readlink(name, dir_fd=at), flags, dir_fd=at)
    except OSError as error:
        raise LinkUnusable(error.errno, f"it is a link: {error.strerror}") from None
    try:
        again = os.stat(name, dir_fd=at, follow_symlinks=False)
        same = os.path.samestat(link, again) and link.st_ctime_ns == again.st_ctime_ns
        owner = os.fstat(at).st_uid
        # Root's link may have been moved here by whoever owns the directory.
        theirs = os.fstat(found).st_uid == (link.st_uid or owner)
        ours = link.st_uid == owner and owner in (0, os.geteuid())
        if not same or not (theirs or ours):
            raise LinkUnusable(errno.EPERM, "a link leads to a directory of another owner")
    except BaseException:
        os.close(found)
        raise
    return found


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


OnError = Callable[[str, OSError], None]
Visit = Callable[[Directory], None]
Left = Callable[[str, Why], None]


class Listener(NamedTuple):
    """Who is told of what a listing meets besides files.

    ``on_error`` of what cannot be opened, listed or looked at, and why; the rest is listed all the
    same. ``visit`` of each directory before it is listed. ``left`` of what is left alone.
    """

    on_error: OnError
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
        directory = _opened(parent, names.pop(), listener.on_error) if names else None
        if directory is not None:
            listener.visit(directory)
            below = []
            yield from _listed(directory, below, listener, hidden)
            way.append((directory, below))
        elif not names:
            way.pop()


def _opened(parent: Directory, name: str, on_error: OnError) -> Directory | None:
    try:
        if len(os.fsencode(parent.path_of(name))) > _DEEPEST:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return parent.below(name) if parent.path else parent.bucket(name)
    except OSError as error:
        if error.errno not in _GONE or isinstance(error, LinkUnusable):
            on_error(parent.path_of(name), error)
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
                    listener.on_error(directory.path_of(entry.name), error)
                    continue
                if found is not None:
                    yield found
    except OSError as error:
        listener.on_error(directory.path, error)


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
