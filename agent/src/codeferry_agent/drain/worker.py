"""One file's way to S3 and off the disk."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass

from codeferry_agent.drain.claim import REST_SECONDS, Claim, left_over
from codeferry_agent.drain.delivery import Courier, Delivered
from codeferry_agent.drain.errors import FileChanged, FileUnwatched
from codeferry_agent.drain.held import HeldFile
from codeferry_agent.drain.lease import Leases
from codeferry_agent.drain.naming import shown
from codeferry_agent.drain.selection import Candidate
from codeferry_agent.drain.tally import Outcome, Tally
from codeferry_agent.drain.verdict import Judge
from codeferry_contracts.errors import CodeferryError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Resting:
    """A delivered file on its way out, until ``due`` on the monotonic clock."""

    claim: Claim
    candidate: Candidate
    delivered: Delivered
    due: float


class Worker:
    """Takes files one after the other; belongs to one thread. ``finish`` is its last act."""

    def __init__(self, courier: Courier, leases: Leases, judge: Judge, tally: Tally) -> None:
        self._courier = courier
        self._leases = leases
        self._judge = judge
        self._tally = tally
        self._resting: deque[_Resting] = deque()

    def take(self, candidate: Candidate) -> None:
        """Bring one file to S3 if it can go now, and settle those that have rested."""
        if self._judge.admit(candidate, self._tally):
            try:
                self._resting.append(self._delivered(candidate))
            except (CodeferryError, OSError) as error:
                self._judge.stopped(candidate, error, self._tally)
            else:
                self._judge.arrived(candidate)
        while self._resting and self._resting[0].due <= time.monotonic():
            self._settle(self._resting.popleft())

    def finish(self) -> None:
        """Settle the last ones."""
        while self._resting:
            resting = self._resting.popleft()
            time.sleep(max(0.0, resting.due - time.monotonic()))
            self._settle(resting)

    def _delivered(self, candidate: Candidate) -> _Resting:
        file = HeldFile.open(candidate.place, self._leases)
        try:
            _check(file, candidate)
            delivered = self._courier.deliver(
                file, candidate.bucket, candidate.key, candidate.root.ledger
            )
            if delivered is Delivered.REPLACED:
                self._judge.replaced(candidate)
            claim = Claim(file)
        except BaseException:
            file.close()
            raise
        return _Resting(claim, candidate, delivered, time.monotonic() + REST_SECONDS)

    def _settle(self, resting: _Resting) -> None:
        candidate = resting.candidate
        try:
            resting.claim.settle()
        except (CodeferryError, OSError) as error:
            candidate.root.claims_left = True
            self._judge.stayed(candidate, error, self._tally)
        else:
            self._gone(resting)
        finally:
            resting.claim.file.close()

    def _gone(self, resting: _Resting) -> None:
        candidate = resting.candidate
        uploaded = resting.delivered is not Delivered.THERE_ALREADY
        outcome = Outcome.UPLOADED if uploaded else Outcome.THERE_ALREADY
        self._tally.add(outcome, candidate.size, candidate.modified)
        if _log.isEnabledFor(logging.DEBUG):
            path = shown(candidate.root.shown(candidate.place.path))
            _log.debug("%s: s3://%s/%s has it.", path, candidate.bucket, shown(candidate.key))


def _check(file: HeldFile, candidate: Candidate) -> None:
    """Raise NotNow when it is not yet the time of this file."""
    if left_over(candidate.place):
        candidate.root.claims_left = True
        raise FileChanged("An earlier file of this name goes first.")
    if file.modified > candidate.modified:
        raise FileChanged("It was written to since it was listed.")
    if file.leased and not candidate.from_future:
        return
    if not candidate.root.observed.long_enough(candidate.place.path, file.identity):
        raise FileUnwatched("It has to be seen unchanged for the stability time.")
