"""Roots to drain, and a store whose uploads something may happen during."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.settings import Settings
from tests.unit.agent.drain.directory_store import DirectoryStore
from tests.unit.agent.drain.sink import Sink

BUCKET = "results"


class Tree:
    """A root with one bucket; files in it look as if written a minute ago."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bucket = root / BUCKET
        self.bucket.mkdir(parents=True)

    def write(self, name: str, content: bytes = b"content", *, age: float = 60) -> Path:
        """A finished file ``<root>/<bucket>/<name>``, or below another bucket (``../``)."""
        path = self.bucket / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return aged(path, age)

    def names(self) -> list[str]:
        """What lies in the bucket's directory, the agent's own names included."""
        found = (path for path in self.bucket.rglob("*") if not path.is_dir() or path.is_symlink())
        return sorted(str(path.relative_to(self.bucket)) for path in found)


def aged(path: Path, age: float = 60) -> Path:
    moment = time.time() - age
    os.utime(path, (moment, moment))
    return path


class Hooked(DirectoryStore):
    """A directory store; ``during`` is called in the middle of every put and part."""

    during: Callable[[], object] = staticmethod(lambda: None)
    error: Exception | None = None

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.asked: list[tuple[str, str]] = []

    def put(self, bucket: str, key: str, body: bytes, *, replace: bool) -> bool:
        self.asked.append((bucket, key))
        self.during()
        if self.error is not None:
            raise self.error
        return super().put(bucket, key, body, replace=replace)

    def part(self, *arguments: Any) -> Any:
        self.during()
        return super().part(*arguments)


@pytest.fixture(autouse=True)
def _survive_broken_leases() -> Iterator[None]:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where agents of a test keep their state."""
    place = tmp_path_factory.mktemp("state") / "codeferry-drain"
    monkeypatch.setenv("CODEFERRY_DRAIN_STATE", str(place))
    return place


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


@pytest.fixture
def store(tmp_path: Path) -> Hooked:
    base = tmp_path / "store"
    (base / BUCKET).mkdir(parents=True)
    return Hooked(base)


@pytest.fixture
def drain_of(tree: Tree, store: Hooked) -> Iterator[Callable[..., Drain]]:
    """``drain_of(**settings)``: a drain of the tree's root into the store."""
    made: list[Drain] = []

    def make(**options: Any) -> Drain:
        settings = {"directories": (str(tree.root),), "workers": 4} | options
        made.append(Drain(Settings(**settings), store))
        return made[-1]

    yield make
    for drain in made:
        drain.close()


@pytest.fixture
def drain(drain_of: Callable[..., Drain]) -> Drain:
    return drain_of()


def no_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a filesystem that has none."""
    monkeypatch.setattr("codeferry_agent.drain.files.open_file.Leases.take", lambda *_: None)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        yield server


__all__ = ["BUCKET", "Hooked", "Tree", "aged", "no_leases"]
