"""Metrics: how runs ended, how long each phase took, the bytes of archives."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from codeferry_contracts.report import Outcome
from codeferry_lambdas.aws.observability import entry, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.announce import count_run, slowest
from codeferry_lambdas.runs.record import Run
from codeferry_lambdas.runs.report import Known, build_report
from tests.unit.lambdas.factories import KEY, event, instances, outcome, plan

ONE, TWO, THREE = instances(3)
FRESH = {"lock": 1.0, "download": 2.0, "extract": 1.0, "activate": 0.5, "execute": 9.0}
UNCHANGED = {"lock": 7.0, "execute": 8.0, "bake": 1.0, "health": 0.25}
Emitted = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def emitted(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Emitted:
    """``emitted()``: the lines in the log that CloudWatch makes metrics of."""

    def lines() -> list[dict[str, Any]]:
        found = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
        return [json.loads(line) for line in found]

    return lines


def by_phase(lines: list[dict[str, Any]]) -> dict[str, float]:
    return {line["phase"]: line["PhaseSeconds"][0] for line in lines if "phase" in line}


def timed(instance: Any, seconds: Any, **changes: Any) -> Outcome:
    return outcome(instance, seconds=seconds, **changes)


def known(**changes: Any) -> Known:
    values: dict[str, Any] = {
        "run": Run("run-1", "2026-11-12T00:00:00.000Z", "script"),
        "stage": "dev",
        "request": {"archive": {"key": KEY}, "target": "web"},
        "finished_at": "2026-11-12T00:01:00.000+00:00",
        "state": {"waves": [[0]], "batches": {"finished": True}},
        "plan": plan(3),
        "outcomes": [timed(ONE, FRESH), timed(TWO, UNCHANGED), timed(THREE, FRESH)],
    }
    return Known(**(values | changes))


def test_how_a_run_ended_is_counted(emitted: Emitted) -> None:
    """By stage and workflow: a success or a failure, its instances and its seconds."""
    count_run(build_report(known()))
    run, *_ = emitted()
    assert (run["stage"], run["workflow"], run["service"]) == ("dev", "script", "workflow")
    assert (run["RunsSucceeded"], run["RunsFailed"]) == ([1.0], [0.0])
    assert (run["InstancesSucceeded"], run["InstancesFailed"]) == ([3.0], [0.0])
    assert run["DurationSeconds"] == [60.0]


def test_bytes_are_of_the_archive_and_of_the_copies_that_arrived(emitted: Emitted) -> None:
    """An instance that has the release already, or that nothing reached, got none."""
    count_run(build_report(known(outcomes=[timed(ONE, FRESH), timed(TWO, UNCHANGED)])))
    run, *_ = emitted()
    assert (run["ArchiveBytes"], run["DeliveredBytes"]) == ([1000.0], [1000.0])


def test_a_phase_lasts_as_long_as_its_slowest_instance(emitted: Emitted) -> None:
    """The agent's steps are added up by instance to the phases that people know."""
    count_run(build_report(known()))
    lines = emitted()
    assert by_phase(lines) == {"apply": 7.0, "execute": 9.0, "health": 1.25}
    for line in lines[1:]:
        assert (line["stage"], line["workflow"]) == ("dev", "script")


def test_a_failed_run_has_its_times_and_bytes_too(emitted: Emitted) -> None:
    """What it has cost counts."""
    broken = timed(ONE, FRESH, status="failed", error={"code": "x", "message": "x", "hint": ""})
    count_run(build_report(known(plan=plan(1), outcomes=[broken])))
    lines = emitted()
    assert (lines[0]["RunsFailed"], lines[0]["DeliveredBytes"]) == ([1.0], [1000.0])
    assert by_phase(lines) == {"apply": 4.5, "execute": 9.0}


def test_a_run_without_a_plan_is_counted(emitted: Emitted) -> None:
    """There was no archive and no instance: nothing is said of them."""
    count_run(build_report(known(plan=None, outcomes=())))
    (run,) = emitted()
    assert run["RunsFailed"] == [1.0]
    assert "ArchiveBytes" not in run


def test_instances_cannot_make_metrics() -> None:
    """What an instance times under a name of its own, or with what is no time, is left out."""
    odd = {"mine": 3.0, "lock": float("nan"), "download": -1.0, "execute": float("inf")}
    assert list(slowest([timed(ONE, odd)])) == []


@pytest.mark.parametrize("name", ["plan", "dispatch", "verify", "cleanup", "report"])
def test_every_function_that_is_a_phase_is_timed(name: str, run: Run, emitted: Emitted) -> None:
    """Under its own name, by stage and workflow; also one that fails, as most do here."""
    handler = importlib.import_module(f"codeferry_lambdas.handlers.{name}").handler
    with contextlib.suppress(Exception):
        handler(event(run, request={}, document="", batch=0, state={}), None)
    (line,) = [line for line in emitted() if "phase" in line]
    assert (line["phase"], line["stage"], line["workflow"]) == (name, "dev", "sync")
    assert line["PhaseSeconds"][0] > 0


def test_timing_changes_neither_answer_nor_error(run: Run, settings: Settings) -> None:
    """The workflow sees what the function itself returned or raised."""

    @entry
    @phase("plan")
    def handler(event: Any) -> int:
        return 1 // event["divisor"]

    assert handler(event(run, divisor=1), None) == 1
    with pytest.raises(ZeroDivisionError):
        handler(event(run, divisor=0), None)
