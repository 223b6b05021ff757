"""The directory that is downloaded into: temporary files beside their place, then whole in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from codeferry_transfer.errors import FileUnfit
from codeferry_transfer.parts import MIB
from codeferry_transfer.plan import STAGING_PREFIX
from codeferry_transfer.tree import kind_of

if TYPE_CHECKING:
    import ctypes

_FEW = 8


def make_durable(directory: int, names: Sequence[str]) -> None:
    """The content of these files of one open directory is on the disk. Raises OSError."""
    if len(names) > _FEW and _synced(directory):
        return
    for name in names:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _synced(directory: int) -> bool:
    """Whether all of its filesystem is on the disk now; False where syncfs is unknown.

    Raises OSError.
    """
    import ctypes  # late: few transfers need it, and it takes a while

    syncfs = getattr(_libc(), "syncfs", None)
    if syncfs is not None and syncfs(directory) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return syncfs is not None


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


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


class _Blocked(FileUnfit):
    """A directory is where a file would have to be, or a file where a directory would.

    ``place`` is its path.
    """

    def __init__(self, message: str, place: str) -> None:
        super().__init__(message)
        self.place = place


class Destination:
    """A destination directory, made if need be, with a staging directory of one process.

    The staging directory of a process of the same user that was killed is taken over with the
    large files in it. With ``clears`` a file whose place is not free waits until what is there
    was deleted: see ``settle_blocked``.
    """

    def __init__(self, root: str, *, clears: bool = False) -> None:
        os.makedirs(root, exist_ok=True)  # noqa: PTH103 - names may be no text
        self._root = os.open(root, _DIRECTORY)
        self._name, self._staging = _take_staging(self._root)
        self._numbers = itertools.count()
        self._touched: set[str] = set()
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._waiting: list[Waiting] = []
        self._waiting_bytes = 0
        self._clears = clears
        self._blocked: list[tuple[Waiting, _Blocked]] = []
        self._remove_small()

    def temporary_file(self) -> TemporaryFile:
        """A file for what will have its place after ``settle``."""
        return TemporaryFile(self._staging, f"{next(self._numbers)}.new", os.O_EXCL)

    def store(self, content: bytes, modified: float) -> str:
        """A small file in the staging directory; its name there. Raises OSError.

        One at a time: threads that make files side by side spin in the kernel for the
        directory and the journal, which costs several times the work itself.
        """
        with self._storing:
            temporary = self.temporary_file()
            try:
                temporary.write(memoryview(content))
                temporary.date(modified)
            except BaseException:
                temporary.close(forget=True)
                raise
            temporary.close(forget=False)
        return temporary.name

    def large_temporary_file(self, path: str, name: str) -> TemporaryFile:
        """One called ``name``, which outlives a kill and is found again, for ``path``.

        Raises FileUnfit when ``path`` leads through a link or onto something that is no
        file: of a small file it is said when it has arrived.
        """
        try:
            with self.directory(path, make=True) as (parent, last):
                _replaced(parent, last, path)
        except _Blocked:
            if not self._clears:
                raise
        return TemporaryFile(self._staging, name, 0)

    def settle(self, name: str, path: str, size: int, settled: Settled) -> None:
        """Put a file of the staging directory, closed, in its place: now, or soon with others.

        ``settled`` is called when it is there, durably, or why it is not.
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

    def refuse_blocked(self, victims: Collection[str]) -> None:
        """Fail those of the files kept out that would be even without ``victims``."""
        blocked, self._blocked = self._blocked, []
        for arrived, error in blocked:
            try:
                gives_way = error.place in victims or self._would_be_empty(error.place, victims)
            except (FileUnfit, OSError):
                gives_way = False
            if gives_way:
                self._blocked.append((arrived, error))
            else:
                self._fail(arrived, error)

    def settle_blocked(self) -> None:
        """What kept them out was deleted: put them in its place."""
        blocked, self._blocked = self._blocked, []
        for arrived, error in blocked:
            with contextlib.suppress(FileUnfit, OSError):  # then it is in the way as before
                self._remove_empty(error.place)
            self._place(arrived, last=True)

    def _would_be_empty(self, path: str, victims: Collection[str]) -> bool:
        """Whether nothing but directories lies below, once ``victims`` are gone."""
        directories, others = self._listed(path)
        return all(f"{path}/{name}" in victims for name in others) and all(
            self._would_be_empty(f"{path}/{name}", victims) for name in directories
        )

    def _remove_empty(self, path: str) -> None:
        """Remove a directory in which there are only such. Raises OSError when there is more."""
        for name in self._listed(path)[0]:
            self._remove_empty(f"{path}/{name}")
        with self.directory(path) as (parent, name):
            os.rmdir(name, dir_fd=parent)

    def _listed(self, path: str) -> tuple[list[str], list[str]]:
        """The names of the directories in a directory, and of all else. Raises OSError."""
        found: tuple[list[str], list[str]] = ([], [])
        with self.directory(f"{path}/.") as (here, _), os.scandir(here) as entries:
            for entry in entries:
                found[not entry.is_dir(follow_symlinks=False)].append(entry.name)
        return found

    def _place(self, arrived: Waiting, *, last: bool = False) -> None:
        try:
            with self.directory(arrived.path, make=True) as (parent, name):
                before = _replaced(parent, name, arrived.path)
                if before is not None:
                    self._resemble(arrived.name, before)
                os.rename(arrived.name, name, src_dir_fd=self._staging, dst_dir_fd=parent)
        except _Blocked as error:
            if self._clears and not last:
                self._blocked.append((arrived, error))
            else:
                self._fail(arrived, error)
            return
        except (FileUnfit, OSError) as error:
            self._fail(arrived, error)
            return
        self._touched.add(arrived.path.rpartition("/")[0])
        arrived.settled(None)

    def _resemble(self, name: str, before: os.stat_result) -> None:
        """Give a staged file the mode, and if allowed the owner, of the one it replaces."""
        status = os.stat(name, dir_fd=self._staging, follow_symlinks=False)
        if (status.st_uid, status.st_gid) != (before.st_uid, before.st_gid):
            with contextlib.suppress(OSError):
                os.chown(name, before.st_uid, before.st_gid, dir_fd=self._staging)
        mode = before.st_mode & 0o777  # setuid was given to other bytes
        if stat.S_IMODE(status.st_mode) != mode:
            os.chmod(name, mode, dir_fd=self._staging)

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
        blocked, self._blocked = self._blocked, []
        for arrived, error in blocked:
            self._fail(arrived, error)
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


