"""What a run may not outgrow, found out before anything is sent."""

from __future__ import annotations

from codeferry_contracts.parameters import LONGEST_URL, PAYLOAD_LIMIT, Payload, Restoration
from codeferry_contracts.timing import command_seconds
from codeferry_lambdas.errors import RunTooLarge
from codeferry_lambdas.record import Plan, Run
from codeferry_lambdas.waves import EVENT_LIMIT, SWEEPS, Schedule, history_events

_LONGEST_URL = "x" * LONGEST_URL


def payload(plan: Plan, run: Run, url: str) -> Payload | Restoration:
    """What the instance is told; the URL is presigned."""
    request = plan.run_request
    if plan.archive is None:
        return Restoration(run.id, plan.project, request.release or "", plan.leaving)
    options, expect, rollout = request.options, request.expect, request.options.rollout
    return Payload(
        run_id=run.id,
        project=plan.project,
        url=url,
        sha256=plan.archive.sha256,
        size=plan.archive.size,
        digest=plan.digest,
        files=plan.files,
        unpacked_bytes=plan.unpacked.bytes,
        unpacked_files=plan.unpacked.files,
        keep_releases=options.keep_releases,
        strict=options.strict,
        user=options.user or "",
        persist=options.persist,
        expect_files=expect.files,
        expect_directories=expect.directories,
        command=request.command,
        command_seconds=command_seconds(run.workflow, options.timeout_seconds),
        environment=plan.environment is not None,
        install=options.install,
        returning=rollout is not None,
        bake_seconds=rollout.bake_seconds if rollout else 0,
        health=rollout.health if rollout else (),
    )


def require_payload(plan: Plan, run: Run) -> None:
    """RunTooLarge when the document's parameter could not hold the payload."""
    size = len(payload(plan, run, _LONGEST_URL).encode())
    if size > PAYLOAD_LIMIT:
        raise RunTooLarge(
            "The command's arguments and the expected and persistent paths are more than a "
            f"command can carry: {size:,} characters, at most {PAYLOAD_LIMIT:,}.",
            hint="Put long arguments into a file of the project; name directories rather than "
            "each file in expect and options.persist.",
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
