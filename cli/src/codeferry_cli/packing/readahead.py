"""Run an iterator a few items ahead in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], depth: int = 3) -> Generator[Item, None, None]:
    """The same items in the same order, up to ``depth`` of them produced beforehand.

    An error of the iterator is raised where its item would have come. Closing the
    generator waits for the item being produced and leaves no thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        pending: deque[Future[Item | None]] = deque()
        try:
            for _ in range(depth):
                pending.append(thread.submit(next, items, None))
            while (item := pending.popleft().result()) is not None:
                pending.append(thread.submit(next, items, None))
                yield item
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
