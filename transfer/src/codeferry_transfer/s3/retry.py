"""Limit the requests at a time (fewer when S3 asks for it), and wait between tries."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHARE_KEPT = 0.5
_IGNORED_SECONDS = 1.0
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 8.0


class RequestLimit:
    """Additive increase, multiplicative decrease, as TCP does it.

    Unlimited until the first refusal; one burst of refusals counts once, because requests
    that were already on their way say nothing new.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = threading.Condition()
        self._clock = clock
        self._going = 0
        self._deaf_until = 0.0
        self.limit = math.inf

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits until one more request may go."""
        with self._free:
            while self._going >= self.limit:
                self._free.wait()
            self._going += 1
        try:
            yield
        finally:
            with self._free:
                self._going -= 1
                self._free.notify()

    def refused(self) -> None:
        """S3 has asked to slow down."""
        with self._free:
            now = self._clock()
            if now >= self._deaf_until:
                self._deaf_until = now + _IGNORED_SECONDS
                self.limit = max(1.0, min(self.limit, self._going) * _SHARE_KEPT)

    def served(self) -> None:
        """S3 has answered as it should."""
        if self.limit is not math.inf:
            with self._free:
                self.limit += 1 / self.limit
                self._free.notify()


def delay(attempt: int) -> float:
    """Seconds to wait before attempt ``attempt`` + 1 (from 1): full jitter, capped.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog.
    """
    most = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0**attempt)
    return random.uniform(0, most)  # noqa: S311 - spreads load, hides nothing
