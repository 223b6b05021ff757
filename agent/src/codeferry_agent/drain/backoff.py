"""Backoff of each file, and a circuit breaker for each bucket, after errors.

A file's own errors make that file wait. An error that would meet every file of a bucket (no
such bucket, expired credentials, no connection, several denials in a row) makes the bucket
wait; then one file tries, and its success opens the bucket for the others. SlowDown halves
how many go to a bucket at a time; successes raise it again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Clock = Callable[[], float]

_DENIALS = 3  # in a row, of different files; one alone may be about a prefix of the bucket


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait after ``failures`` in a row: doubling, capped, less up to a quarter."""

    first: float
    most: float

    def seconds(self, failures: int) -> float:
        doubled = self.first * 2.0 ** min(failures - 1, 30)
        return min(doubled, self.most) * (1 - random.random() / 4)  # noqa: S311 - spreads load


FILE_BACKOFF = Backoff(first=2, most=900)
# Everything is up again within a minute of S3's return.
BUCKET_BACKOFF = Backoff(first=1, most=30)


@dataclass(slots=True)
class _Waiting:
    failures: int
    until: float
    scan: int


class FileBackoff:
    """Which files of a root wait. Safe to use from many threads."""

    def __init__(self, clock: Clock, backoff: Backoff = FILE_BACKOFF) -> None:
        self._clock = clock
        self._backoff = backoff
        self._waiting: dict[str, _Waiting] = {}
        self._scan = 0
        self._lock = threading.Lock()

    def ready(self, path: str) -> bool:
        waiting = self._waiting.get(path)
        if waiting is None:
            return True
        waiting.scan = self._scan
        return self._clock() >= waiting.until

    def is_calm(self) -> bool:
        """Whether no file waits at all."""
        return not self._waiting

    def failed(self, path: str) -> None:
        with self._lock:
            before = self._waiting.get(path)
            failures = 1 if before is None else before.failures + 1
            until = self._clock() + self._backoff.seconds(failures)
            self._waiting[path] = _Waiting(failures, until, self._scan)

    def succeeded(self, path: str) -> None:
        self._waiting.pop(path, None)

    def scanned(self) -> None:
        """Forget those that the scan just finished has not met any more."""
        with self._lock:
            gone = [path for path, its in self._waiting.items() if its.scan != self._scan]
            for path in gone:
                del self._waiting[path]
            self._scan += 1

    def next_due(self) -> float | None:
        """When the first one may be tried again, on the clock; None when none waits."""
        with self._lock:
            return min((its.until for its in self._waiting.values()), default=None)


@dataclass
class CircuitBreaker:
    """Whether files may go to one bucket now. Safe to use from many threads.

    ``acquire`` before, and exactly one of ``succeeded``, ``denied``, ``throttled``, ``trip`` and
    ``inconclusive`` after. Whoever finds as many inside as may be waits up to ``wait`` seconds.
    """

    clock: Clock
    most: int
    wait: float = 5.0
    backoff: Backoff = BUCKET_BACKOFF
    _limit: float = field(init=False)
    _inside: int = 0
    _failures: int = 0
    _denials: int = 0
    _until: float = 0.0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._limit = self.most

    @property
    def is_open(self) -> bool:
        """Whether there is no use in trying now."""
        return self._failures > 0 and self.clock() < self._until

    @property
    def due(self) -> float | None:
        """When it may be tried again, on the clock; None when nothing has to wait."""
        return self._until if self._failures else None

    def acquire(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self.is_open or self._has_room(), self.wait)
            if self.is_open or not self._has_room():
                return False
            self._inside += 1
            return True

    def _has_room(self) -> bool:
        return self._inside < (1 if self._failures else int(self._limit))

    def succeeded(self) -> int:
        """A file went up; how many failures in a row that ends."""
        with self._releasing():
            ended, self._failures, self._denials, self._until = self._failures, 0, 0, 0.0
            self._limit = min(self.most, self._limit + 1 / self._limit)
            return ended

    def denied(self) -> None:
        """S3 denied this file. Denials in a row are the bucket's, not the files'."""
        with self._releasing():
            self._denials += 1
            if self._denials >= _DENIALS:
                self._park()

    def throttled(self) -> None:
        with self._releasing():
            self._limit = max(1.0, self._limit / 2)
            self._park()

    def trip(self) -> None:
        """An error that every file of the bucket would meet."""
        with self._releasing():
            self._park()

    def inconclusive(self) -> None:
        """Nothing was learnt about the bucket."""
        with self._releasing():
            pass

    @contextmanager
    def _releasing(self) -> Iterator[None]:
        with self._changed:
            self._inside -= 1
            yield
            self._changed.notify_all()

    def _park(self) -> None:
        if self.is_open:
            return  # others that were inside at the same time count once
        self._failures += 1
        self._until = self.clock() + self.backoff.seconds(self._failures)


class CircuitBreakers:
    """The breaker of each bucket, made when it is first asked for."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._breakers: dict[str, CircuitBreaker] = {}
        self._lock = threading.Lock()

    def of(self, bucket: str) -> CircuitBreaker:
        breaker = self._breakers.get(bucket)
        if breaker is None:
            with self._lock:
                breaker = self._breakers.setdefault(bucket, CircuitBreaker(self._clock, self._most))
        return breaker

    def next_due(self) -> float | None:
        with self._lock:
            due = [breaker.due for breaker in self._breakers.values()]
        return min((when for when in due if when is not None), default=None)
