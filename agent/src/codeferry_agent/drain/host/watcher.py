"""Wait for the next scan: until it is time, a file is finished, or a signal came."""

from __future__ import annotations

import errno
import logging
import os
import select
import sys
import time
from contextlib import suppress

from inotify_simple import INotify, flags  # type: ignore[import-untyped]

from codeferry_agent.drain.files.scan import Directory

_log = logging.getLogger(__name__)

_EVENTS = flags.CLOSE_WRITE | flags.MOVED_TO | flags.CREATE | flags.ONLYDIR
_MOST_WATCHES = 8192  # beyond, and where the kernel allows fewer, the interval has to do


class Watcher:
    """Waits on the system's word. ``interrupt`` may be called from anywhere, also a signal."""

    def __init__(self) -> None:
        self._interrupted, self._interrupting = os.pipe()
        os.set_blocking(self._interrupted, False)
        os.set_blocking(self._interrupting, False)
        self._inotify = _inotify()
        self._watched: set[int] = set()
        self._poll = select.poll()
        self._poll.register(self._interrupted, select.POLLIN)
        if self._inotify is not None:
            self._poll.register(self._inotify.fileno(), select.POLLIN)

    def watch(self, directory: Directory) -> None:
        """Be woken by what happens in this directory from now on."""
        if self._inotify is None or len(self._watched) >= _MOST_WATCHES:
            return
        try:
            # By the open descriptor: the path could stand for something else by now.
            here = f"/proc/self/fd/{directory.descriptor}"
            self._watched.add(self._inotify.add_watch(here, _EVENTS))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                _log.info("No more inotify watches; the interval decides for the others.")
                self._watched.update(range(-_MOST_WATCHES, 0))

    def wait(self, until: float, settle: float) -> None:
        """Return at ``until`` (monotonic), ``settle`` seconds after a file was finished if
        that is earlier, or at once when interrupted."""
        while (left := until - time.monotonic()) > 0:
            ready = dict(self._poll.poll(left * 1000))
            if self._interrupted in ready:
                self._drain_pipe()
                return
            if ready and self._something_finished():
                until = min(until, time.monotonic() + settle)

    def _something_finished(self) -> bool:
        assert self._inotify is not None
        finished = False
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.IGNORED:  # the directory is gone
                self._watched.discard(event.wd)
            elif event.mask & flags.Q_OVERFLOW:
                finished = True
            elif not event.name.startswith("."):
                made_file = event.mask & flags.CREATE and not event.mask & flags.ISDIR
                finished = finished or not made_file
        return finished

    def interrupt(self) -> None:
        with suppress(BlockingIOError):  # it is full: that is enough to wake
            os.write(self._interrupting, b"!")

    def _drain_pipe(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._interrupted, 4096):
                pass

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._interrupted)
        os.close(self._interrupting)


def _inotify() -> INotify | None:
    if sys.platform != "linux":
        return None
    try:
        return INotify()
    except OSError as error:
        _log.info("No inotify here (%s); the interval decides.", error.strerror)
        return None
