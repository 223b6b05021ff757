"""Connections kept open between requests, and the ones in use, which can be cut off."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from codeferry_transfer.s3.address import Origin
from codeferry_transfer.s3.wire import Connection

if TYPE_CHECKING:
    import ssl


class Pool:
    """Safe to use from many threads. The connection used last is taken first: it is warm."""

    def __init__(self, authorities: Callable[[], str | None]) -> None:
        self._authorities = authorities
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[Connection]] = defaultdict(list)
        self._busy: set[Connection] = set()

    @contextmanager
    def connection(self, origin: Origin) -> Iterator[Connection]:
        """One to ``origin``; kept afterwards unless it broke or is spent. Raises Broken."""
        with self._lock:
            idle = self._idle[origin]
            connection = idle.pop() if idle else None
        if connection is None:
            connection = Connection.open(origin, lambda: self._tls)
        self._busy.add(connection)
        try:
            yield connection
        finally:
            self._busy.discard(connection)
            if connection.reusable:
                connection.used = True
                with self._lock:
                    idle.append(connection)
            else:
                connection.close()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made for the first server that wants it: reading all authorities takes a while."""
        import ssl

        return ssl.create_default_context(cafile=self._authorities())

    def cut(self) -> None:
        """End what is going on: every thread that waits on a connection gets Broken."""
        for connection in tuple(self._busy):
            connection.shut()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            for idle in self._idle.values():
                while idle:
                    idle.pop().close()
