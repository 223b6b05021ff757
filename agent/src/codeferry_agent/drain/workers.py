"""The workers of one scan: each file's way to S3 and off the disk, as many at a time as pay."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from codeferry_agent.drain.error_policy import ErrorPolicy
from codeferry_agent.drain.errors import FileChanged, FileUnwatched
from codeferry_agent.drain.files.open_file import Leases, OpenFile
from codeferry_agent.drain.files.root import Root
from codeferry_agent.drain.files.safe_delete import REST_SECONDS, Claim, left_over
from codeferry_agent.drain.files.scan import shown
from codeferry_agent.drain.selection import Candidate, Selection
from codeferry_agent.drain.summary import Outcome, Summary
from codeferry_agent.drain.upload import Uploader, UploadResult
from codeferry_contracts.errors import CodeferryError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Resting:
    """An uploaded file on its way out, until ``due`` on the monotonic clock."""

    claim: Claim
    candidate: Candidate
    uploaded: UploadResult
    due: float


class Worker:
    """Takes files one after the other; belongs to one thread. ``finish`` is its last act."""

    def __init__(
        self, uploader: Uploader, leases: Leases, policy: ErrorPolicy, summary: Summary
    ) -> None:
        self._uploader = uploader
        self._leases = leases
        self._policy = policy
        self._summary = summary
        self._resting: deque[_Resting] = deque()

    def take(self, candidate: Candidate) -> None:
        """Bring one file to S3 if it can go now, and settle those that have rested."""
        if self._policy.admit(candidate, self._summary):
            try:
                self._resting.append(self._uploaded(candidate))
            except (CodeferryError, OSError) as error:
                self._policy.stopped(candidate, error, self._summary)
            else:
                self._policy.arrived(candidate)
        while self._resting and self._resting[0].due <= time.monotonic():
            self._settle(self._resting.popleft())

    def finish(self) -> None:
        """Settle the last ones."""
        while self._resting:
            resting = self._resting.popleft()
            time.sleep(max(0.0, resting.due - time.monotonic()))
            self._settle(resting)

    def _uploaded(self, candidate: Candidate) -> _Resting:
        file = OpenFile.open(candidate.place, self._leases)
        try:
            _check(file, candidate)
            uploaded = self._uploader.upload(
                file, candidate.bucket, candidate.key, candidate.root.ledger
            )
            if uploaded is UploadResult.REPLACED:
                self._policy.replaced(candidate)
            claim = Claim(file)
        except BaseException:
            file.close()
            raise
        return _Resting(claim, candidate, uploaded, time.monotonic() + REST_SECONDS)

    def _settle(self, resting: _Resting) -> None:
        candidate = resting.candidate
        try:
            resting.claim.settle()
        except (CodeferryError, OSError) as error:
            candidate.root.claims_left = True
            self._policy.stayed(candidate, error, self._summary)
        else:
            self._gone(resting)
        finally:
            resting.claim.file.close()

    def _gone(self, resting: _Resting) -> None:
        candidate = resting.candidate
        uploaded = resting.uploaded is not UploadResult.THERE_ALREADY
        outcome = Outcome.UPLOADED if uploaded else Outcome.THERE_ALREADY
        self._summary.add(outcome, candidate.size, candidate.modified)
        if _log.isEnabledFor(logging.DEBUG):
            path = shown(candidate.root.shown(candidate.place.path))
            _log.debug("%s: s3://%s/%s has it.", path, candidate.bucket, shown(candidate.key))


def _check(file: OpenFile, candidate: Candidate) -> None:
    """Raise NotNow when it is not yet the time of this file."""
    if left_over(candidate.place):
        candidate.root.claims_left = True
        raise FileChanged("An earlier file of this name goes first.")
    if file.modified > candidate.modified:
        raise FileChanged("It was written to since it was listed.")
    if file.leased and not candidate.from_future:
        return
    if not candidate.root.stability.long_enough(candidate.place.path, file.identity):
        raise FileUnwatched("It has to be seen unchanged for the stability time.")


# Threads are added as long as the process waits for the network more than it computes: a
# near S3 needs few, one that answers after 50 ms needs many.
_FIRST_THREADS = 3
_GROW_SECONDS = 0.03
_ENOUGH = 0.6


@dataclass(frozen=True)
class WorkerPool:
    """The workers' shared equipment, and how many there are."""

    uploader: Uploader
    leases: Leases
    policy: ErrorPolicy
    workers: int


