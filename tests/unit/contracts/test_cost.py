"""The cost of a run at list price."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codeferry_contracts.cost import METRICS, PER_METRIC_HOUR, estimate, estimate_run, nat_usd

DEFINITION = Path(__file__).parents[3] / "stacks/workflow/run.asl.json"


def test_the_transitions_are_those_of_the_definition() -> None:
    """A run of one batch enters every state of the good path once: twelve in all."""
    states = json.loads(DEFINITION.read_text())["States"]
    run = ["Plan", "Waves", "Verify", "Cleanup", "Report", "Outcome", "Succeeded"]
    wave = states["Waves"]["ItemProcessor"]["States"]
    batch = wave["Batches"]["ItemProcessor"]["States"]
    good = ["Dispatch", "Sent", "Await15", "Collect"]
    assert set(run) <= set(states)
    assert list(wave) == ["Batches"]
    assert set(good) <= set(batch)
    cost = estimate(batches=1, waves=1, instances=1)
    assert cost["state_transitions"] == len(run) + len(wave) + len(good) == 12


@pytest.mark.parametrize("field", ["state_transitions", "function_calls", "ledger_writes"])
def test_calls_grow_with_batches_and_not_with_instances(field: str) -> None:
    """Fifty instances in one batch call what one instance calls."""
    one = estimate(batches=1, waves=1, instances=1)
    fifty = estimate(batches=1, waves=1, instances=50)
    more = estimate(batches=3, waves=1, instances=150)
    assert one[field] == fifty[field] < more[field]  # type: ignore[literal-required]


def test_each_instance_has_one_record_and_one_download() -> None:
    """What does grow with the instances is one object written and one read for each."""
    one = estimate(batches=1, waves=1, instances=1)
    fifty = estimate(batches=1, waves=1, instances=50)
    assert fifty["s3_writes"] - one["s3_writes"] == 49
    assert fifty["s3_reads"] - one["s3_reads"] == 49


def test_the_price_is_that_of_the_calls() -> None:
    """The largest part of a large fleet's run is named right: writes and transitions."""
    usd = estimate(batches=200, waves=1, instances=10_000)["usd"]
    assert usd == pytest.approx(0.0898, abs=0.002)


def test_metrics_are_most_of_a_small_runs_price_and_are_counted() -> None:
    """Fifteen of 30 cents a month, by the hour: $0.006 beside calls of $0.0005."""
    usd = estimate_run(1, 0)["usd"]
    metrics = METRICS * PER_METRIC_HOUR
    assert metrics == pytest.approx(0.00616, abs=0.0001)
    assert usd - metrics == pytest.approx(0.0005, abs=0.0001)


@pytest.mark.parametrize(
    ("size", "requests"), [(0, 0), (8 << 20, 0), ((8 << 20) + 1, 3), (80 << 20, 11)]
)
def test_the_parts_of_an_upload_are_writes(size: int, requests: int) -> None:
    """Each part, and the end; what is one PUT is among the others already."""
    assert estimate_run(1, size)["s3_writes"] - estimate_run(1, 0)["s3_writes"] == requests


def test_nat_is_dearer_than_all_the_rest() -> None:
    """3 GB to 100 instances; an S3 gateway endpoint would carry them for nothing."""
    assert nat_usd(100, 3_000_000_000) == 13.5


def test_the_metrics_that_are_priced_are_those_that_are_emitted() -> None:
    """By the table of docs/fleet.md, which the tests of metrics hold to the code."""
    page = (DEFINITION.parents[2] / "docs/fleet.md").read_text()
    assert f"at most\n{METRICS} metrics by workflow" in page
