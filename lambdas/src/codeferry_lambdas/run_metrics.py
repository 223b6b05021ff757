"""A run that has ended, in CloudWatch metrics: by stage and workflow, never by run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from aws_lambda_powertools.metrics import MetricUnit

from codeferry_contracts.report import Outcome, Report
from codeferry_lambdas.observability import Measured, count_phase, emit
from codeferry_lambdas.page_text import number

# The phases that are work of the instances, made of what the agent times. An instance may name
# others, and each would be a metric of its own.
_STEPS: Mapping[str, Sequence[str]] = {
    "apply": ("lock", "download", "extract", "activate", "install"),
    "execute": ("execute",),
    "health": ("bake", "health"),
}


def count_run(report: Report) -> None:
    """How the run ended, how long it and its instances took, and what was carried to them."""
    stage, workflow = report["stage"], report["workflow"]
    emit({**_counted(report), **_carried(report)}, stage=stage, workflow=workflow)
    for phase, seconds in slowest(report["instances"]):
        count_phase(stage, workflow, phase, seconds)


def duration(report: Report) -> float:
    """Seconds from the run's start to its report."""
    started, finished = map(datetime.fromisoformat, (report["started_at"], report["finished_at"]))
    return (finished - started).total_seconds()


def slowest(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, float]]:
    """The instances' phases that there were, each with the seconds of the instance that took
    longest: the run has waited for that one."""
    for phase, steps in _STEPS.items():
        times = (sum(number(o["seconds"].get(step)) for step in steps) for o in outcomes)
        longest = max(times, default=0.0)
        if longest:
            yield phase, longest


def _counted(report: Report) -> Measured:
    succeeded, counts = report["status"] == "SUCCEEDED", report["counts"]
    return {
        "RunsSucceeded": (MetricUnit.Count, int(succeeded)),
        "RunsFailed": (MetricUnit.Count, int(not succeeded)),
        "InstancesSucceeded": (MetricUnit.Count, counts["succeeded"]),
        "InstancesFailed": (MetricUnit.Count, counts["failed"]),
        "DurationSeconds": (MetricUnit.Seconds, duration(report)),
    }


def _carried(report: Report) -> Measured:
    """The archive's bytes, and those of all its copies. An instance unpacks what has come whole,
    and nothing where it has the release already."""
    archive = report["archive"]
    if archive is None:
        return {}
    copies = sum("extract" in outcome["seconds"] for outcome in report["instances"])
    return {
        "ArchiveBytes": (MetricUnit.Bytes, archive["size"]),
        "DeliveredBytes": (MetricUnit.Bytes, archive["size"] * copies),
    }
