"""Backoff of files, and circuit breakers of buckets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from codeferry_agent.drain.backoff import (
    BUCKET_BACKOFF,
    FILE_BACKOFF,
    Backoff,
    CircuitBreaker,
    CircuitBreakers,
    FileBackoff,
)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_wait_doubles_up_to_its_cap() -> None:
    """Each failure in a row doubles the wait, with up to a quarter off, and it is capped."""
    backoff = Backoff(first=2, most=900)
    for failures, full in [(1, 2), (2, 4), (5, 32), (10, 900), (10_000, 900)]:
        assert 0.75 * full <= backoff.seconds(failures) <= full


def test_a_bucket_is_tried_again_within_a_minute() -> None:
    """However long S3 was away, the wait between two tries leaves time to recover in 60 s."""
    assert BUCKET_BACKOFF.seconds(1_000) <= 30
    assert FILE_BACKOFF.seconds(1_000) <= 900


def test_a_failed_file_waits_alone(clock: Clock) -> None:
    """A file that failed is not ready for a while; others are."""
    backoff = FileBackoff(clock)
    backoff.failed("bad")
    assert (backoff.ready("bad"), backoff.ready("good")) == (False, True)
    clock.now += 2
    assert backoff.ready("bad")


def test_a_file_that_is_gone_is_forgotten(clock: Clock) -> None:
    """What the scans do not meet any more takes no memory and no time."""
    backoff = FileBackoff(clock)
    backoff.failed("gone")
    backoff.failed("there")
    backoff.scanned()
    backoff.ready("there")
    backoff.scanned()
    assert not backoff.ready("there")
    assert backoff.ready("gone")


def test_a_parked_bucket_lets_one_in_to_try(clock: Clock) -> None:
    """After an error that meets every file, one tries when it is time; success opens it."""
    breaker = CircuitBreaker(clock, most=8, wait=0)
    assert breaker.acquire()
    breaker.trip()
    assert (breaker.acquire(), breaker.is_open) == (False, True)
    clock.now += 1
    assert (breaker.acquire(), breaker.acquire()) == (True, False)
    assert breaker.succeeded() == 1
    assert (breaker.acquire(), breaker.acquire(), breaker.due) == (True, True, None)


def test_files_that_failed_together_count_once(clock: Clock) -> None:
    """Eight files that met the same outage make the bucket wait as long as one."""
    breaker = CircuitBreaker(clock, most=8, wait=0)
    assert all(breaker.acquire() for _ in range(8))
    for _ in range(8):
        breaker.trip()
    assert breaker.due is not None
    assert breaker.due <= clock.now + 1


def test_one_denied_file_does_not_park_its_bucket(clock: Clock) -> None:
    """A denial may be about a prefix; only several in a row are about the bucket."""
    breaker = CircuitBreaker(clock, most=8, wait=0)
    for _ in range(5):
        breaker.acquire()
        breaker.denied()
        breaker.acquire()
        breaker.succeeded()
    assert breaker.due is None
    for _ in range(3):
        breaker.acquire()
        breaker.denied()
    assert breaker.is_open


def test_slow_down_halves_the_number_on_their_way(clock: Clock) -> None:
    """SlowDown lowers how many go at a time; every success raises it again."""
    breaker = CircuitBreaker(clock, most=8, wait=0)
    breaker.acquire()
    breaker.throttled()
    clock.now += 1
    breaker.acquire()
    breaker.succeeded()
    assert sum(breaker.acquire() for _ in range(8)) == 4
    for _ in range(4):
        breaker.succeeded()
    for _ in range(30):
        breaker.acquire()
        breaker.succeeded()
    assert sum(breaker.acquire() for _ in range(9)) == 8


def test_buckets_are_independent(clock: Clock) -> None:
    """A bucket that is parked does not hold up another."""
    breakers = CircuitBreakers(clock, most=8)
    breakers.of("bad").acquire()
    breakers.of("bad").trip()
    assert (breakers.of("bad").acquire(), breakers.of("good").acquire()) == (False, True)
    assert breakers.next_due() == breakers.of("bad").due


def test_the_others_wait_for_the_one_that_tries(clock: Clock) -> None:
    """While one file tries a parked bucket the others wait for its verdict, and follow it."""
    breaker = CircuitBreaker(clock, most=8, wait=30)
    breaker.acquire()
    breaker.trip()
    clock.now += 1
    breaker.acquire()
    with ThreadPoolExecutor(3) as threads:
        others = [threads.submit(breaker.acquire) for _ in range(3)]
        breaker.succeeded()
        assert [other.result() for other in others] == [True] * 3
