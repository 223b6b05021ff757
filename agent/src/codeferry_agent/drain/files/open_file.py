"""Open files under a read lease: the kernel says when somebody wants to write to one.

A lease (fcntl(2), F_SETLEASE) is refused while anyone has the file open for writing, a
shared writable mapping included, under whatever name. Once it is granted, an open for
writing or a truncate blocks until the lease is given up, at most
/proc/sys/fs/lease-break-time (45 s). So the leases are looked at several times a second, and
one that a writer waits for is given up at once: the writer goes on, the file stays.

The kernel announces the wish by SIGIO, whose default ends the process: ignore it before
taking a lease (``ignore_signal``).

A file opened for its way to S3: what it is, that it is still that, and who writes to it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

from codeferry_agent.drain.errors import FileBusy, FileChanged
from codeferry_agent.drain.files.scan import Place

_LOOK_SECONDS = 0.05
# The filesystem has none, the file is somebody else's and CAP_LEASE is missing, or they are
# switched off.
_UNSUPPORTED = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}


def ignore_signal() -> None:
    """Keep a broken lease from shutdown this process; to be called in the main thread."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


class Lease:
    """A read lease on an open descriptor; given up by ``release`` before that is closed."""

    def __init__(self, descriptor: int, leases: Leases) -> None:
        self._descriptor = descriptor
        self._leases = leases
        self._held = True

    def intact(self) -> bool:
        """Whether nobody has asked to write since it was taken."""
        with self._leases.lock:
            return self._held and self._unwanted()

    def _unwanted(self) -> bool:
        # While somebody waits for it, the kernel answers what it is going to be: F_UNLCK.
        return fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK

    def give_up_if_wanted(self) -> None:
        """Let a waiting writer go on; the caller holds ``Leases.lock``."""
        if self._held and not self._unwanted():
            self._give_up()

    def release(self) -> None:
        with self._leases.lock:
            if self._held:
                self._give_up()
            self._leases.forget(self)

    def _give_up(self) -> None:
        fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        self._held = False


class Leases:
    """Every lease this process holds, and the thread that gives up those a writer wants."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._all: set[Lease] = set()
        self._some = threading.Condition(self.lock)
        self._closed = False
        self._thread = threading.Thread(target=self._look, name="leases", daemon=True)
        self._thread.start()

    def take(self, descriptor: int) -> Lease | None:
        """A lease on a descriptor open for reading; None where there are no leases.

        Raises FileBusy when somebody has the file open for writing.
        """
        if sys.platform != "linux":
            return None
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise FileBusy("Somebody has it open for writing.") from None
            if error.errno in _UNSUPPORTED:
                return None
            raise
        lease = Lease(descriptor, self)
        with self._some:
            self._all.add(lease)
            self._some.notify()
        return lease

    def forget(self, lease: Lease) -> None:
        self._all.discard(lease)

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            with self._some:
                self._some.wait_for(lambda: self._all or self._closed)
                if self._closed:
                    return
                for lease in self._all:
                    lease.give_up_if_wanted()
            pause.wait(_LOOK_SECONDS)

    def close(self) -> None:
        with self._some:
            self._closed = True
            self._some.notify()
        self._thread.join()


# O_NONBLOCK: a FIFO swapped in since the listing must not block.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}


class Identity(NamedTuple):
    """What is equal as long as a file is the same file with the same bytes."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    def but_renamed(self, other: Identity) -> bool:
        """Equal but for the time of the change of name, which is in ``changed_ns``."""
        return self[:4] == other[:4]


class OpenFile:
    """A regular file, open for reading, with a read lease where there are leases.

    ``leased`` is False where there are none: then only its times tell of a writer, and one
    that keeps the file open without writing is not seen.
    """

    def __init__(
        self, place: Place, descriptor: int, lease: Lease | None, status: os.stat_result
    ) -> None:
        self.place = place
        self.descriptor = descriptor
        self._lease = lease
        self.identity = Identity.of(status)
        self.modified = status.st_mtime  # seconds since 1970

    @classmethod
    def open(cls, place: Place, leases: Leases) -> OpenFile:
        """Raises FileBusy (a writer has it), FileChanged (it is gone, or no regular file any
        more) or OSError."""
        try:
            descriptor = os.open(place.name, _OPEN, dir_fd=place.directory.descriptor)
        except BlockingIOError:
            raise FileBusy("Somebody holds a lease on it.") from None
        except OSError as error:
            if error.errno in _GONE:
                raise FileChanged("It is gone, or no regular file any more.") from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileChanged("It is no regular file any more.")
            # The lease comes before the status: what is written in between is in the status.
            lease = leases.take(descriptor)
            return cls(place, descriptor, lease, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def leased(self) -> bool:
        return self._lease is not None

    @property
    def size(self) -> int:
        return self.identity.size

    def read(self, offset: int, length: int) -> bytes:
        """These bytes. Raises FileChanged when the file has become too short to have them."""
        pieces = list(self._pieces(offset, length))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pieces(self, offset: int, length: int) -> Iterator[bytes]:
        while length:
            piece = os.pread(self.descriptor, length, offset)
            if not piece:
                raise FileChanged("It became shorter while it was read.")
            yield piece
            offset, length = offset + len(piece), length - len(piece)

    def unwritten(self) -> bool:
        """Whether nobody can have written to it, or asked to, since it was opened."""
        return self._lease is None or self._lease.intact()

    def is_at(self, place: Place, *, renamed: bool = False) -> bool:
        """Whether ``place`` still stands for it, unchanged (but for a change of name)."""
        status = place.status()
        if status is None:
            return False
        now = Identity.of(status)
        return self.identity.but_renamed(now) if renamed else self.identity == now

    def close(self) -> None:
        if self._lease is not None:
            self._lease.release()
        os.close(self.descriptor)
