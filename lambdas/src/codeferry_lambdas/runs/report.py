"""The report of a run, from what is known about it. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from codeferry_contracts.cost import estimate
from codeferry_contracts.formatting import remedy
from codeferry_contracts.names import return_run_id
from codeferry_contracts.report import (
    ArchiveRecord,
    Cost,
    Counts,
    ErrorRecord,
    Outcome,
    Report,
    RunStatus,
    StarterRecord,
    Verification,
)
from codeferry_lambdas.aws.errors import WaveFailed, read_failure
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs import outcomes, rollout
from codeferry_lambdas.runs.record import Plan, Record, Run

FORMAT = 1
NOT_REACHED: ErrorRecord = {
    "code": "not_reached",
    "message": "The run ended before this instance's answer was recorded.",
    "hint": "Run it again: an instance that has the release already says so.",
}
NEVER_SENT: ErrorRecord = {
    "code": "not_reached",
    "message": "The run was stopped before anything was sent to this instance.",
    "hint": "",
}


@dataclass(frozen=True)
class Known:
    """All that is left of a run when it ends: any of it may be missing.

    ``state`` is the execution's state; ``stopped`` is set when a person or a timeout
    ended the execution.
    """

    run: Run
    stage: str
    request: Any
    finished_at: str
    state: Mapping[str, Any]
    plan: Plan | None = None
    outcomes: Sequence[Outcome] = ()
    verification: Verification | None = None
    stopped: ErrorRecord | None = None


def build_report(known: Known) -> Report:
    """One report, whatever happened."""
    instances = all_outcomes(known)
    rolled_out = rollout.describe(known.plan, instances, known.state) if known.plan else None
    if known.plan:
        instances = rollout.returned(known.plan, instances, known.state)
    instances = [_remedied(known, outcome) for outcome in instances]
    counts = count(instances)
    error = known.stopped or state_error(known.state) or instances_error(known, instances, counts)
    return {
        "format": FORMAT,
        "run_id": known.run.id,
        "workflow": known.run.workflow,
        "stage": known.stage,
        "status": _status(known, error),
        "project": known.plan.project if known.plan else _stated(known.request, "project"),
        "target": _stated(known.request, "target"),
        "command": _command(known.request),
        "started_by": _started_by(known),
        "started_at": known.run.started_at,
        "finished_at": known.finished_at,
        "archive": _archive(known.plan),
        "counts": counts,
        "instances": instances,
        "verification": known.verification,
        "rollout": rolled_out,
        "warnings": _warnings(known),
        "error": _with_remedy(known, error) if error else None,
        "cost": _cost(known.plan),
    }


def _remedied(known: Known, outcome: Outcome) -> Outcome:
    error = outcome["error"]
    return {**outcome, "error": _with_remedy(known, error)} if error else outcome


def _with_remedy(known: Known, error: ErrorRecord) -> ErrorRecord:
    return {**error, "hint": remedy(str(error["hint"]), known.run.id, known.stage)}


def _cost(plan: Plan | None) -> Cost | None:
    if plan is None:
        return None
    instances = sum(len(batch) for batch in plan.batches)
    return estimate(
        batches=len(plan.batches),
        waves=len(plan.waves),
        instances=instances,
        archive_bytes=plan.archive.size if plan.archive else 0,
    )


def all_outcomes(known: Known) -> list[Outcome]:
    """Every instance of the plan exactly once: recorded, unreachable, or not reached."""
    if known.plan is None:
        return []
    recorded = {outcome["instance_id"]: outcome for outcome in known.outcomes}
    wrong = known.verification["mismatched"] if known.verification else ()
    absent = NEVER_SENT if known.stopped else NOT_REACHED
    planned = [
        recorded.get(i.instance_id) or outcomes.skipped(outcomes.blank(i), absent)
        for batch in known.plan.batches
        for i in batch
    ]
    with_waves = rollout.with_waves(known.plan, planned)
    verified = [_mismatched(o) if o["instance_id"] in wrong else o for o in with_waves]
    return [*verified, *map(outcomes.unreachable, known.plan.unreachable)]


def _mismatched(outcome: Outcome) -> Outcome:
    message = "The tree on the instance is not the one that was sent."
    return outcomes.failed(
        outcome, {"code": "verification_failed", "message": message, "hint": "Run it again."}
    )


def count(instances: Sequence[Outcome]) -> Counts:
    by_status = Counter(outcome["status"] for outcome in instances)
    return {
        "total": len(instances),
        "succeeded": by_status["succeeded"],
        "failed": by_status["failed"],
        "skipped": by_status["skipped"],
    }


def state_error(state: Mapping[str, Any]) -> ErrorRecord | None:
    """The first error a state ended with, and the phase it belongs to."""
    if "error" not in state:
        return None
    phase = "verify" if "batches" in state else "dispatch" if "waves" in state else "plan"
    error = read_failure(state["error"])
    if error["code"] == WaveFailed.code:
        phase = "apply"
    return {**error, "phase": phase}


def instances_error(
    known: Known, instances: Sequence[Outcome], counts: Counts
) -> ErrorRecord | None:
    """The error of a run that went through: more instances failed than may."""
    if known.plan is None:
        message = "The run's record in S3 is missing or may not be read."
        return {"code": "record_missing", "message": message, "hint": "", "phase": "report"}
    if not counts["skipped"] and counts["failed"] <= (known.plan.budget or 0):
        return None
    first = next(o for o in instances if o["status"] != "succeeded")
    reason = first["error"] or NOT_REACHED
    return {
        "code": "instances_failed",
        "message": f"{counts['succeeded']}/{counts['total']} instances succeeded. "
        f"{first['instance_id']}: {reason['message']}",
        "hint": reason["hint"],
        "phase": "execute" if first["ran"] else "apply",
    }


def _status(known: Known, error: ErrorRecord | None) -> RunStatus:
    if known.stopped and known.stopped["code"] == "cancelled":
        return "CANCELLED"
    return "FAILED" if error else "SUCCEEDED"


def _archive(plan: Plan | None) -> ArchiveRecord | None:
    if plan is None or plan.archive is None:
        return None
    return {"key": plan.archive.key, "size": plan.archive.size, "sha256": plan.archive.sha256}


def _stated(request: Any, field: str) -> str:
    value = request.get(field) if isinstance(request, dict) else None
    return value if isinstance(value, str) else ""


def _command(request: Any) -> list[str]:
    """The words of the command; what no request could hold was refused by plan."""
    words = request.get("command") if isinstance(request, dict) else None
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


def _started_by(known: Known) -> StarterRecord | None:
    """Of a checked request only: anything may stand in another."""
    stated = known.plan.run_request.started_by if known.plan else None
    return {"user": stated.user, "host": stated.host, "root": stated.root} if stated else None


def _warnings(known: Known) -> list[str]:
    warnings = list(known.plan.warnings) if known.plan else []
    if known.verification:
        warnings += known.verification["warnings"]
    if "rollback_error" in known.state:
        run_id = return_run_id(known.run.id)
        warnings.append(f"The failed wave was not returned in whole: ferry status {run_id}")
    if "cleanup_error" in known.state:
        failure = read_failure(known.state["cleanup_error"])
        warnings.append(f"Cleanup failed: {failure['message']} A lifecycle rule deletes the rest.")
    return warnings


def gather(
    settings: Settings,
    run: Run,
    request: Any,
    state: dict[str, Any],
    stopped: ErrorRecord | None = None,
) -> Report:
    """The report of what the run left behind in S3."""
    record = Record(settings.bucket, run.keys)
    plan = record.find_plan()
    known = Known(
        run=run,
        stage=settings.stage.name,
        request=request,
        finished_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        state=state,
        plan=plan,
        outcomes=record.outcomes(len(plan.batches)) if plan else (),
        verification=record.read(run.keys.verification) if plan else None,
        stopped=stopped,
    )
    return build_report(known)


def execution_output(report: Report) -> dict[str, Any]:
    """The output that the execution ends with."""
    error = report["error"]
    if error is None:
        counts = report["counts"]
        cause = f"{counts['succeeded']}/{counts['total']} instances succeeded."
        return {"succeeded": True, "error": "", "cause": cause}
    cause = f"{error['message']} {error['hint']}".strip()
    return {"succeeded": False, "error": error["code"], "cause": cause}


def duration(report: Report) -> float:
    """Seconds from the run's start to its report."""
    started, finished = map(datetime.fromisoformat, (report["started_at"], report["finished_at"]))
    return (finished - started).total_seconds()
