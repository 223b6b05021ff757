"""Callbacks at a later time, from one thread for all of them."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

Callback = Callable[[], None]


class Timer:
    """A pending callback; cancelling it also lets go of what it refers to."""

    def __init__(self, callback: Callback) -> None:
        self._callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not call back."""
        self._callback = None

    def fire(self) -> None:
        """Call back, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Timers:
    """Pending timers, soonest first."""

    def __init__(self) -> None:
        self._advanced = 0.0
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = itertools.count()
        self._running = True
        self._thread = threading.Thread(target=self._work, name="ssm-timers", daemon=True)
        self._thread.start()

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call back in ``seconds`` (real ones)."""
        timer = Timer(callback)
        with self._changed:
            due = self._now() + seconds
            heapq.heappush(self._heap, (due, next(self._number), timer))
            self._changed.notify()
        return timer

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass at once for all timers, those that are set later included."""
        with self._changed:
            self._advanced += seconds
            self._changed.notify()

    def stop(self) -> None:
        """Drop every timer and end the thread."""
        with self._changed:
            self._running = False
            self._heap.clear()
            self._changed.notify()
        self._thread.join()

    def _now(self) -> float:
        return time.monotonic() + self._advanced

    def _work(self) -> None:
        while (timer := self._next()) is not None:
            try:
                timer.fire()
            except Exception:
                # One broken callback must not silence every other timeout.
                logger.exception("A timer of the local SSM failed")

    def _next(self) -> Timer | None:
        with self._changed:
            while self._running:
                wait = self._heap[0][0] - self._now() if self._heap else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(wait)
        return None
