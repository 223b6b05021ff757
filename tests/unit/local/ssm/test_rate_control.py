from __future__ import annotations

import threading
from pathlib import Path

import pytest

from codeferry_local.ssm.commands import Detail, absolute, rolled_up
from codeferry_local.ssm.instances import Executor, InvocationContext, null_executor
from tests.unit.local.ssm.conftest import Bench, until

D = Detail


@pytest.mark.parametrize(
    ("counts", "max_errors", "expected"),
    [
        ({}, 0, D.NO_INSTANCES_IN_TAG),
        ({D.SUCCESS: 3}, 0, D.SUCCESS),
        ({D.SUCCESS: 2, D.FAILED: 1}, 0, D.FAILED),
        ({D.SUCCESS: 2, D.FAILED: 1}, 1, D.FAILED),
        ({D.SUCCESS: 2, D.FAILED: 1}, 2, D.INCOMPLETE),
        ({D.SUCCESS: 2, D.EXECUTION_TIMED_OUT: 1}, 0, D.EXECUTION_TIMED_OUT),
        ({D.FAILED: 1, D.EXECUTION_TIMED_OUT: 1}, 2, D.FAILED),
        ({D.SUCCESS: 2, D.DELIVERY_TIMED_OUT: 1}, 0, D.DELIVERY_TIMED_OUT),
        ({D.SUCCESS: 2, D.DELIVERY_TIMED_OUT: 1}, 2, D.INCOMPLETE),
        ({D.FAILED: 1, D.DELIVERY_TIMED_OUT: 1}, 0, D.FAILED),
        ({D.SUCCESS: 1, D.UNDELIVERABLE: 4}, 0, D.SUCCESS),
        ({D.UNDELIVERABLE: 5}, 0, D.FAILED),
        ({D.SUCCESS: 1, D.INVALID_PLATFORM: 4}, 0, D.SUCCESS),
        ({D.INVALID_PLATFORM: 2, D.UNDELIVERABLE: 1}, 0, D.FAILED),
        ({D.FAILED: 2, D.TERMINATED: 3}, 1, D.FAILED),
        ({D.SUCCESS: 1, D.CANCELLED: 1}, 0, D.INCOMPLETE),
    ],
)
def test_command_status_follows_from_its_invocations(
    counts: dict[Detail, int], max_errors: int, expected: Detail
) -> None:
    """The roll-up is the one of "Understanding command statuses"."""
    assert rolled_up(counts, max_errors=max_errors, cancelled=False) is expected


def test_cancelled_command_is_cancelled() -> None:
    """One cancelled invocation of a cancelled command makes it Cancelled, none does not."""
    counts = {D.SUCCESS: 1, D.CANCELLED: 1}
    assert rolled_up(counts, max_errors=0, cancelled=True) is D.CANCELLED
    assert rolled_up({D.SUCCESS: 2}, max_errors=0, cancelled=True) is D.SUCCESS


@pytest.mark.parametrize(
    ("limit", "total", "expected"), [("7", 50, 7), ("10%", 50, 5), ("10%", 3, 1), ("100%", 3, 3)]
)
def test_limits_are_numbers_or_percentages(limit: str, total: int, expected: int) -> None:
    """MaxConcurrency is a number or a share of the targets, at least one."""
    assert absolute(limit, total, at_least=1) == expected


def fleet(bench: Bench, count: int, executor: Executor) -> list[str]:
    """Register instances that cost no process."""
    ids = [f"i-{number:08x}" for number in range(count)]
    for instance_id in ids:
        bench.server.add_instance(instance_id, Path("/nowhere"), executor=executor)
    return ids


class Gauge:
    """An executor's answer that measures how many run at once."""

    def __init__(self, expected: int) -> None:
        self.now = self.peak = 0
        self._lock = threading.Lock()
        self._full = threading.Barrier(expected)

    def __call__(self, _: InvocationContext) -> tuple[int, str, str]:
        with self._lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
        self._full.wait(timeout=10)  # breaks when fewer than expected run together
        with self._lock:
            self.now -= 1
        return 0, "", ""


