"""Where downloads arrive: beside their place under a temporary name, then in it, whole.

Every directory below the destination is entered one name at a time without following
links, so that no key and no link made by others leads out of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from codeferry_transfer.durable import make_durable
from codeferry_transfer.errors import FileUnfit
from codeferry_transfer.parts import MIB
from codeferry_transfer.tree import STAGING_PREFIX

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _DIRECTORY | os.O_NOFOLLOW
_MOST_WAITING = 256
_MOST_BYTES = 64 * MIB

Settled = Callable[[Exception | None], None]

_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Waiting(NamedTuple):
    """A file that has arrived: its staged name, its path, and who wants to know."""

    name: str
    path: str
    settled: Settled


class Landing:
    """A destination directory, made if need be, with a staging directory of one process.

    The staging directory of a process that was killed is taken over with the large files in
    it.
    """

    def __init__(self, root: str) -> None:
        os.makedirs(root, exist_ok=True)  # noqa: PTH103 - names may be no text
        self._root = os.open(root, _DIRECTORY)
        self._name, self._staging = _take_staging(self._root)
        self._numbers = itertools.count()
        self._touched: set[str] = set()
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._waiting: list[Waiting] = []
        self._waiting_bytes = 0
        self._remove_small()

    def arriving(self) -> Arriving:
        """A file for what will have its place after ``settle``."""
        return Arriving(self._staging, f"{next(self._numbers)}.new", os.O_EXCL)

    def store(self, content: bytes, modified: float) -> str:
        """A small file in the staging directory; its name there. Raises OSError.

        One at a time: threads that make files side by side spin in the kernel for the
        directory and the journal, which costs several times the work itself.
        """
        with self._storing:
            arriving = self.arriving()
            try:
                arriving.write(memoryview(content))
                arriving.date(modified)
            except BaseException:
                arriving.close(forget=True)
                raise
            arriving.close(forget=False)
        return arriving.name

    def arriving_large(self, path: str, name: str) -> Arriving:
        """One called ``name``, which outlives a kill and is found again, for ``path``.

        Raises FileUnfit when ``path`` leads through a link or onto something that is no
        file: of a small file it is said when it has arrived.
        """
        with self.directory(path, make=True) as (parent, last):
            _assert_free(parent, last, path)
        return Arriving(self._staging, name, 0)

    def settle(self, name: str, path: str, size: int, settled: Settled) -> None:
        """Put a file of the staging directory, closed, in its place: now, or soon with others.

        ``settled`` is told when it is there, durably, or why it is not.
        """
        with self._lock:
            self._waiting.append(Waiting(name, path, settled))
            self._waiting_bytes += size
            full = len(self._waiting) >= _MOST_WAITING or self._waiting_bytes >= _MOST_BYTES
        if full:
            self.settle_all()

    def settle_all(self) -> None:
        """Put what waits in its place."""
        with self._lock:
            group, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not group:
            return
        try:
            make_durable(self._staging, [each.name for each in group])
        except OSError as error:
            for each in group:
                self._fail(each, error)
            return
        for each in group:
            self._place(each)

    def _place(self, arrived: Waiting) -> None:
        try:
            with self.directory(arrived.path, make=True) as (parent, name):
                _assert_free(parent, name, arrived.path)
                os.rename(arrived.name, name, src_dir_fd=self._staging, dst_dir_fd=parent)
        except (FileUnfit, OSError) as error:
            self._fail(arrived, error)
            return
        self._touched.add(arrived.path.rpartition("/")[0])
        arrived.settled(None)

    def _fail(self, arrived: Waiting, error: Exception) -> None:
        self.forget(arrived.name)
        arrived.settled(error)

    def forget(self, name: str) -> None:
        """Remove a file of the staging directory."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._staging)

    def staged(self, name: str, flags: int) -> int:
        """A descriptor of a file of the staging directory, made if need be."""
        return os.open(name, _FILE | flags, 0o666, dir_fd=self._staging)

    def existing(self, path: str) -> int:
        """A descriptor to read the file at ``path``. Raises OSError."""
        with self.directory(path) as (parent, name):
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)

    def remove(self, path: str) -> None:
        """Delete the file at ``path``. Raises OSError."""
        with self.directory(path) as (parent, name):
            os.unlink(name, dir_fd=parent)

    @contextmanager
    def directory(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The directory of ``path``, open, and the name in it. Raises FileUnfit."""
        *parents, name = path.split("/")
        here = os.dup(self._root)
        try:
            for number, parent in enumerate(parents, start=1):
                below = _enter(here, parent, "/".join(parents[:number]), make=make)
                os.close(here)
                here = below
            yield here, name
        finally:
            os.close(here)

    def close(self) -> None:
        """Make the renames durable, and remove the staging directory if nothing is kept in it."""
        self._remove_small()
        for directory in self._touched:
            with self.directory(f"{directory}/." if directory else ".") as (here, _):
                os.fsync(here)
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(self._name, dir_fd=self._root)
        os.close(self._staging)
        os.close(self._root)

    def _remove_small(self) -> None:
        for name in os.listdir(self._staging):  # noqa: PTH208 - there is no path
            if name.endswith(".new"):
                self.forget(name)


class Arriving:
    """A file being downloaded, in the staging directory."""

    def __init__(self, staging: int, name: str, flags: int) -> None:
        self._staging = staging
        self.name = name
        self.descriptor = os.open(name, _FILE | flags, 0o666, dir_fd=staging)

    def write(self, piece: memoryview) -> None:
        """Append. Raises OSError."""
        while (written := os.write(self.descriptor, piece)) < len(piece):
            piece = piece[written:]

    def write_at(self, piece: memoryview, offset: int) -> None:
        while (written := os.pwrite(self.descriptor, piece, offset)) < len(piece):
            piece, offset = piece[written:], offset + written

    def reserve(self, size: int) -> None:
        """Make room for it. Raises OSError when the disk has none, before anything is carried."""
        os.ftruncate(self.descriptor, 0)
        try:
            os.posix_fallocate(self.descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.ftruncate(self.descriptor, size)  # a filesystem that cannot promise room

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def restart(self) -> None:
        """Empty again."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        os.ftruncate(self.descriptor, 0)

    def date(self, modified: float) -> None:
        """As of ``modified``, seconds since 1970."""
        os.utime(self.descriptor, (modified, modified))

    def close(self, *, forget: bool) -> None:
        os.close(self.descriptor)
        if forget:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.name, dir_fd=self._staging)


