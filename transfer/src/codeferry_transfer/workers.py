"""Work off a plan with threads: as many as carry more, and the pieces of large objects first."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Protocol

from codeferry_transfer.errors import TransferError

FIRST = 3
_WORTHWHILE_GAIN = 1.15  # of what was carried before, to keep a doubled number
_SETTLED_SECONDS = 2.0
_LONGEST_LOOK_SECONDS = 1.0


class ConcurrencyLimit:
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
            self._adjust(rate, now)
        elif now >= self._next_try and rate > 0:
            self._try_more(rate)

    def _try_more(self, rate: float) -> None:
        if self.workers < self._most:
            self._rate = rate
            self._before = self.workers
            self.workers = min(2 * self.workers, self._most)

    def _adjust(self, rate: float, now: float) -> None:
        worth_it = rate >= _WORTHWHILE_GAIN * self._rate
        before, self._before = self._before, 0
        if worth_it:
            self._try_more(rate)
        else:
            self.workers = before
            self._next_try = now + _SETTLED_SECONDS


Work = Callable[[], None]
Watch = Callable[[], None]

MOST_WORKERS = 64
LARGE_AT_ONCE = 16
"""Pieces of large objects in memory at a time."""
_LARGE_FIRST = 8  # threads for them from the start: one piece says little of what more would do

_BACKLOG = 10_000  # works planned ahead: listings go on meanwhile, and totals are known early
_BATCH = 64
_LOOK_SECONDS = 0.1
_LIMIT_SECONDS = 0.2


class WorkerPool:
    """Works off what ``run`` is given, until all is done or something unknown is raised.

    Works are expected to deal with the errors they know; any other ends the run. ``add`` is
    for works that find out that there is more to do in parallel.
    """

    def __init__(self, most: int | None = None, *, halt: Callable[[], None] = lambda: None) -> None:
        self._most = most or MOST_WORKERS
        self._limit = ConcurrencyLimit(self._most)
        self._halt = halt
        self._changed = threading.Condition()
        self._backlog: deque[Work] = deque()
        self._large: deque[Iterator[Work]] = deque()
        self._large_going = 0
        self._going = 0
        self._finished = 0
        self._planning = True
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self.stopped = False

    def run(self, works: Iterable[Work], watch: Watch = lambda: None) -> None:
        """Do all of ``works``; ``watch`` is called some ten times a second in this thread.

        On an exception, KeyboardInterrupt included, what is going on is halted and waited for.
        """
        planner = threading.Thread(target=self._plan, args=(iter(works),), name="plan")
        self._threads.append(planner)
        planner.start()
        try:
            self._oversee(watch)
        except BaseException:
            self.stop()
            raise
        finally:
            for thread in self._threads:
                thread.join()
        if self._error is not None:
            raise self._error

    def add(self, works: Iterator[Work]) -> None:
        """Take these before anything that is only planned, a few at a time."""
        with self._changed:
            self._large.append(works)
            self._changed.notify_all()

    def stop(self, error: BaseException | None = None) -> None:
        """Begin nothing more and give up what is going on."""
        with self._changed:
            self.stopped = True
            self._error = self._error or error
            self._changed.notify_all()
        self._halt()

    def _plan(self, works: Iterator[Work]) -> None:
        try:
            while not self.stopped and (batch := list(islice(works, _BATCH))):
                with self._changed:
                    self._changed.wait_for(lambda: len(self._backlog) < _BACKLOG or self.stopped)
                    self._backlog.extend(batch)
                    self._changed.notify(len(batch))
        except BaseException as error:  # noqa: BLE001 - raised again by run()
            self.stop(error)
        with self._changed:
            self._planning = False
            self._changed.notify_all()

    def _may_work(self) -> int:
        """How many threads."""
        workers = self._limit.workers
        return max(workers, min(_LARGE_FIRST, self._most)) if self._large else workers

    def _hire(self) -> None:
        """As many threads as may be at work."""
        while len(self._threads) <= self._may_work():  # one of them is the planner
            thread = threading.Thread(target=self._labour, name="transfer")
            self._threads.append(thread)
            thread.start()

    def _labour(self) -> None:
        while (drawn := self._draw()) is not None:
            work, large = drawn
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised again by run()
                self.stop(error)
            self._done(large=large)

    def _draw(self) -> tuple[Work, bool] | None:
        """The next work, or None when there will be no more."""
        with self._changed:
            while not self.stopped and not self._is_over():
                drawn = self._next() if self._going < self._may_work() else None
                if drawn is not None:
                    self._going += 1
                    self._large_going += drawn[1]
                    return drawn
                self._changed.wait()
        return None

    def _next(self) -> tuple[Work, bool] | None:
        piece = self._next_piece()
        if piece is not None:
            return piece, True
        if not self._backlog:
            return None
        if len(self._backlog) == _BACKLOG // 2:
            self._changed.notify_all()  # the planner may be waiting
        return self._backlog.popleft(), False

    def _next_piece(self) -> Work | None:
        while self._large and self._large_going < LARGE_AT_ONCE:
            piece = next(self._large[0], None)
            if piece is not None:
                return piece
            self._large.popleft()
        return None

    def _done(self, *, large: bool) -> None:
        with self._changed:
            self._going -= 1
            self._finished += 1
            self._large_going -= large
            if large or not self._going:
                self._changed.notify_all()

    def _oversee(self, watch: Watch) -> None:
        looked = 0.0
        while not self._over():
            watch()
            now = time.monotonic()
            if (self._backlog or self._large) and now - looked >= _LIMIT_SECONDS:
                looked = now
                self._limit.observe(self._finished, now)
        watch()

    def _over(self) -> bool:
        """Waits a little; whether there is nothing left to wait for."""
        self._hire()
        with self._changed:
            over = self._changed.wait_for(self._is_over, _LOOK_SECONDS)
            if over:
                self._changed.notify_all()  # the workers, who may have slept through it
            return over

    def _is_over(self) -> bool:
        at_work = self._planning or self._going or self._backlog or self._large
        return self.stopped or not at_work


class LargeTransfer(Protocol):
    """What the pieces of one object have in common."""

    def carry(self, piece: int) -> None:
        """Carry the piece of that number. Raises TransferError, OSError."""

    def finish(self) -> None:
        """All pieces are there. Raises TransferError, OSError."""

    def give_up(self, error: Exception) -> None:
        """Some piece, or ``finish``, failed; nothing further will be called."""


class Pieces:
    """Carries every piece once, in any order, and ends the carrier once."""

    def __init__(self, carrier: LargeTransfer, pieces: Sequence[int]) -> None:
        self._carrier = carrier
        self._pieces = pieces
        self._left = len(pieces)
        self._lock = threading.Lock()
        self._error: Exception | None = None

    def works(self) -> Iterator[Work]:
        """One for each piece; at least one, because ending is work too."""
        if not self._pieces:
            yield self._end
        for piece in self._pieces:
            yield partial(self._one, piece)

    def _one(self, piece: int) -> None:
        if self._error is None:
            try:
                self._carrier.carry(piece)
            except (TransferError, OSError) as error:
                self._error = error
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._end()

    def _end(self) -> None:
        try:
            if self._error is not None:
                raise self._error
            self._carrier.finish()
        except (TransferError, OSError) as error:
            self._carrier.give_up(error)
