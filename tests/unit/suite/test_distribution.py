"""The suite itself: distributed over workers, and bounded in what it may start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.distribution import TABLE, Distribution, _is_deployment

ROOT = TABLE.parents[1]
GROUP = ("tests/unit/stacks/test_a.py", "tests/unit/stacks/test_b.py")
OTHERS = ("tests/unit/test_c.py", "tests/unit/test_d.py")
TEST = """
import os, pathlib, pytest, subprocess, sys

@pytest.mark.parametrize("number", range(12))
def test_it(number):
    name = os.environ["PYTEST_XDIST_WORKER"]
    with pathlib.Path({log!r}).open("a") as log:
        log.write(name + "\\n")
    {more}
"""


def run(place: Path, more: str = "") -> subprocess.CompletedProcess[str]:
    """A suite of four files on two workers, distributed as this one is."""
    for file in (*GROUP, *OTHERS):
        path = place / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEST.format(log=str(path.with_suffix(".log")), more=more))
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "tests.distribution"]
    return subprocess.run(
        [*command, "--rootdir", str(place), "--import-mode=importlib", str(place)],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def workers(place: Path, *files: str) -> list[str]:
    """Who ran each test of these files."""
    return [w for file in files for w in (place / file).with_suffix(".log").read_text().split()]


def test_files_and_groups_stay_together(tmp_path: Path) -> None:
    """All tests of a group on one worker, those of any other file on one, and both at work."""
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for unit in (GROUP, *((file,) for file in OTHERS)):
        ran = workers(tmp_path, *unit)
        assert len(ran) == 12 * len(unit)
        assert len(set(ran)) == 1, unit
    assert set(workers(tmp_path, *GROUP, *OTHERS)) == {"gw0", "gw1"}


def test_a_suite_that_starts_more_than_it_may_fails(tmp_path: Path) -> None:
    """Though each test of it passes; the file and the two numbers are told."""
    done = run(tmp_path, 'subprocess.run([sys.executable, "-c", ""])')
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "48 passed" in done.stdout
    allowed = Distribution.load().interpreters["any other"]
    for file in (*GROUP, *OTHERS):
        assert f"12 interpreters by {file}, distribution.toml allows {allowed}" in done.stdout


def test_shuffling_spares_what_follows_a_page() -> None:
    """The same seed gives the same order, another another; a file of the table keeps its own."""
    (page,) = Distribution.load().in_order

    def order(file: str, *options: str) -> list[str]:
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", file, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if "::" in line]

    mine = str(Path(__file__).relative_to(ROOT))
    assert order(mine, "--shuffle", "1") == order(mine, "--shuffle", "1")
    assert order(mine) != order(mine, "--shuffle", "1") != order(mine, "--shuffle", "2")
    assert order(page) == order(page, "--shuffle", "1") != []


def test_the_longest_are_first() -> None:
    """A group counts as long as its files together; what has no time comes last, as it came."""
    table = Distribution({"pair": ["x/*"]}, {"x/a": 30, "x/b": 40, "slow": 60, "slower": 65})
    files = ["quick", "slow", "x/a", "quick too", "slower", "x/b"]
    order = table.longest_first(f"{file}::test[{n}]" for file in files for n in "::")
    assert order == ["pair", "slower", "slow", "quick", "quick too"]


@pytest.mark.parametrize(
    ("command", "counts"),
    [
        ("/venv/bin/python -m codeferry_local.supervisor --home x", True),
        ("/venv/bin/ferry demo --fleet", True),
        ("/venv/bin/ferry local up --instances 1", True),
        ("/venv/bin/python /checkout/scripts/cdk.py deploy --app x", True),
        ("scripts/bootstrap.sh --project dev", True),
        ("/venv/bin/ferry push demo /project", False),
        ("/venv/bin/ferry local down", False),
        ("/venv/bin/python /checkout/scripts/cdk.py diff --app x", False),
        ("git", False),
    ],
)
def test_what_counts_as_a_deployment(command: str, counts: bool) -> None:
    """Whatever makes an embedded AWS with the stage in it, and nothing that only uses one."""
    assert _is_deployment(command.split()) is counts


def test_deployments_are_counted_for_the_whole_run() -> None:
    """One more than the table has is too many."""
    table = Distribution({}, {}, {"any other": 1}, deployments=2)
    assert table.excesses(Counter({"": 2, "file": 1})) == []
    (excess,) = table.excesses(Counter({"": 3, "file": 1}))
    assert excess == "3 deployments by all tests, distribution.toml allows 2"


def test_the_table_names_files_that_are_there() -> None:
    """A file that moves takes its row along."""
    table = Distribution.load()
    named = {*table.seconds, *table.interpreters} - {"any other"}
    assert {file for file in named if not (ROOT / file).exists()} == set()
    assert all(list(ROOT.glob(pattern)) for found in table.together.values() for pattern in found)
