"""What a run may not outgrow, found out before anything is sent."""

from __future__ import annotations

import re

from codeferry_contracts.parameters import PAYLOAD_PATTERN, ApplyPayload
from codeferry_lambdas.errors import RunTooLarge
from codeferry_lambdas.record import Plan
from codeferry_lambdas.waves import EVENT_LIMIT, Schedule, history_events

_LONGEST_URL = "x" * 3000  # a presigned URL with a session token has 1,500 to 2,500 characters


def payload(plan: Plan, run_id: str, url: str) -> ApplyPayload:
    """What ``apply.py`` is told."""
    request = plan.run_request
    options, expect = request.options, request.expect
    return ApplyPayload(
        run_id=run_id,
        project=plan.project,
        url=url,
        sha256=plan.archive.sha256,
        size=plan.archive.size,
        digest=plan.digest,
        files=plan.files,
        keep_releases=options.keep_releases,
        strict=options.strict,
        user=options.user or "",
        persist=options.persist,
        expect_files=expect.files,
        expect_directories=expect.directories,
    )


def require_payload(plan: Plan, run_id: str) -> None:
    """RunTooLarge when the document's parameter could not hold the payload."""
    encoded = payload(plan, run_id, _LONGEST_URL).encode()
    if not re.fullmatch(PAYLOAD_PATTERN.strip("^$"), encoded):
        raise RunTooLarge(
            "The expected and persistent paths are more than a command can carry.",
            hint="Name directories rather than each file in expect and options.persist.",
        )


def require_history(plan: Schedule, timeout_seconds: int) -> None:
    """RunTooLarge when waiting for so many batches for so long would end the execution."""
    events = history_events(plan, timeout_seconds)
    if events > EVENT_LIMIT:
        raise RunTooLarge(
            f"The run of {sum(plan.sizes):,} instances over up to {timeout_seconds:,} s could "
            f"leave {events:,} history events; Step Functions keeps 25,000.",
            hint="Lower options.timeout_seconds, raise options.max_concurrency, or split the "
            "target.",
        )
