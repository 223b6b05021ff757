"""The batches a fleet is cut into, and which of them may run at the same time.

A batch is one SendCommand. Its URLs live for minutes and are signed when the batch
starts, so what may not run yet is a later batch, never the queue of a running one: a
small concurrency gives small batches, and a URL cannot expire before its instance's
turn. Only when that would make too many batches does SSM queue within a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil

from codeferry_contracts.cost import BATCH_LIMIT

MOST_BATCHES = 200  # beyond which batches grow rather than multiply
DELIVERY_SECONDS = 600
# How often a long wait looks whether the command has ended although no event said so: the
# definition has a state for each. A fleet that may wait for days gets the longer ones.
SWEEPS = (420, 3_600, 14_400)
SWEEP_PAUSE = 1  # seconds, the states' retry interval

# History events of a run, from the definition: tests/workflow holds the two together.
RUN_EVENTS = 30
WAVE_EVENTS = 6
BATCH_EVENTS = 30
SWEEP_EVENTS = 4
EVENT_LIMIT = 20_000  # of Step Functions' 25,000; the rest is for retries


@dataclass(frozen=True)
class Schedule:
    """``sizes`` of the batches in order; ``waves`` of batch numbers, one after the other;
    ``concurrency`` is what SSM may run at a time within one batch; ``stages`` has the batches
    of each wave of a roll-out, which may be several of ``waves``."""

    sizes: tuple[int, ...]
    waves: tuple[tuple[int, ...], ...]
    concurrency: int
    stages: tuple[tuple[int, ...], ...] = ()


def schedule(fleet: int, max_concurrency: str, stages: Sequence[str] = ("100%",)) -> Schedule:
    """The batches of ``fleet`` (> 0) instances, never more than ``max_concurrency`` (a
    number or N%) of them at work at a time, but always at least one.

    The fleet is first cut where ``stages`` says: each is how many instances have their turn by
    its end, a number or N% (rounded up); the last one is everybody.
    """
    at_once = min(fleet, max(1, amount(max_concurrency, fleet)))
    size = min(BATCH_LIMIT, max(at_once, ceil(fleet / MOST_BATCHES)))
    sizes: list[int] = []
    waves: list[tuple[int, ...]] = []
    cut: list[tuple[int, ...]] = []
    for stage in _stage_sizes(fleet, stages):
        batches = ceil(stage / size)
        together = batches if at_once == fleet else max(1, at_once // size)
        numbers = tuple(range(len(sizes), len(sizes) + batches))
        sizes += [min(size, stage - n * size) for n in range(batches)]
        waves += [numbers[start : start + together] for start in range(0, batches, together)]
        cut.append(numbers)
    return Schedule(tuple(sizes), tuple(waves), min(size, at_once), tuple(cut))


def _stage_sizes(fleet: int, stages: Sequence[str]) -> list[int]:
    """The number of instances each stage adds; those that add none are left out."""
    ends = [min(fleet, _rounded_up(stage, fleet)) for stage in stages] + [fleet]
    highest = list(accumulate(ends, max))
    return [end - start for start, end in pairwise([0, *highest]) if end > start]


def _rounded_up(text: str, fleet: int) -> int:
    return ceil(fleet * int(text[:-1]) / 100) if text.endswith("%") else int(text)


def amount(text: str, fleet: int) -> int:
    """A number or percentage as a number of ``fleet``, rounded down."""
    if text.endswith("%"):
        return fleet * int(text[:-1]) // 100
    return int(text)


def longest_seconds(plan: Schedule, timeout_seconds: int) -> int:
    """The seconds the run may take until its last batch has ended."""
    rounds = ceil(max(plan.sizes) / plan.concurrency)
    return len(plan.waves) * (DELIVERY_SECONDS + timeout_seconds * rounds)


def history_events(plan: Schedule, timeout_seconds: int, sweep: int = SWEEPS[0]) -> int:
    """The most history events the run can leave when nothing is retried."""
    rounds = ceil(max(plan.sizes) / plan.concurrency)
    sweeps = ceil((DELIVERY_SECONDS + timeout_seconds * rounds) / (sweep + SWEEP_PAUSE))
    each = BATCH_EVENTS + SWEEP_EVENTS * sweeps
    return RUN_EVENTS + WAVE_EVENTS * len(plan.waves) + each * len(plan.sizes)
