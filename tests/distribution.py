"""Distribute the tests over workers by file, the long files first, and count what they start.

pytest-xdist's own groups hold nothing together under pytest 9.2: a worker tells the controller of
them by rewriting the ids of tests, which pytest no longer reads (pytest-xdist#1386). Here a file is
the unit, known by every test's id. ``distribution.toml`` says which files share a worker as well,
which files take long, and how many processes the tests may start.
"""

from __future__ import annotations

import os
import random
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TABLE = Path(__file__).with_name("distribution.toml")


@dataclass(frozen=True)
class Distribution:
    """The table: group to patterns of files, file to seconds, file to interpreters it may start,
    files whose tests follow one another whatever ``--shuffle`` says."""

    together: Mapping[str, list[str]] = field(default_factory=dict)
    seconds: Mapping[str, int] = field(default_factory=dict)
    interpreters: Mapping[str, int] = field(default_factory=dict)
    deployments: int = 0
    in_order: Sequence[str] = ()

    @classmethod
    def load(cls) -> Distribution:
        return cls(**tomllib.loads(TABLE.read_text(encoding="utf-8")))

    def unit_of(self, nodeid: str) -> str:
        """What this test shares its worker with: a group's name or its file."""
        file = _file(nodeid)
        for name, patterns in self.together.items():
            if any(fnmatch(file, pattern) for pattern in patterns):
                return name
        return file

    def longest_first(self, nodeids: Iterable[str]) -> list[str]:
        """The units of these tests in the order of starting; what is not in the table last."""
        seconds: Counter[str] = Counter()
        for file in dict.fromkeys(map(_file, nodeids)):
            seconds[self.unit_of(file)] += self.seconds.get(file, 0)
        return [unit for unit, _ in seconds.most_common()]

    def excesses(self, started: Counter[str]) -> list[str]:
        """What was started more often than the table allows, in words."""
        found = []
        for file, number in sorted(started.items()):
            default = self.interpreters["any other"]
            allowed = self.interpreters.get(file, default) if file else self.deployments
            what = f"interpreters by {file}" if file else "deployments by all tests"
            if number > allowed:
                found.append(f"{number} {what}, {TABLE.name} allows {allowed}")
        return found


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


# --- who runs what -------------------------------------------------------------------------


class LongestFirst(LoadScopeScheduling):
    """Whole units to whoever is free, in the order of the collection."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self._distribution = Distribution.load()
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return self._distribution.unit_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongestFirst:
    return LongestFirst(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle",
        type=int,
        metavar="SEED",
        help="each file's tests in another order, which is SEED's",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    distribution, seed = Distribution.load(), config.getoption("--shuffle")
    if seed is not None:
        chosen, in_order = random.Random(seed), distribution.in_order
        items.sort(key=lambda i: (f := _file(i.nodeid), 0 if f in in_order else chosen.random()))
    for item in items:
        if item.nodeid.startswith("tests/unit/") and not item.get_closest_marker("slow"):
            item.add_marker("fast")
    units = distribution.longest_first(item.nodeid for item in items)
    place = {unit: number for number, unit in enumerate(units)}
    items.sort(key=lambda item: place[distribution.unit_of(item.nodeid)])


# --- what they start -----------------------------------------------------------------------


class Started:
    """Interpreters by file, and under "" the deployments, that this process has started.

    An embedded AWS that a command or a shell starts in turn is counted with that command.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.file = ""
        sys.addaudithook(self._watch)

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and self.file:
            command = _words(arguments[1])
            self.counts[self.file] += _is_interpreter(command)
            self.counts[""] += _is_deployment(command)


def _words(command: Any) -> Sequence[str]:
    return [os.fsdecode(c) for c in ([command] if isinstance(command, str | bytes) else command)]


def _is_interpreter(command: Sequence[str]) -> bool:
    return Path(command[0]).name.startswith(("python", "ferry", "codeferry-agent"))


def _is_deployment(command: Sequence[str]) -> bool:
    """The embedded AWS, `ferry demo`, `ferry local up`, `cdk deploy`, the bootstrap."""
    names = [Path(word).name for word in command[:4]]
    if names[0] == "ferry":
        return names[1:2] == ["demo"] or names[1:3] == ["local", "up"]
    cdk = names[1:3] == ["cdk.py", "deploy"]
    return cdk or bool({"codeferry_local.supervisor", "bootstrap.sh"} & set(names))


_started = Started()
_excesses: list[str] = []
_of_all: Counter[str] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _started.file = _file(item.nodeid)
    try:
        return (yield)
    finally:
        _started.file = ""


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _of_all.update(getattr(node, "workeroutput", {}).get("started", {}))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["started"] = dict(_started.counts)
        return
    _excesses[:] = Distribution.load().excesses(_of_all + _started.counts)
    if _excesses and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for text in _excesses:
        terminalreporter.write_line(f"FAILED: {text}", red=True)
    if terminalreporter.verbosity > 0:
        for file, number in (_of_all + _started.counts).most_common():
            terminalreporter.write_line(f"{number:5} {file or 'deployments'}")
