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
        self.before = holder(descriptor)  # who held it last

    def note(self, run_id: str, work: str = "") -> None:
        said = f"{run_id}\n{work}" if work else run_id
        os.ftruncate(self.descriptor, os.pwrite(self.descriptor, said.encode(), 0))  # needs no room


def holder(lock: int) -> tuple[str, str]:
    """Run id and work, as a lock's file states them."""
    run_id, _, work = os.pread(lock, 100, 0).decode("ascii", "replace").partition("\n")
    return run_id, work


@contextlib.contextmanager
def locked(path: Path, run_id: str, seconds: float) -> Iterator[Lock]:
    """Hold the project's lock, or say who does when ``seconds`` have passed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
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
            at_work, work = holder(lock)
            if (work and at_work != run_id) or (not work and time.monotonic() >= deadline):
                raise Refused("locked", f"Run {at_work} holds the project.") from None
            time.sleep(0.1)
