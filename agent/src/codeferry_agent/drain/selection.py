"""Select the files of a root that may try to leave now, without opening any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from codeferry_agent.drain.backoff import CircuitBreakers
from codeferry_agent.drain.errors import DirectoryUnreadable, NameImpossible
from codeferry_agent.drain.files.root import Root
from codeferry_agent.drain.files.safe_delete import original_place, restore
from codeferry_agent.drain.files.scan import (
    Directory,
    Found,
    Left,
    Listener,
    OnError,
    Place,
    Why,
    bucket_of,
    files,
    key_of,
    shown,
)
from codeferry_agent.drain.reports import Reports
from codeferry_agent.drain.summary import Outcome, Summary

# A clock that another machine sets, or a filesystem that rounds, is not "in the future" yet.
TOLERANCE_SECONDS = 1.0


class Candidate(NamedTuple):
    """A file that may try to leave, and where to."""

    root: Root
    place: Place
    bucket: str
    key: str
    size: int
    modified: float

    @property
    def from_future(self) -> bool:
        """Whether its time says nothing about its age."""
        return self.modified > time.time() + TOLERANCE_SECONDS


class Selection:
    """The candidates of the roots; everything else is counted, and reported if it is wrong."""

    def __init__(
        self,
        *,
        stability: float,
        bucket_map: Mapping[str, str],
        breakers: CircuitBreakers,
        reports: Reports,
        visit: Callable[[Directory], None] = lambda _: None,
    ) -> None:
        self._stability = stability
        self._map = bucket_map
        self._breakers = breakers
        self._reports = reports
        self._visit = visit
        self._buckets: dict[str, str | NameImpossible] = {}

    def left_over(self, root: Root, summary: Summary) -> Iterator[Candidate]:
        """Claims a kill has left behind and that could not just get their names back."""
        # What cannot be looked at is counted by ``ready``, which comes by all of it again.
        for claim in restore(root.top, self._on_error(root, Summary())):
            original = original_place(claim)
            status = claim.status()
            if original is not None and status is not None:
                found = Found(claim, status.st_size, status.st_mtime)
                candidate = self._named(root, found, original.path)
                if isinstance(candidate, Candidate):
                    yield candidate
                else:
                    self._fail(root, found, candidate, summary)

    def ready(self, root: Root, summary: Summary) -> Iterator[Candidate]:
        """The files that may leave now."""
        listener = Listener(self._on_error(root, summary), self._visit, self._left(root, summary))
        for found in files(root.top, listener):
            path = found.place.path
            if self._too_young(found.modified, summary):
                summary.add(Outcome.WAITING, found.size, found.modified)
                continue
            if not root.backoff.ready(path):
                summary.add(Outcome.FAILED, found.size, found.modified)
                continue
            candidate = self._named(root, found, path)
            if isinstance(candidate, NameImpossible):
                self._fail(root, found, candidate, summary)
            elif self._breakers.of(candidate.bucket).is_open:
                summary.add(Outcome.FAILED, found.size, found.modified)
            else:
                yield candidate

    def _too_young(self, modified: float, summary: Summary) -> bool:
        now = time.time()
        old_enough = modified + self._stability
        if now >= old_enough or modified > now + TOLERANCE_SECONDS:
            return False
        summary.look_again(old_enough)
        return True

    def _named(self, root: Root, found: Found, path: str) -> Candidate | NameImpossible:
        bucket = self._bucket(path.partition("/")[0])
        if isinstance(bucket, NameImpossible):
            return bucket
        try:
            key = key_of(path)
        except NameImpossible as error:
            return error
        return Candidate(root, found.place, bucket, key, found.size, found.modified)

    def _bucket(self, directory: str) -> str | NameImpossible:
        known = self._buckets.get(directory)
        if known is None:
            try:
                known = bucket_of(directory, self._map)
            except NameImpossible as error:
                known = error
            else:
                self._say_renamed(directory, known)
            self._buckets[directory] = known
        return known

    def _say_renamed(self, directory: str, bucket: str) -> None:
        if bucket != directory:
            self._reports.said(f"The directory {shown(directory)} goes to the bucket {bucket}.")

    def _fail(self, root: Root, found: Found, error: NameImpossible, summary: Summary) -> None:
        """Report it; without waiting, because a name is judged anew at no cost."""
        summary.add(Outcome.FAILED, found.size, found.modified)
        path = found.place.path
        bad_bucket = isinstance(self._bucket(path.partition("/")[0]), NameImpossible)
        subject = path.partition("/")[0] if bad_bucket else path
        self._reports.failed(root.shown(subject), error.code, str(error))

    def _on_error(self, root: Root, summary: Summary) -> OnError:
        def report(path: str, error: OSError) -> None:
            summary.unseen += 1
            where = root.shown(path)
            message = f"{shown(where)} cannot be read: {error.strerror}."
            self._reports.failed(where, DirectoryUnreadable.code, message)

        return report

    def _left(self, root: Root, summary: Summary) -> Left:
        def report(path: str, why: Why) -> None:
            summary.left += 1
            if why is not Why.HIDDEN:  # what is hidden is meant to be, and often for a moment only
                where = root.shown(path)
                self._reports.left(where, f"{shown(where)} is left alone: it is {why.value}.")

        return report
