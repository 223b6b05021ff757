"""Distribute the tests over workers by file, the long files first, and count what they start.

pytest-xdist's own groups hold nothing together under pytest 9.2: a worker tells the controller of
them by rewriting the ids of tests, which pytest no longer reads (pytest-xdist#1386). Here a file is
the unit, known by every test's id. ``distribution.toml`` says which files share a worker as well,
which files take long, and how many processes tests may start.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TABLE = Path(__file__).with_name("distribution.toml")


@dataclass(frozen=True)
class Distribution:
    """The table: ``together`` is group to patterns of files, ``seconds`` is file to its time."""

    together: Mapping[str, list[str]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def unit_of(self, nodeid: str) -> str:
        """What this test shares its worker with: a group's name or its file."""
        file = nodeid.partition("::")[0]
        for name, patterns in self.together.items():
            if any(fnmatch(file, pattern) for pattern in patterns):
                return name
        return file

    def longest_first(self, nodeids: Iterable[str]) -> list[str]:
        """The units of these tests in the order of starting; what is not in the table last."""
        files = dict.fromkeys(nodeid.partition("::")[0] for nodeid in nodeids)
        seconds: Counter[str] = Counter()
        for file in files:
            seconds[self.unit_of(file)] += self.seconds.get(file, 0)  # type: ignore[assignment]
        return [unit for unit, _ in seconds.most_common()]


def load() -> Distribution:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return Distribution(table["together"], table["seconds"])


class LongestFirst(LoadScopeScheduling):
    """Whole units to whoever is free."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self.distribution = load()
        config.option.loadscopereorder = False  # the order is that of the collection, see below

    def _split_scope(self, nodeid: str) -> str:
        return self.distribution.unit_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongestFirst:
    return LongestFirst(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    distribution = load()
    units = distribution.longest_first(item.nodeid for item in items)
    place = {unit: number for number, unit in enumerate(units)}
    items.sort(key=lambda item: place[distribution.unit_of(item.nodeid)])
