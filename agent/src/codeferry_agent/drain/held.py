"""A file opened for its way to S3: what it is, that it is still that, and who writes to it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from codeferry_agent.drain.errors import FileBusy, FileChanged
from codeferry_agent.drain.lease import Lease, Leases
from codeferry_agent.drain.scan import Place

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


class HeldFile:
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
    def open(cls, place: Place, leases: Leases) -> HeldFile:
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
