"""Read leases: the kernel says when somebody wants to write to a file that is being read.

A lease (fcntl(2), F_SETLEASE) is refused while anyone has the file open for writing, a
shared writable mapping included, under whatever name. Once it is granted, an open for
writing or a truncate blocks until the lease is given up, at most
/proc/sys/fs/lease-break-time (45 s). So the leases are looked at several times a second, and
one that a writer waits for is given up at once: the writer goes on, the file stays.

The kernel announces the wish by SIGIO, whose default ends the process: ignore it before
taking a lease (``ignore_signal``).
"""

from __future__ import annotations

import errno
import fcntl
import signal
import sys
import threading

from codeferry_agent.drain.errors import FileBusy

_LOOK_SECONDS = 0.05
# The filesystem has none, the file is somebody else's and CAP_LEASE is missing, or they are
# switched off.
_UNSUPPORTED = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}


def ignore_signal() -> None:
    """Keep a broken lease from ending this process; to be called in the main thread."""
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
