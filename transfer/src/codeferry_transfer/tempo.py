"""How many workers pay: doubled as long as that carries more, and never for its own sake.

More threads than the network keeps waiting only get into each other's way, at the
interpreter and in the filesystem; how many that is depends on the distance to S3 and on
everything else, so it is tried out. Two or three keep a processor busy when S3 is near, and a
far one is known as such within a second.
"""

from __future__ import annotations

FIRST = 3
_WORTH_IT = 1.15  # of what was carried before, to keep a doubled number
_SETTLED_SECONDS = 2.0
_LONGEST_LOOK_SECONDS = 1.0


class Tempo:
    """The number of workers, from the number of works done so far at some moments."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.workers = min(FIRST, most)
        self._before = 0  # workers, while a larger number is being tried
        self._rate = 0.0
        self._done = 0
        self._at: float | None = None
        self._next_try = 0.0

    def observe(self, done: int, now: float) -> None:
        """``done`` works, ``now`` (seconds): changes ``workers`` if that is worth it."""
        if self._at is None:
            self._at, self._done = now, done
            return
        some, seconds = done - self._done, now - self._at
        if seconds <= 0 or (some < self.workers and seconds < _LONGEST_LOOK_SECONDS):
            return  # fewer say nothing of a rate
        self._at, self._done = now, done
        rate = some / seconds
        if self._before:
            self._judge(rate, now)
        elif now >= self._next_try and rate > 0:
            self._try_more(rate)

    def _try_more(self, rate: float) -> None:
        if self.workers < self._most:
            self._rate = rate
            self._before = self.workers
            self.workers = min(2 * self.workers, self._most)

    def _judge(self, rate: float, now: float) -> None:
        worth_it = rate >= _WORTH_IT * self._rate
        before, self._before = self._before, 0
        if worth_it:
            self._try_more(rate)
        else:
            self.workers = before
            self._next_try = now + _SETTLED_SECONDS