def _enter(here: int, name: str, path: str, *, make: bool) -> int:
    for attempt in (1, 2):
        try:
            return os.open(name, _BELOW, dir_fd=here)
        except FileNotFoundError:
            if not make or attempt == 2:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=here)
        except OSError as error:
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                raise FileUnfit(f"{path} is a symbolic link, which is not followed.") from error
            if not stat.S_ISDIR(status.st_mode):
                raise FileUnfit(f"{path} is a file and would have to be a directory.") from error
            raise
    raise AssertionError("the second attempt returns or raises")


def _assert_free(parent: int, name: str, path: str) -> None:
    """Nothing, or a regular file, which is replaced."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        kind = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link"}.get(
            stat.S_IFMT(status.st_mode), "no regular file"
        )
        raise FileUnfit(f"{path} is {kind}, which is not replaced.")


def _take_staging(root: int) -> tuple[str, int]:
    """The first staging directory that no living process holds."""
    names = (f"{STAGING_PREFIX}-{number}" for number in itertools.count())
    name = STAGING_PREFIX
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=root)
        staging = os.open(name, _BELOW, dir_fd=root)
        try:
            fcntl.flock(staging, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = next(names)
            os.close(staging)
            continue
        if os.fstat(staging).st_nlink:
            return name, staging
        os.close(staging)  # its last owner removed it just now
