"""The drain of some roots: what is kept between scans, and one scan as one call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from codeferry_agent.drain.backoff import CircuitBreakers
from codeferry_agent.drain.error_policy import BucketErrors, ErrorPolicy
from codeferry_agent.drain.errors import RootLocked
from codeferry_agent.drain.files.open_file import Leases
from codeferry_agent.drain.files.root import Root, matching
from codeferry_agent.drain.files.scan import Directory
from codeferry_agent.drain.reports import Reports
from codeferry_agent.drain.selection import Selection
from codeferry_agent.drain.settings import Settings
from codeferry_agent.drain.summary import Summary
from codeferry_agent.drain.upload import Store, Uploader
from codeferry_agent.drain.workers import WorkerPool, sync

_log = logging.getLogger(__name__)


class Drain:
    """Drains the roots that the settings name or match, those that appear later included.

    ``visit`` is called with every directory of every scan. Ends by ``close``, which unlocks
    the roots.
    """

    def __init__(
        self, settings: Settings, store: Store, visit: Callable[[Directory], None] = lambda _: None
    ) -> None:
        """Lock the roots there are. Raises RootLocked naming the agent that has one that the
        settings name; one that they only match must not stop the others."""
        self._settings = settings
        self._clock = time.monotonic
        self.bucket_errors = BucketErrors()
        self.roots: dict[str, Root] = {}
        self._reports = Reports(self._clock)
        self._breakers = CircuitBreakers(self._clock, settings.workers)
        self._selection = Selection(
            stability=settings.stability,
            bucket_map=settings.bucket_map,
            breakers=self._breakers,
            reports=self._reports,
            visit=visit,
        )
        self._pool = WorkerPool(
            Uploader(store, settings.sizes),
            Leases(),
            ErrorPolicy(self._breakers, self._reports, self.bucket_errors),
            settings.workers,
        )
        self._open_roots(strict=True)

    def sync(self, stop: Callable[[], bool] = lambda: False) -> Summary:
        """One scan over all roots; ``stop`` is asked before each file."""
        unusable = self._open_roots(strict=False)
        summary = sync(self.roots.values(), self._selection, self._pool, stop)
        summary.unseen += unusable
        self._reports.scanned()
        return summary

    def next_due(self, summary: Summary) -> float | None:
        """When, on the monotonic clock, another scan can do what this one could not.

        None when only new files can.
        """
        now = self._clock()
        due = [self._breakers.next_due()]
        for root in self.roots.values():
            due += [root.backoff.next_due(), root.stability.next_due()]
            due += [now] if root.claims_left else []
        if summary.next_look is not None:
            due.append(now + max(0.0, summary.next_look - time.time()))
        if summary.deferred:
            due.append(self._breakers.next_due() or now)
        return min((when for when in due if when is not None), default=None)

    @property
    def observing(self) -> bool:
        """Whether some file only has to be seen a second time."""
        return any(root.stability.next_due() is not None for root in self.roots.values())

    def close(self) -> None:
        self._pool.uploader.close()
        self._pool.leases.close()
        for root in self.roots.values():
            root.close()

    def _open_roots(self, *, strict: bool) -> int:
        """Open what has appeared, and close what is gone or was replaced; how many there are
        that cannot be used."""
        for path, root in list(self.roots.items()):
            if not root.is_current():
                root.close()
                del self.roots[path]
        wanted = matching(self._settings.directories)
        named = {directory.rstrip("/") or "/" for directory in self._settings.directories}
        for path in wanted:
            if path not in self.roots:
                self._open_root(path, strict and path in named)
        return sum(path not in self.roots for path in wanted)

    def _open_root(self, path: str, strict: bool) -> None:
        try:
            root = Root(path, clock=self._clock, stability=self._settings.stability)
        except RootLocked as error:
            if strict:
                raise
            self._reports.failed(path, error.code, str(error))
        except OSError as error:
            self._reports.failed(path, "root_unusable", f"{path} cannot be used: {error.strerror}.")
        else:
            self._reports.recovered(path, f"{path} can be used")
            self.roots[path] = root
