"""The error policy: what every error on a file's way means for the file, its bucket and the log."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from codeferry_agent.drain.backoff import CircuitBreakers
from codeferry_agent.drain.errors import NotNow, OwnerUnknown
from codeferry_agent.drain.files.scan import shown
from codeferry_agent.drain.reports import REPLACED, Reports
from codeferry_agent.drain.selection import Candidate
from codeferry_agent.drain.summary import Outcome, Summary
from codeferry_contracts.errors import CodeferryError
from codeferry_transfer.errors import (
    AccessDenied,
    BucketMissing,
    ConnectionFailed,
    CredentialsUnusable,
    Halted,
    Throttled,
)


@dataclass
class BucketError:
    """``at`` in seconds since 1970; ``over`` once a file went up after it."""

    code: str
    message: str
    at: float
    over: bool = False


@dataclass
class BucketErrors:
    """Safe to use from many threads."""

    _errors: dict[str, BucketError] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, bucket: str, code: str, message: str) -> None:
        with self._lock:
            self._errors[bucket] = BucketError(code, message, time.time())

    def recovered(self, bucket: str) -> None:
        with self._lock:
            if bucket in self._errors:
                self._errors[bucket].over = True

    def last_errors(self) -> dict[str, BucketError]:
        with self._lock:
            return dict(self._errors)


# What every file of the bucket would meet.
_OF_THE_BUCKET = (BucketMissing, ConnectionFailed, CredentialsUnusable, OwnerUnknown, Throttled)


@dataclass(frozen=True)
class ErrorPolicy:
    """Lets files go to their buckets, and decides who has to wait after what they met.

    Each ``admit`` that says yes is followed by ``arrived`` or ``stopped``.
    """

    breakers: CircuitBreakers
    reports: Reports
    bucket_errors: BucketErrors

    def admit(self, candidate: Candidate, summary: Summary) -> bool:
        breaker = self.breakers.of(candidate.bucket)
        if breaker.acquire():
            return True
        summary.deferred = True
        outcome = Outcome.FAILED if breaker.due is not None else Outcome.WAITING
        summary.add(outcome, candidate.size, candidate.modified)
        return False

    def arrived(self, candidate: Candidate) -> None:
        """The store has it."""
        if not candidate.root.backoff.is_calm():
            candidate.root.backoff.succeeded(candidate.place.path)
            self.reports.recovered(_path(candidate), f"{shown(_path(candidate))} goes")
        if self.breakers.of(candidate.bucket).succeeded():
            bucket = _url(candidate.bucket)
            self.reports.recovered(bucket, f"{bucket} takes files")
            self.bucket_errors.recovered(candidate.bucket)

    def replaced(self, candidate: Candidate) -> None:
        """The store had something else under the key, and has it no more."""
        bucket = _url(candidate.bucket)
        self.reports.failed(
            f"{bucket} replaced",
            REPLACED,
            f"{bucket}/{shown(candidate.key)} was another object before, which is gone: the bucket"
            " keeps no versions. Let it keep them, or write names that do not repeat.",
        )

    def stopped(
        self, candidate: Candidate, error: CodeferryError | OSError, summary: Summary
    ) -> None:
        """It did not get to the store."""
        breaker = self.breakers.of(candidate.bucket)
        if isinstance(error, Throttled):
            breaker.throttled()
        elif isinstance(error, _OF_THE_BUCKET):
            breaker.trip()
        elif isinstance(error, AccessDenied):
            breaker.denied()
        else:
            breaker.inconclusive()
        self.stayed(candidate, error, summary)

    def stayed(
        self, candidate: Candidate, error: CodeferryError | OSError, summary: Summary
    ) -> None:
        """It is still on the disk."""
        wrong = not isinstance(error, (NotNow, Halted))
        summary.add(
            Outcome.FAILED if wrong else Outcome.WAITING, candidate.size, candidate.modified
        )
        if wrong:
            self._report(candidate, error)

    def _report(self, candidate: Candidate, error: CodeferryError | OSError) -> None:
        code, message = _described(error)
        self.bucket_errors.failed(candidate.bucket, code, message)
        if isinstance(error, _OF_THE_BUCKET):
            self.reports.failed(_url(candidate.bucket), code, message)
        else:
            candidate.root.backoff.failed(candidate.place.path)
            path = _path(candidate)
            self.reports.failed(path, code, f"{shown(path)} stays: {message}")


def _described(error: CodeferryError | OSError) -> tuple[str, str]:
    if isinstance(error, CodeferryError):
        return error.code, str(error)
    return f"os_{error.errno}", f"{error.strerror}."


def _path(candidate: Candidate) -> str:
    return candidate.root.shown(candidate.place.path)


def _url(bucket: str) -> str:
    return f"s3://{bucket}"