@pytest.mark.parametrize("limit", ["3", "25%"])
def test_max_concurrency_bounds_what_runs_together(bench: Bench, limit: str) -> None:
    """Exactly MaxConcurrency invocations run at a time, as number or as percentage."""
    bench.document("true")
    gauge = Gauge(3)
    ids = fleet(bench, 12, null_executor(gauge))
    command = bench.ended(bench.send(*ids, MaxConcurrency=limit))
    assert (command["Status"], command["CompletedCount"], gauge.peak) == ("Success", 12, 3)


def failing_first(count: int) -> Executor:
    """Fails on the instances numbered below ``count``."""
    return null_executor(lambda c: (int(int(c.instance.instance_id[2:], 16) < count), "", ""))


def test_no_invocation_starts_after_max_errors(bench: Bench) -> None:
    """One failure more than MaxErrors ends the others as Terminated and the command as Failed."""
    bench.document("true")
    ids = fleet(bench, 10, failing_first(9))
    command_id = bench.send(*ids, MaxConcurrency="1", MaxErrors="2")
    command = bench.ended(command_id)
    details = [bench.invocations(command_id)[i]["StatusDetails"] for i in ids]
    assert details == ["Failed"] * 3 + ["Terminated"] * 7
    assert (command["StatusDetails"], command["ErrorCount"]) == ("Failed", 3)
    assert command["CompletedCount"] == command["TargetCount"] == 10


def test_errors_up_to_max_errors_are_borne(bench: Bench) -> None:
    """With fewer failures than MaxErrors every instance runs; the command is Incomplete."""
    bench.document("true")
    ids = fleet(bench, 10, failing_first(2))
    command = bench.ended(bench.send(*ids, MaxConcurrency="1", MaxErrors="30%"))
    assert (command["Status"], command["StatusDetails"]) == ("Failed", "Incomplete")
    assert (command["CompletedCount"], command["ErrorCount"]) == (10, 2)


def test_default_bears_no_error(bench: Bench) -> None:
    """Without MaxErrors the first failure stops what has not started."""
    bench.document("true")
    ids = fleet(bench, 4, failing_first(4))
    command_id = bench.send(*ids, MaxConcurrency="1")
    bench.ended(command_id)
    details = [i["StatusDetails"] for i in bench.invocations(command_id).values()]
    assert sorted(details) == ["Failed", "Terminated", "Terminated", "Terminated"]


def test_executor_that_breaks_fails_its_invocation(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in an executor is a failed invocation and a traceback in the log."""

    def broken(_: InvocationContext) -> tuple[int, str, str]:
        raise ZeroDivisionError

    bench.document("true")
    ids = fleet(bench, 1, null_executor(broken))
    assert bench.ended(bench.send(*ids))["Status"] == "Failed"
    assert "ZeroDivisionError" in caplog.text


def test_ten_thousand_instances(bench: Bench) -> None:
    """A fleet of 10,000 in batches of 50 completes, with a thread pool and no process."""
    bench.document("true")
    line = '{"ok": true}'
    ids = fleet(bench, 10_000, null_executor(lambda _: (0, line, "")))
    before = threading.active_count()
    commands = [bench.send(*ids[at : at + 50], MaxErrors="100%") for at in range(0, 10_000, 50)]
    assert threading.active_count() <= before + 64
    for command_id in commands:
        command = bench.ended(command_id)
        assert (command["Status"], command["CompletedCount"]) == ("Success", 50)
    outputs = bench.invocations(commands[-1]).values()
    assert {i["CommandPlugins"][0]["Output"] for i in outputs} == {line}


def test_one_command_for_a_whole_fleet_by_tag(bench: Bench) -> None:
    """A command by tag to 2,000 instances, all of them gone, ends without running deep."""
    bench.document("true")
    bench.server.faults.set(offline=[f"i-{number:08x}" for number in range(2_000)])
    for number in range(2_000):
        bench.server.add_instance(
            f"i-{number:08x}", Path("/nowhere"), executor="null", tags={"fleet": "all"}
        )
    command_id = bench.send(
        Targets=[{"Key": "tag:fleet", "Values": ["all"]}], MaxConcurrency="1", TimeoutSeconds=2000
    )
    until(lambda: bench.command(command_id)["Status"] == "InProgress")
    for instance in bench.server.fleet.all():
        bench.server.fleet.remove(instance.instance_id)
    command = bench.ended(command_id)
    assert (command["Status"], command["CompletedCount"]) == ("Failed", 2_000)