def sync(
    roots: Iterable[Root], selection: Selection, pool: WorkerPool, stop: Callable[[], bool]
) -> Summary:
    """Drain what may leave now; ``stop`` is asked before each file.

    Idempotent: what it did not finish, and what a kill left of an earlier one, the next one
    finishes. Raises only what is a defect.
    """
    summary, roots = Summary(), list(roots)
    for root in roots:
        _drop_uploads(root, pool.uploader)
        if root.claims_left:
            root.claims_left = False
            _work(selection.left_over(root, summary), pool, summary, stop)
    _work((one for root in roots for one in selection.ready(root, summary)), pool, summary, stop)
    for root in roots:
        root.backoff.scanned()
        root.stability.scanned()
    return summary


def _drop_uploads(root: Root, uploader: Uploader) -> None:
    """Abort what a kill left half uploaded; at the start, when nothing is on its way."""
    if root.uploads_left:
        root.uploads_left = False
        for begun in root.ledger.begun():
            uploader.abort(begun, root.ledger)


def _work(
    candidates: Iterator[Candidate], pool: WorkerPool, summary: Summary, stop: Callable[[], bool]
) -> None:
    """Let workers take the candidates from the one iterator; return when all are done."""
    shared = _Shared(candidates, stop)
    if shared.exhausted():
        return
    threads: list[threading.Thread] = []
    busy = _Busy()
    while shared.more() and len(threads) < pool.workers:
        if len(threads) < _FIRST_THREADS or not busy.since_last_asked():
            worker = Worker(pool.uploader, pool.leases, pool.policy, summary)
            thread = threading.Thread(target=shared.drained_by, args=(worker,), daemon=True)
            threads.append(thread)
            thread.start()
        if len(threads) >= _FIRST_THREADS:
            shared.wait(_GROW_SECONDS)
    for thread in threads:
        thread.join()
    shared.raise_defect()


class _Busy:
    """Whether this process has enough to do: then more threads would only be in the way."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def since_last_asked(self) -> bool:
        wall, cpu = time.monotonic(), time.process_time()
        share = (cpu - self._cpu) / max(wall - self._wall, 1e-9)
        self._wall, self._cpu = wall, cpu
        return share >= _ENOUGH


class _Shared:
    """An iterator that many threads take from, each file to one thread at a time.

    Nothing is queued: the scan goes on when a worker wants a file, so memory stays flat.
    """

    def __init__(self, candidates: Iterator[Candidate], stop: Callable[[], bool]) -> None:
        self._candidates = candidates
        self._stop = stop
        self._lock = threading.Lock()
        self._first: Candidate | None = None
        self._exhausted = threading.Event()
        self._defect: BaseException | None = None

    def exhausted(self) -> bool:
        """Whether there is nothing at all to take."""
        self._first = next(self._candidates, None)
        return self._first is None

    def more(self) -> bool:
        """Whether there may be more to take."""
        return not self._exhausted.is_set()

    def wait(self, seconds: float) -> None:
        """Return when there is nothing more to take, or after so long."""
        self._exhausted.wait(seconds)

    def _next(self) -> Candidate | None:
        with self._lock:
            if self._defect is not None or self._stop():
                return None
            first, self._first = self._first, None
            return first or next(self._candidates, None)

    def drained_by(self, worker: Worker) -> None:
        """What is wrong with a file is dealt with by the worker; what gets here is a defect."""
        try:
            while (candidate := self._next()) is not None:
                worker.take(candidate)
            worker.finish()
        except BaseException as error:  # noqa: BLE001 - raised again by raise_defect
            self._defect = error
        finally:
            self._exhausted.set()

    def raise_defect(self) -> None:
        if self._defect is not None:
            raise self._defect
