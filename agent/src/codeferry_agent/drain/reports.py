"""Errors in the log: at once, then at a falling rate, and a line when they are over."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from codeferry_agent.drain.backoff import Clock

_log = logging.getLogger(__name__)

_FIRST_SECONDS, _MOST_SECONDS = 60.0, 3600.0
_LINES_A_SCAN = 10  # of one code; the others are counted
_SUBJECTS = 10_000  # kept in mind
# What is worth a warning and no error, beside the codes of errors.
_LEFT, REPLACED = "left alone", "replaced"


@dataclass(slots=True)
class _Going:
    since: float
    next_line: float
    pause: float = _FIRST_SECONDS
    unsaid: int = 0
    times: int = 1


@dataclass
class Reports:
    """What has gone wrong and was said. Safe to use from many threads.

    A subject is a path or a bucket. It is reported when it first fails and after 1, 2, 4, …
    60 minutes of failing on; ten subjects a scan by name, the rest by number.
    """

    clock: Clock = time.monotonic
    _going: dict[str, _Going] = field(default_factory=dict)
    _said: Counter[str] = field(default_factory=Counter)
    _left: set[str] = field(default_factory=set)
    _unsaid: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, subject: str, code: str, message: str) -> None:
        with self._lock:
            now = self.clock()
            going = self._going.get(subject)
            if going is None:
                if len(self._going) < _SUBJECTS:
                    self._going[subject] = _Going(now, now + _FIRST_SECONDS)
                self._line(code, message)
            elif now < going.next_line:
                going.unsaid += 1
                going.times += 1
            else:
                self._again(going, now, code, message)

    def _again(self, going: _Going, now: float, code: str, message: str) -> None:
        going.pause = min(2 * going.pause, _MOST_SECONDS)
        going.next_line = now + going.pause
        going.times += 1
        self._line(code, f"{message} ({going.unsaid + 1} times since it was last said)")
        going.unsaid = 0

    def left(self, subject: str, message: str) -> None:
        """Something is left alone that may be meant to go: said once, and is no error."""
        with self._lock:
            if subject not in self._left and len(self._left) < _SUBJECTS:
                self._left.add(subject)
                self._line(_LEFT, message)

    def _line(self, code: str, message: str) -> None:
        self._said[code] += 1
        if self._said[code] <= _LINES_A_SCAN:
            _log.log(_level(code), "%s", message)
        else:
            self._unsaid[code] += 1

    def recovered(self, subject: str, what: str) -> None:
        """Say that a subject that had failed is well, if it had."""
        if subject not in self._going:
            return
        with self._lock:
            going = self._going.pop(subject, None)
        if going is not None:
            seconds = self.clock() - going.since
            _log.info("%s again, after %d errors in %.0f s.", what, going.times, seconds)

    def said(self, message: str) -> None:
        """Something worth a line that is no error."""
        _log.info("%s", message)

    def scanned(self) -> None:
        """The scan is over: say how many were not named, and name again in the next one."""
        with self._lock:
            unsaid, self._unsaid, self._said = self._unsaid, Counter(), Counter()
        for code, count in sorted(unsaid.items()):
            _log.log(_level(code), "%d more like these (%s).", count, code)


def _level(code: str) -> int:
    return logging.WARNING if code in (_LEFT, REPLACED) else logging.ERROR
