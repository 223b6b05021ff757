"""What a run costs at list price."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codeferry_lambdas.cost import estimate

DEFINITION = Path(__file__).parents[3] / "stacks" / "definitions" / "run.asl.json"


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
    assert usd == pytest.approx(0.0816, abs=0.002)
