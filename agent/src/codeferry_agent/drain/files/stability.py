"""Stability of files that cannot be judged at first sight: how long each was seen unchanged."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from codeferry_agent.drain.backoff import Clock
from codeferry_agent.drain.files.open_file import Identity


@dataclass(slots=True)
class _Seen:
    identity: Identity
    since: float
    scan: int


class StabilityTracker:
    """The files of a root under observation. Safe to use from many threads."""

    def __init__(self, clock: Clock, stability: float) -> None:
        self._clock = clock
        self._stability = stability
        self._sights: dict[str, _Seen] = {}
        self._scan = 0
        self._lock = threading.Lock()

    def long_enough(self, path: str, identity: Identity) -> bool:
        """Note a look at the file; whether it has been this for the stability time."""
        with self._lock:
            sight = self._sights.get(path)
            if sight is None or sight.identity != identity:
                self._sights[path] = _Seen(identity, self._clock(), self._scan)
                return False
            sight.scan = self._scan
            return self._clock() - sight.since >= self._stability

    def scanned(self) -> None:
        """Forget those that the scan just finished has not met any more."""
        with self._lock:
            gone = [path for path, sight in self._sights.items() if sight.scan != self._scan]
            for path in gone:
                del self._sights[path]
            self._scan += 1

    def next_due(self) -> float | None:
        """When the first one will have been seen long enough, on the clock."""
        with self._lock:
            first = min((sight.since for sight in self._sights.values()), default=None)
        return None if first is None else first + self._stability
