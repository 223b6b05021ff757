"""Limits that a run may not outgrow, checked before anything is sent."""

from __future__ import annotations

from math import ceil

from codeferry_contracts.layout import LIFETIME_DAYS
from codeferry_contracts.parameters import (
    LONGEST_URL,
    PAYLOAD_LIMIT,
)
from codeferry_lambdas.aws.errors import RunTooLarge
from codeferry_lambdas.fleet.batches import (
    EVENT_LIMIT,
    SWEEPS,
    Schedule,
    history_events,
    longest_seconds,
)
from codeferry_lambdas.runs.command import payload_for
from codeferry_lambdas.runs.record import PinnedArchive, PinnedEnvironment, Plan, Run

_LONGEST_URL = "x" * LONGEST_URL
DAY_SECONDS = 86_400


def require_payload(plan: Plan, run: Run) -> None:
    """RunTooLarge when the document's parameter could not hold the payload."""
    size = len(payload_for(plan, run, _LONGEST_URL).encode())
    if size > PAYLOAD_LIMIT:
        raise RunTooLarge(
            "The command's arguments and the expected and persistent paths are more than a "
            f"command can carry: {size:,} characters, at most {PAYLOAD_LIMIT:,}.",
            hint="Put long arguments into a file of the project; name directories rather than "
            "each file in expect and options.persist.",
        )


def require_lifetime(plan: Plan, age_seconds: float = 0) -> None:
    """RunTooLarge when what the run takes could expire before its last wave has it. The archive is
    ``age_seconds`` old; a stored release stays."""
    sizes = tuple(len(batch) for batch in plan.batches)
    longest = longest_seconds(Schedule(sizes, plan.waves, plan.concurrency), plan.step_seconds)
    pinned: list[tuple[PinnedArchive | PinnedEnvironment | None, float, str]] = [
        (plan.archive, age_seconds, "archive"),
        (plan.environment, 0, "variables"),
    ]
    for each, age, what in pinned:
        days = next((d for p, d in LIFETIME_DAYS.items() if each and each.key.startswith(p)), None)
        if days is not None and age + longest > days * DAY_SECONDS:
            gone = f", {ceil(age / DAY_SECONDS)} of which are over" if age > DAY_SECONDS else ""
            raise RunTooLarge(
                f"The run of {sum(sizes):,} instances in {len(plan.waves)} turns, each up to "
                f"{plan.step_seconds:,} s, could take {ceil(longest / DAY_SECONDS)} days; what "
                f"it takes ({what}) lies in the bucket for {days} days{gone}.",
                hint="State how long the command may take (--timeout, options.timeout_seconds), "
                "raise options.max_concurrency, or split the target.",
            )


def sweep_for(cut: Schedule, seconds: int) -> int:
    """The shortest interval of looking again, in seconds, with which the run's history stays
    within what Step Functions keeps; RunTooLarge when none does."""
    for sweep in SWEEPS:
        if history_events(cut, seconds, sweep) <= EVENT_LIMIT:
            return sweep
    events = history_events(cut, seconds, SWEEPS[-1])
    raise RunTooLarge(
        f"The run of {sum(cut.sizes):,} instances over up to {seconds:,} s could leave "
        f"{events:,} history events; Step Functions keeps 25,000.",
        hint="Lower options.timeout_seconds, raise options.max_concurrency, or split the target.",
    )
