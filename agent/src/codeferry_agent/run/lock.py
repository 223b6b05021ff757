"""A project's lock: one run at a time changes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from codeferry_agent.run.failures import Refused


class Lock:
    """A project's lock while it is held; its file says by which run, and if for a command."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.before = holder(descriptor)[:2]  # who held it last

    def note(self, run_id: str, work: str = "") -> None:
        """Needs no room on the disk."""
        said = f"{run_id} {os.getpid()}\n{work}" if work else f"{run_id} {os.getpid()}"
        os.ftruncate(self.descriptor, os.pwrite(self.descriptor, said.encode(), 0))


def holder(lock: int) -> tuple[str, str, str]:
    """Run id, work and pid, as a lock's file states them; earlier versions state no pid."""
    who, _, work = os.pread(lock, 100, 0).decode("ascii", "replace").partition("\n")
    run_id, _, pid = who.partition(" ")
    return run_id, work, pid


@contextlib.contextmanager
def locked(path: Path, run_id: str, seconds: float) -> Iterator[Lock]:
    """Hold the project's lock, or say who does when ``seconds`` have passed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whoever can open it can hold it, for ever
        acquire(descriptor, run_id, time.monotonic() + seconds)
        lock = Lock(descriptor)
        lock.note(run_id)
        yield lock
    finally:
        os.close(descriptor)


def acquire(lock: int, run_id: str, deadline: float) -> None:
    """Take turns with what is short; a command is waited for only by deliveries of its run."""
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            at_work, work, pid = holder(lock)
            if (work and at_work != run_id) or (not work and time.monotonic() >= deadline):
                raise held(lock, at_work, pid) from None
            time.sleep(0.1)


def held(lock: int, run_id: str, pid: str) -> Refused:
    """Who holds it, and what ends that."""
    if not pid or has_open(pid, lock):
        hint = f"Wait for it, or stop it: ferry cancel {run_id}" if run_id else ""
        return Refused("locked", f"Run {run_id} holds the project.", hint)
    message = f"Another process holds the project's lock; run {run_id}, the last to have it, ended."
    return Refused("locked", message)


def has_open(pid: str, file: int) -> bool:
    """Whether a process has the file open, as far as we may know."""
    wanted, place = os.fstat(file), Path("/proc", pid, "fd")
    try:
        for each in place.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(each.stat(), wanted):
                    return True
    except PermissionError:
        return True
    except OSError:
        return False
    return False
