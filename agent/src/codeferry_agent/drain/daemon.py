"""Drain again and again until told to stop, then once more: the process, its signals, its end."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.errors import RootMissing
from codeferry_agent.drain.files.open_file import ignore_signal
from codeferry_agent.drain.files.root import matching
from codeferry_agent.drain.files.scan import shown
from codeferry_agent.drain.host.environment import Clients
from codeferry_agent.drain.host.interruption import InterruptionWatch
from codeferry_agent.drain.host.watcher import Watcher
from codeferry_agent.drain.settings import Settings
from codeferry_agent.drain.status import StatusWriter
from codeferry_agent.drain.summary import Outcome, Summary
from codeferry_agent.drain.upload import S3Store

_log = logging.getLogger(__name__)

_SOONEST = 0.2  # seconds between two scans
# A scan costs some 10 µs of CPU for each file it looks at; so it takes a tenth of one core.
_PAUSE_PER_FILE = 100e-6


@dataclass
class Shutdown:
    """When to end, if at all; set by signals. Times are monotonic.

    ``wake`` and ``halt`` run in signal handlers: they must not take locks.
    """

    last_drain: float
    wake: Callable[[], None]
    halt: Callable[[], None]
    asked: bool = False
    deadline: float = float("inf")

    def signalled(self, number: int, _: object) -> None:
        """The first signal asks for a last drain, the second for an end now.

        What is said comes last: a signal that comes while something is written, such as what is
        said here of the one before, finds stderr busy ("reentrant call").
        """
        # First of all: the second signal may come into the midst of this.
        again, self.asked = self.asked, True
        if again:
            self.deadline = 0.0
            self.halt()
        else:
            self.deadline = time.monotonic() + self.last_drain
            signal.setitimer(signal.ITIMER_REAL, max(self.last_drain, 0.001))
        self.wake()
        name = signal.Signals(number).name
        with contextlib.suppress(RuntimeError):
            if again:
                _log.warning("%s again: stopping now; what is left stays for the next start.", name)
            else:
                _log.info("%s: a last drain of at most %g s.", name, self.last_drain)

    def timed_out(self, _number: int, _frame: object) -> None:
        """The last drain's time is over: what is still on its way is given up."""
        self.halt()

    def over(self) -> bool:
        return time.monotonic() >= self.deadline


class Daemon:
    """Runs a drain. ``notice`` may be called by any thread."""

    def __init__(
        self,
        drain: Drain,
        settings: Settings,
        watcher: Watcher,
        shutdown: Shutdown,
        status: StatusWriter,
    ) -> None:
        self._drain = drain
        self._settings = settings
        self._watcher = watcher
        self._shutdown = shutdown
        self._status = status
        self._seconds_left: float | None = None
        self._latest = Summary()

    def run(self) -> None:
        """Drain until a signal asks to end, then for the last time."""
        next_scan = time.monotonic()
        while not self._shutdown.asked:
            scheduled = time.monotonic() >= next_scan
            summary = self._scan(quiet=not scheduled)
            if scheduled:
                next_scan = time.monotonic() + self._settings.interval
            if self._seconds_left is not None:
                self._before_the_end(self._seconds_left)
            elif not self._shutdown.asked:
                self._wait(summary, next_scan)
        self._last_drain(self._shutdown.deadline)

    def run_once(self) -> Summary:
        """One scan, and a second one if files only have to be seen a second time."""
        summary = self._scan()
        if self._drain.observing and not self._shutdown.asked:
            self._watcher.wait(time.monotonic() + self._settings.stability, 0.0)
            summary = self._scan()
        if summary.next_look is not None:
            left = summary.files[Outcome.WAITING]
            _log.info(
                "%s written less than %g s ago and left for a later scan (--stability).",
                "1 file was" if left == 1 else f"{left:,} files were",
                self._settings.stability,
            )
        return summary

    def notice(self, seconds: float) -> None:
        """The instance will be gone in so many seconds."""
        self._seconds_left = seconds
        self._watcher.interrupt()

    def _before_the_end(self, seconds: float) -> None:
        _log.warning("This instance will be gone in %.0f s: a last drain.", seconds)
        self._seconds_left = None
        self._last_drain(time.monotonic() + seconds)

    def _scan(self, *, quiet: bool = False) -> Summary:
        summary = self._latest = self._drain.sync(self._shutdown.over)
        self._status.scanned(
            self._drain.roots.values(), self._drain.bucket_errors, summary, quiet=quiet
        )
        return summary

    def _wait(self, summary: Summary, next_scan: float) -> None:
        now = time.monotonic()
        soonest = now + max(_SOONEST, summary.processed * _PAUSE_PER_FILE)
        due = self._drain.next_due(summary)
        until = next_scan if due is None else min(next_scan, due)
        self._watcher.wait(max(until, soonest), max(self._settings.stability, soonest - now))

    def _last_drain(self, deadline: float) -> None:
        """Scan until nothing is left that only needs a moment, or the time is over."""
        while (now := time.monotonic()) < (end := min(deadline, self._shutdown.deadline)):
            summary = self._scan()
            if summary.next_look is None and not self._drain.observing:
                break
            ready = self._drain.next_due(summary) or now
            self._watcher.wait(min(end, max(ready, now + _SOONEST)), 0.0)
        self._say_what_is_left(self._latest)

    @staticmethod
    def _say_what_is_left(summary: Summary) -> None:
        files, size = summary.pending
        if files:
            _log.warning("%d files (%d bytes) stay for the next start.", files, size)


def serve(settings: Settings, clients: Clients, *, once: bool) -> int:
    """Drain until a signal ends it, or once; the exit code.

    To be called in the main thread. Raises RootLocked.
    """
    ignore_signal()
    environment = clients.environment
    with ExitStack() as at_the_end:
        watcher = Watcher()
        at_the_end.callback(watcher.close)
        shutdown = Shutdown(settings.last_drain, watcher.interrupt, clients.halt)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, shutdown.signalled)
        signal.signal(signal.SIGALRM, shutdown.timed_out)
        drain = Drain(settings, S3Store(clients.of), watcher.watch)
        at_the_end.callback(drain.close)
        instance = environment.instance
        name = instance.instance_id if instance else socket.gethostname()
        status = StatusWriter(name, settings.stage)
        daemon = Daemon(drain, settings, watcher, shutdown, status)
        if once:
            # Stopped before its end it has not looked at everything.
            return 1 if daemon.run_once().errors or shutdown.over() else 0
        if environment.metadata is not None:
            watch = InterruptionWatch(environment.metadata, daemon.notice)
            at_the_end.callback(watch.close)
        clients.introduce()
        _log.info("Draining %s every %g s.", ", ".join(settings.directories), settings.interval)
        daemon.run()
    return 0


def require_directories(directories: Iterable[str], *, once: bool) -> None:
    """Tell of a root that is not there: it may come later, but not to a single scan."""
    for directory in directories:
        if matching([directory]):
            continue
        why = _why_not(directory)
        if once:
            raise RootMissing(why, hint="Name the root with -d/--directory.")
        _log.warning("%s Every scan looks for it.", why)


def _why_not(directory: str) -> str:
    try:
        Path(directory).stat()
    except FileNotFoundError:
        return f"There is no directory {directory}."
    except OSError as error:
        return f"The directory {shown(directory)} cannot be looked at: {error.strerror}."
    return f"{shown(directory)} is no directory."
