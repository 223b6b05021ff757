"""Agents killed at random, over a network that fails, beside programs that write: nothing is
lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.chaos.drain.agents import Nursery
from tests.chaos.drain.conftest import Bucket
from tests.chaos.drain.writers import KINDS, Writer
from tests.long import sized
from tests.proxy.rules import Action, Cut, Delay, Drop, Reset, Rule, RuleBook, Status, Truncate
from tests.proxy.server import FaultProxy

KILLS = sized(300, 1000)
ROOTS = 3
SEED = 20_261_120

FAULTS = (
    Delay(0.3),
    Reset(),
    Cut(),
    Drop(),
    Truncate(0),
    Status(403, "AccessDenied"),
    Status(404, "NoSuchBucket"),
    Status(503, "SlowDown"),
    Status(400, "ExpiredToken"),
)


class Counted(RuleBook):
    """Also counts the requests about each root, whose keys begin with its number."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[str] = Counter()
        self._more = threading.Condition()

    def note(self, method: str, path: str, target: str) -> Action | None:
        action = super().note(method, path, target)
        with self._more:
            self.requests[path[1:].partition("/")[2][:1]] += 1  # /bucket/root/…
            self._more.notify_all()
        return action

    def wait_for_more(self, root: str, more: int, timeout: float) -> None:
        """Return after so many more requests about a root, or so many seconds."""
        with self._more:
            wanted = self.requests[root] + more
            self._more.wait_for(lambda: self.requests[root] >= wanted, timeout)


class Storm:
    """A proxy whose rules change several times a second."""

    def __init__(self, proxy: FaultProxy, seed: int) -> None:
        self._proxy = proxy
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.hits: Counter[str] = Counter()

    def __enter__(self) -> Storm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._proxy.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._proxy.set(*self._rules())
            self._stop.wait(self._chance.uniform(0.1, 0.5))
            self.hits.update(repr(hit.action) for hit in self._proxy.hits)

    def _rules(self) -> Iterator[Rule]:
        for action in self._chance.sample(FAULTS, 3):
            method = "PUT" if isinstance(action, Cut) else ""
            first, times = self._chance.randint(1, 6), self._chance.randint(1, 4)
            yield Rule(action, method=method, nth=first, times=times)


def writers_in(directory: Path, number: int) -> list[Writer]:
    return [
        kind(directory, f"{number}/{kind.kind.replace(' ', '-')}.{copy}", seed)
        for copy in range(2)
        for seed, kind in enumerate(KINDS, start=100 * number + 10 * copy)
    ]


def kill_often(nursery: Nursery, root: Path, kills: int, book: Counted) -> None:
    """Start an agent and kill it some milliseconds after some request, ``kills`` times."""
    chance = random.Random(str(root.name))
    for _ in range(kills):
        pid = nursery.start(root)
        book.wait_for_more(root.name[-1], chance.randint(0, 20), timeout=0.7)
        time.sleep(chance.uniform(0, 0.15))  # between a request and the next things it does
        assert nursery.kill(pid) == -9, "the agent had ended by itself"


def left_in(directory: Path) -> list[Path]:
    """Every file in the bucket's directory, claims included."""
    return [path for path in directory.rglob("*") if path.is_file()]


class Left(Exception):
    """Files are still there."""


@retry(
    retry=retry_if_exception_type(Left),
    wait=wait_fixed(0.1),
    stop=stop_after_delay(120),
    reraise=True,
)
def until_empty(directories: list[Path]) -> None:
    left = [path for directory in directories for path in left_in(directory)]
    if left:
        raise Left(f"{len(left)} files, {left[:5]}")


@pytest.mark.timeout(1200)
def test_every_completed_byte_arrives(
    tmp_path: Path, bucket: Bucket, proxy: FaultProxy, nursery: Callable[..., Nursery]
) -> None:
    """After hundreds of kills and faults, all that was ever completed is in S3, by content."""
    roots = [tmp_path / f"root{number}" for number in range(ROOTS)]
    writers = [
        writer
        for number, root in enumerate(roots)
        for writer in writers_in(root / bucket.name, number)
    ]
    proxy.book = book = Counted()
    agents = nursery(stability=0.1, interval=0.2)
    for writer in writers:
        writer.start()
    with Storm(proxy, SEED) as storm, ThreadPoolExecutor(ROOTS) as killers:
        each = -(-KILLS // ROOTS)
        going = [killers.submit(kill_often, agents, root, each, book) for root in roots]
        for killer in going:
            killer.result()
    for writer in writers:
        writer.stop()
    last = [agents.start(root) for root in roots]
    until_empty([root / bucket.name for root in roots])
    assert [agents.kill(pid, 15) for pid in last] == [0] * ROOTS
    print(f"{book.requests.total()} requests, of them disturbed: {dict(storm.hits)}")
    history = bucket.history()
    assert [what for writer in writers if (what := writer.lost(history))] == []
    assert len(storm.hits) >= len(FAULTS) - 1, "the storm has hardly hit anything"
