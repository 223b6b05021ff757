"""Batches and waves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts.cost import BATCH_LIMIT
from codeferry_contracts.request_schema import SCHEMA
from codeferry_lambdas.aws.errors import RunTooLarge
from codeferry_lambdas.fleet.batches import MOST_BATCHES, amount, history_events, schedule
from codeferry_lambdas.planning.limits import sweep_for

fleets = st.integers(1, 10_000)
concurrencies = st.one_of(
    st.integers(1, 999_999).map(str), st.integers(1, 100).map(lambda p: f"{p}%")
)


@given(fleets, concurrencies)
def test_every_instance_once(fleet: int, concurrency: str) -> None:
    """Every instance is in exactly one batch and every batch in exactly one wave, in order."""
    plan = schedule(fleet, concurrency)
    assert sum(plan.sizes) == fleet
    assert [n for wave in plan.waves for n in wave] == list(range(len(plan.sizes)))
    assert all(0 < size <= BATCH_LIMIT for size in plan.sizes)
    assert all(plan.waves)


@given(fleets, concurrencies)
def test_never_more_at_once(fleet: int, concurrency: str) -> None:
    """No wave has more instances at work than asked for, but always at least one."""
    plan = schedule(fleet, concurrency)
    allowed = max(1, amount(concurrency, fleet))
    for wave in plan.waves:
        assert 1 <= sum(min(plan.sizes[n], plan.concurrency) for n in wave) <= allowed


@given(fleets, concurrencies)
def test_batches_stay_few(fleet: int, concurrency: str) -> None:
    """However small the concurrency, 10,000 instances make at most 200 batches."""
    assert len(schedule(fleet, concurrency).sizes) <= MOST_BATCHES


@given(st.integers(1, MOST_BATCHES), concurrencies)
def test_nothing_queues_while_its_url_ages(fleet: int, concurrency: str) -> None:
    """In fleets of up to 200 nothing waits inside a batch: each batch runs all at once."""
    plan = schedule(fleet, concurrency)
    assert max(plan.sizes) <= plan.concurrency


@pytest.mark.parametrize(
    ("fleet", "concurrency", "sizes", "waves", "within"),
    [
        (3, "100%", (3,), ((0,),), 3),
        (120, "100%", (50, 50, 20), ((0, 1, 2),), 50),
        (10, "20%", (2, 2, 2, 2, 2), ((0,), (1,), (2,), (3,), (4,)), 2),
        (3, "1%", (1, 1, 1), ((0,), (1,), (2,)), 1),
        (120, "110", (50, 50, 20), ((0, 1), (2,)), 50),
        (400, "100", (50,) * 8, ((0, 1), (2, 3), (4, 5), (6, 7)), 50),
        (5, "999999", (5,), ((0,),), 5),
    ],
)
def test_examples(
    fleet: int, concurrency: str, sizes: tuple[int, ...], waves: object, within: int
) -> None:
    """Fleets a person can check by hand."""
    plan = schedule(fleet, concurrency)
    assert (plan.sizes, plan.waves, plan.concurrency) == (sizes, waves, within)


def test_default_concurrency_is_one_wave() -> None:
    """The request's default lets the whole fleet run at once."""
    assert (
        "all when absent"
        in SCHEMA["properties"]["options"]["properties"]["max_concurrency"]["description"]
    )
    assert len(schedule(10_000, "100%").waves) == 1


def test_the_largest_fleet_fits() -> None:
    """10,000 instances are looked at often under the default timeout, more rarely for 48
    hours; one after the other for so long they do not fit."""
    assert sweep_for(schedule(10_000, "100%"), 900) == 420
    assert sweep_for(schedule(10_000, "100%"), 172_800) == 14_400
    with pytest.raises(RunTooLarge, match=r"10,000 instances over up to 172,800 s"):
        sweep_for(schedule(10_000, "1"), 172_800)


def test_one_long_run_fits() -> None:
    """Hundreds of instances may work for 48 hours."""
    assert history_events(schedule(500, "100%"), 172_800) < 20_000
