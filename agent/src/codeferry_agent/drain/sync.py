"""One scan: every file that may leave does, as many at a time as there are workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from codeferry_agent.drain.delivery import Courier
from codeferry_agent.drain.lease import Leases
from codeferry_agent.drain.root import Root
from codeferry_agent.drain.selection import Candidate, Selection
from codeferry_agent.drain.tally import Tally
from codeferry_agent.drain.verdict import Judge
from codeferry_agent.drain.worker import Worker

# Threads are added as long as the process waits for the network more than it computes: a
# near S3 needs few, one that answers after 50 ms needs many.
_FIRST_THREADS = 3
_GROW_SECONDS = 0.03
_ENOUGH = 0.6


@dataclass(frozen=True)
class Crew:
    """The workers' shared equipment, and how many there are."""

    courier: Courier
    leases: Leases
    judge: Judge
    workers: int


def sync(
    roots: Iterable[Root], selection: Selection, crew: Crew, stop: Callable[[], bool]
) -> Tally:
    """Drain what may leave now; ``stop`` is asked before each file.

    Idempotent: what it did not finish, and what a kill left of an earlier one, the next one
    finishes. Raises only what is a defect.
    """
    tally, roots = Tally(), list(roots)
    for root in roots:
        _drop_uploads(root, crew.courier)
        if root.claims_left:
            root.claims_left = False
            _work(selection.left_over(root, tally), crew, tally, stop)
    _work((one for root in roots for one in selection.ready(root, tally)), crew, tally, stop)
    for root in roots:
        root.patience.scanned()
        root.observed.scanned()
    return tally


def _drop_uploads(root: Root, courier: Courier) -> None:
    """Abort what a kill left half uploaded; at the start, when nothing is on its way."""
    if root.uploads_left:
        root.uploads_left = False
        for begun in root.ledger.begun():
            courier.abort(begun, root.ledger)


def _work(
    candidates: Iterator[Candidate], crew: Crew, tally: Tally, stop: Callable[[], bool]
) -> None:
    """Let workers take the candidates from the one iterator; return when all are done."""
    shared = _Shared(candidates, stop)
    if shared.exhausted():
        return
    threads: list[threading.Thread] = []
    busy = _Busy()
    while shared.more() and len(threads) < crew.workers:
        if len(threads) < _FIRST_THREADS or not busy.since_last_asked():
            worker = Worker(crew.courier, crew.leases, crew.judge, tally)
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
