"""A root directory: locked for one agent, and what that agent remembers of its files."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codeferry_agent.drain import private
from codeferry_agent.drain.errors import RootLocked
from codeferry_agent.drain.ledger import Ledger
from codeferry_agent.drain.observed import Observed
from codeferry_agent.drain.patience import Clock, FilePatience
from codeferry_agent.drain.scan import Directory

_LOCKS = Path("/proc/locks")


class Root:
    """A root this agent has locked; ``close`` unlocks it.

    ``claims_left`` says that claims of an earlier time may lie in it.
    """

    def __init__(self, path: str, *, clock: Clock, stability: float) -> None:
        """Open and lock it. Raises RootLocked naming the holder, or OSError."""
        self.path = path
        self.top = Directory.top(path)
        self._lock = _locked(self.top, path)
        self.ledger = Ledger(private.directory_of(path) / "uploads.json")
        self.patience = FilePatience(clock)
        self.observed = Observed(clock, stability)
        self.claims_left = True
        self.uploads_left = True

    def is_current(self) -> bool:
        """Whether the path still stands for the directory that is open and locked."""
        try:
            return os.path.samestat(Path(self.path).stat(), os.fstat(self.top.descriptor))
        except OSError:
            return False

    def shown(self, path: str) -> str:
        return f"{self.path}/{path}"

    def close(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)  # ``top`` shares it and may be open for longer
        os.close(self._lock)


def matching(patterns: Iterable[str]) -> list[str]:
    """The directories that the patterns name or match now, each once, in order."""
    found = [
        match.rstrip("/") or "/"
        for pattern in patterns
        for match in ([pattern] if os.path.isdir(pattern) else sorted(glob.glob(pattern)))  # noqa: PTH112, PTH207
    ]
    return [path for path in dict.fromkeys(found) if os.path.isdir(path)]  # noqa: PTH112


@contextmanager
def try_lock(path: str) -> Iterator[None]:
    """Hold the root's lock for a moment. Raises RootLocked when an agent has it."""
    descriptor = _locked(Directory.top(path), path)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _locked(top: Directory, path: str) -> int:
    """A descriptor that holds the lock of the root.

    It is on the directory itself, so that a full disk does not keep an agent from starting;
    where directories have no locks (NFS), on a file in the agent's own directory.
    """
    descriptor = os.dup(top.descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.ENOLCK):
                raise
            os.close(descriptor)
            descriptor = _lock_file(path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise RootLocked(
            f"Another agent drains {path}: {holder}.",
            hint="Stop it first; one root has one agent.",
        ) from None
    return descriptor


def _lock_file(path: str) -> int:
    own = private.directory_of(path)
    own.mkdir(exist_ok=True)
    return os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _holder(descriptor: int) -> str:
    """Who has the lock that could not be got, as the kernel knows it."""
    inode = os.fstat(descriptor).st_ino
    try:
        held = re.search(rf"FLOCK +ADVISORY +WRITE +(\d+) +\S+:{inode} ", _LOCKS.read_text())
    except OSError:
        held = None
    return f"process {held[1]}" if held else "a process of another machine or container"