class TemporaryFile:
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
                message = f"{path} is a file and would have to be a directory."
                raise _Blocked(message, path) from error
            raise
    raise AssertionError("the second attempt returns or raises")


def _replaced(parent: int, name: str, path: str) -> os.stat_result | None:
    """The regular file that will be replaced; None where nothing is. Raises FileUnfit."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise _Blocked(f"{path} is a directory, which is not replaced.", path)
    if not stat.S_ISREG(status.st_mode):
        raise FileUnfit(f"{path} is {kind_of(status.st_mode)}, which is not replaced.")
    return status


def _take_staging(root: int) -> tuple[str, int]:
    """A staging directory of this user that no living process holds, or a new one; its name.

    In a directory that others may write to any name may be theirs already. So what was left
    is found by whose it is, and what is new has a name that nobody can have taken.
    """
    for name in sorted(filter(_is_staging, os.listdir(root))):
        with contextlib.suppress(OSError):
            found = os.open(name, _BELOW, dir_fd=root)
            if _is_own(found) and _is_locked(found):
                return name, found
            os.close(found)
    while True:
        name = f"{STAGING_PREFIX}-{secrets.token_hex(8)}"
        os.mkdir(name, 0o700, dir_fd=root)
        made = os.open(name, _BELOW, dir_fd=root)
        if _is_locked(made):
            return name, made
        os.close(made)  # a process that looked for what was left was faster


def _is_staging(name: str) -> bool:
    return name.startswith(STAGING_PREFIX)


def _is_own(directory: int) -> bool:
    """Whether it is this user's, and nobody else can have put anything into it."""
    status = os.fstat(directory)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _is_locked(directory: int) -> bool:
    """Whether it is this process's now, and still there."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(directory).st_nlink > 0
