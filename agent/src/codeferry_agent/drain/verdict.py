"""What every error on a file's way means: for the file, for its bucket, and for the log."""

from __future__ import annotations

from dataclasses import dataclass

from codeferry_agent.drain.errors import NotNow, OwnerUnknown
from codeferry_agent.drain.health import Health
from codeferry_agent.drain.naming import shown
from codeferry_agent.drain.patience import Gates
from codeferry_agent.drain.reports import REPLACED, Reports
from codeferry_agent.drain.selection import Candidate
from codeferry_agent.drain.tally import Outcome, Tally
from codeferry_contracts.errors import CodeferryError
from codeferry_transfer.errors import (
    AccessDenied,
    BucketMissing,
    ConnectionFailed,
    CredentialsUnusable,
    Halted,
    Throttled,
)

# What every file of the bucket would meet.
_OF_THE_BUCKET = (BucketMissing, ConnectionFailed, CredentialsUnusable, OwnerUnknown, Throttled)


@dataclass(frozen=True)
class Judge:
    """Lets files go to their buckets, and decides who has to wait after what they met.

    Each ``admit`` that says yes is followed by ``arrived`` or ``stopped``.
    """

    gates: Gates
    reports: Reports
    health: Health

    def admit(self, candidate: Candidate, tally: Tally) -> bool:
        gate = self.gates.of(candidate.bucket)
        if gate.enter():
            return True
        tally.deferred = True
        outcome = Outcome.FAILED if gate.due is not None else Outcome.WAITING
        tally.add(outcome, candidate.size, candidate.modified)
        return False

    def arrived(self, candidate: Candidate) -> None:
        """The store has it."""
        if not candidate.root.patience.is_calm():
            candidate.root.patience.succeeded(candidate.place.path)
            self.reports.recovered(_path(candidate), f"{shown(_path(candidate))} goes")
        if self.gates.of(candidate.bucket).passed():
            bucket = _url(candidate.bucket)
            self.reports.recovered(bucket, f"{bucket} takes files")
            self.health.recovered(candidate.bucket)

    def replaced(self, candidate: Candidate) -> None:
        """The store had something else under the key, and has it no more."""
        bucket = _url(candidate.bucket)
        self.reports.failed(
            f"{bucket} replaced",
            REPLACED,
            f"{bucket}/{shown(candidate.key)} was another object before, which is gone: the bucket"
            " keeps no versions. Let it keep them, or write names that do not repeat.",
        )

    def stopped(self, candidate: Candidate, error: CodeferryError | OSError, tally: Tally) -> None:
        """It did not get to the store."""
        gate = self.gates.of(candidate.bucket)
        if isinstance(error, Throttled):
            gate.throttled()
        elif isinstance(error, _OF_THE_BUCKET):
            gate.shut()
        elif isinstance(error, AccessDenied):
            gate.refused()
        else:
            gate.left()
        self.stayed(candidate, error, tally)

    def stayed(self, candidate: Candidate, error: CodeferryError | OSError, tally: Tally) -> None:
        """It is still on the disk."""
        wrong = not isinstance(error, (NotNow, Halted))
        tally.add(Outcome.FAILED if wrong else Outcome.WAITING, candidate.size, candidate.modified)
        if wrong:
            self._report(candidate, error)

    def _report(self, candidate: Candidate, error: CodeferryError | OSError) -> None:
        code, message = _described(error)
        self.health.failed(candidate.bucket, code, message)
        if isinstance(error, _OF_THE_BUCKET):
            self.reports.failed(_url(candidate.bucket), code, message)
        else:
            candidate.root.patience.failed(candidate.place.path)
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
