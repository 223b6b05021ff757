"""Draining again and again, until told to stop; and then once more."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.settings import Settings
from codeferry_agent.drain.status import StatusWriter
from codeferry_agent.drain.tally import Outcome, Tally
from codeferry_agent.drain.wake import Waiter

_log = logging.getLogger(__name__)

_SOONEST = 0.2  # seconds between two scans
# A scan costs some 10 µs of CPU for each file it looks at; so it takes a tenth of one core.
_PAUSE_PER_FILE = 100e-6


@dataclass
class Ending:
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
        waiter: Waiter,
        ending: Ending,
        status: StatusWriter,
    ) -> None:
        self._drain = drain
        self._settings = settings
        self._waiter = waiter
        self._ending = ending
        self._status = status
        self._seconds_left: float | None = None
        self._latest = Tally()

    def run(self) -> None:
        """Drain until a signal asks to end, then for the last time."""
        next_scan = time.monotonic()
        while not self._ending.asked:
            scheduled = time.monotonic() >= next_scan
            tally = self._scan(quiet=not scheduled)
            if scheduled:
                next_scan = time.monotonic() + self._settings.interval
            if self._seconds_left is not None:
                self._before_the_end(self._seconds_left)
            elif not self._ending.asked:
                self._wait(tally, next_scan)
        self._last_drain(self._ending.deadline)

    def run_once(self) -> Tally:
        """One scan, and a second one if files only have to be seen a second time."""
        tally = self._scan()
        if self._drain.observing and not self._ending.asked:
            self._waiter.wait(time.monotonic() + self._settings.stability, 0.0)
            tally = self._scan()
        if tally.next_look is not None:
            left = tally.files[Outcome.WAITING]
            _log.info(
                "%s written less than %g s ago and left for a later scan (--stability).",
                "1 file was" if left == 1 else f"{left:,} files were",
                self._settings.stability,
            )
        return tally

    def notice(self, seconds: float) -> None:
        """The instance will be gone in so many seconds."""
        self._seconds_left = seconds
        self._waiter.interrupt()

    def _before_the_end(self, seconds: float) -> None:
        _log.warning("This instance will be gone in %.0f s: a last drain.", seconds)
        self._seconds_left = None
        self._last_drain(time.monotonic() + seconds)

    def _scan(self, *, quiet: bool = False) -> Tally:
        tally = self._latest = self._drain.sync(self._ending.over)
        self._status.scanned(self._drain, tally, quiet=quiet)
        return tally

    def _wait(self, tally: Tally, next_scan: float) -> None:
        now = time.monotonic()
        soonest = now + max(_SOONEST, tally.processed * _PAUSE_PER_FILE)
        due = self._drain.next_due(tally)
        until = next_scan if due is None else min(next_scan, due)
        self._waiter.wait(max(until, soonest), max(self._settings.stability, soonest - now))

    def _last_drain(self, deadline: float) -> None:
        """Scan until nothing is left that only needs a moment, or the time is over."""
        while (now := time.monotonic()) < (end := min(deadline, self._ending.deadline)):
            tally = self._scan()
            if tally.next_look is None and not self._drain.observing:
                break
            ready = self._drain.next_due(tally) or now
            self._waiter.wait(min(end, max(ready, now + _SOONEST)), 0.0)
        self._say_what_is_left(self._latest)

    @staticmethod
    def _say_what_is_left(tally: Tally) -> None:
        files, size = tally.pending
        if files:
            _log.warning("%d files (%d bytes) stay for the next start.", files, size)
