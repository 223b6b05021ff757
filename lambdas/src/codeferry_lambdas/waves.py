"""How a fleet is cut into batches, and which batches may run at the same time.

A batch is one SendCommand. Its URL lives 15 minutes and is signed when the batch
starts, so what may not run yet is a later batch, never the queue of a running one: a
small concurrency gives small batches, and a URL cannot expire before its instance's
turn. Only when that would make too many batches does SSM queue within a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

BATCH_LIMIT = 50  # instance ids in one SendCommand
MOST_BATCHES = 200  # beyond which batches grow rather than multiply
DELIVERY_SECONDS = 600
SWEEP_SECONDS = 421  # AwaitLong's timeout and its retry interval

# History events of a run, from the definition: tests/workflow holds the two together.
RUN_EVENTS = 30
WAVE_EVENTS = 6
BATCH_EVENTS = 28
SWEEP_EVENTS = 4
EVENT_LIMIT = 20_000  # of Step Functions' 25,000; the rest is for retries


@dataclass(frozen=True)
class Schedule:
    """``sizes`` of the batches in order; ``waves`` of batch numbers, one after the other;
    ``concurrency`` is what SSM may run at a time within one batch."""

    sizes: tuple[int, ...]
    waves: tuple[tuple[int, ...], ...]
    concurrency: int


def schedule(fleet: int, max_concurrency: str) -> Schedule:
    """The batches of ``fleet`` (> 0) instances, never more than ``max_concurrency`` (a
    number or N%) of them at work at a time, but always at least one."""
    at_once = min(fleet, max(1, amount(max_concurrency, fleet)))
    size = min(BATCH_LIMIT, max(at_once, ceil(fleet / MOST_BATCHES)))
    batches = ceil(fleet / size)
    together = batches if at_once == fleet else max(1, at_once // size)
    numbers = tuple(range(batches))
    return Schedule(
        sizes=tuple(min(size, fleet - n * size) for n in numbers),
        waves=tuple(numbers[start : start + together] for start in range(0, batches, together)),
        concurrency=min(size, at_once),
    )


def amount(text: str, fleet: int) -> int:
    """How many of ``fleet`` a number or percentage is, rounded down."""
    if text.endswith("%"):
        return fleet * int(text[:-1]) // 100
    return int(text)


def history_events(plan: Schedule, timeout_seconds: int) -> int:
    """The most history events the run can leave when nothing is retried."""
    rounds = ceil(max(plan.sizes) / plan.concurrency)
    sweeps = ceil((DELIVERY_SECONDS + timeout_seconds * rounds) / SWEEP_SECONDS)
    each = BATCH_EVENTS + SWEEP_EVENTS * sweeps
    return RUN_EVENTS + WAVE_EVENTS * len(plan.waves) + each * len(plan.sizes)
