"""A root directory: locked for one agent, and what that agent remembers of its files."""

from __future__ import annotations

import errno
import fcntl
import glob
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from codeferry_agent.drain.backoff import Clock, FileBackoff
from codeferry_agent.drain.errors import RootLocked
from codeferry_agent.drain.files.scan import Directory
from codeferry_agent.drain.files.stability import StabilityTracker
from codeferry_agent.drain.files.state import (
    LOCK,
    Ledger,
    State,
    lock_file_in,
    read_legacy_ledger,
    remove_legacy,
)

_log = logging.getLogger(__name__)

_LOCKS = Path("/proc/locks")
_NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.ENOLCK}


class Root:
    """A root this agent has locked; ``close`` unlocks it.

    ``claims_left`` says that claims of an earlier time may lie in it.
    """

    def __init__(self, path: str, *, clock: Clock, stability: float) -> None:
        """Open and lock it. Raises RootLocked naming the holder, or OSError."""
        self.path = path
        self.top = Directory.top(path)
        self.state = State(path)
        self._lock = Lock(self.top, self.state)
        self.ledger = Ledger(self.state)
        before = read_legacy_ledger(self.top)
        if not before or self.ledger.adopt(before):
            remove_legacy(self.top, but=LOCK if self._lock.in_root else "")
        self.backoff = FileBackoff(clock)
        self.stability = StabilityTracker(clock, stability)
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
        self._lock.close()


def matching(patterns: Iterable[str]) -> list[str]:
    """The directories that the patterns name or match now, each once, in order."""
    found = [
        match.rstrip("/") or "/"
        for pattern in patterns
        for match in ([pattern] if os.path.isdir(pattern) else sorted(glob.glob(pattern)))  # noqa: PTH112, PTH207
    ]
    return [path for path in dict.fromkeys(found) if os.path.isdir(path)]  # noqa: PTH112


def is_drained(path: str) -> bool:
    """Whether an agent has the root, as far as this user can tell."""
    try:
        Lock(Directory.top(path), State(path), make=False).close()
    except RootLocked:
        return True
    except OSError:  # nor can this user's agent
        return False
    return False


class Lock:
    """The lock of a root: on a file that only the agent's user can open, and on the root itself.

    The second is for agents of other users, and of the versions before, which know no other. But
    whoever can list the root can take it too; so if somebody has it who is neither root, nor this
    user, nor the root's owner, the first is enough. On a full disk the second is.
    """

    def __init__(self, top: Directory, state: State, *, make: bool = True) -> None:
        """Take both. Raises RootLocked naming the holder, or OSError."""
        self.in_root = False  # whether it is a file there, for want of locks on directories
        self._held: list[int] = []
        try:
            own = self._take_own(state, make)
            self._take_directory(top, state.root, own)
        except BaseException:
            self.close()
            raise

    def _take_own(self, state: State, make: bool) -> bool:
        try:
            self._held.append(state.lock_file(make=make))
        except OSError as error:
            if make:
                _log.warning("The state of %s cannot be kept: %s.", state.root, error)
            return False
        self._lock(self._held[-1], state.root)
        if make:
            state.tidy()
        return True

    def _take_directory(self, top: Directory, path: str, own: bool) -> None:
        self._held.append(os.dup(top.descriptor))
        try:
            self._lock(self._held[-1], path, whose={0, os.geteuid(), _owner(top)} if own else None)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self._held.append(lock_file_in(top))
            self.in_root = True
            self._lock(self._held[-1], path)

    @staticmethod
    def _lock(descriptor: int, path: str, whose: set[int] | None = None) -> None:
        """``whose`` are the users whose lock counts; None for anybody's."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holders = _holders(descriptor)
            if whose is None or not holders or any(_users(pid) <= whose for pid in holders):
                who = f"process {holders[0]}" if holders else _UNKNOWN
                raise RootLocked(
                    f"Another agent drains {path}: {who}.",
                    hint="Stop it first; one root has one agent.",
                ) from None
            _log.warning("%s is locked by process %d, which is no agent's.", path, holders[0])

    def close(self) -> None:
        for descriptor in self._held:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # ``top`` shares it and may be open for longer
            os.close(descriptor)
        self._held.clear()


_UNKNOWN = "a process of another machine or container"


def _owner(top: Directory) -> int:
    return os.fstat(top.descriptor).st_uid


def _holders(descriptor: int) -> list[int]:
    """Who has the lock that could not be got, as the kernel knows it; nobody if it is silent."""
    inode = os.fstat(descriptor).st_ino
    held = rf"^\d+: FLOCK +ADVISORY +\w+ +(\d+) +\S+:{inode} "
    try:
        return [int(pid) for pid in re.findall(held, _LOCKS.read_text(), re.MULTILINE)]
    except OSError:
        return []


def _users(pid: int) -> set[int]:
    """All the user ids a process has, of which a set-uid program keeps its caller's; -1 for one
    that has ended, whose child may still have its lock, or that is hidden from this user."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {-1}
    return set(map(int, status.partition("\nUid:")[2].partition("\n")[0].split()))
