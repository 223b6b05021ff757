"""Announce a run that has ended: in a line that can go anywhere, and in metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from aws_lambda_powertools.metrics import MetricUnit

from codeferry_contracts.escaping import HARMFUL
from codeferry_contracts.formatting import seconds
from codeferry_contracts.report import EVENT_RUN_FINISHED, EVENT_SOURCE, Outcome, Report
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.observability import Measured, count_phase, emit
from codeferry_lambdas.runs.outcomes import number
from codeferry_lambdas.runs.report import duration

MOST_CHARACTERS = 1000
# EventBridge puts a value into the text of a rule's target as it is: a quote in it, or a
# backslash, would end the text early and lose the message.
_PLAIN = str.maketrans({'"': "'", "\\": "/", "<": "‹", ">": "›"})


_ANNOUNCED = ("run_id", "workflow", "stage", "status", "project", "target", "counts", "error")


def announcement(report: Report) -> str:
    """One line of printable characters without double quotes and backslashes."""
    return _plain(f"{_subject(report)} {_outcome(report)}")


def _subject(report: Report) -> str:
    what = report["project"] or "A run"
    where = f" to {report['target']}" if report["target"] else ""
    return f"{what}{where} on {report['stage']} {report['status'].lower()}"


def _outcome(report: Report) -> str:
    counts, error = report["counts"], report["error"]
    took = seconds(max(0.0, duration(report)))
    if error is None:
        return f"after {took}: {counts['succeeded']}/{counts['total']} instances succeeded."
    return f"after {took}: {error['message']} {error['hint']}"


def _plain(text: str) -> str:
    cut = text[: MOST_CHARACTERS - 1] + ("…" if len(text) >= MOST_CHARACTERS else "")
    # Not spelled out: a backslash would end the text in which EventBridge puts the line.
    return " ".join(HARMFUL.sub(" ", cut).split()).translate(_PLAIN)


# The phases that are work of the instances, made of what the agent times. An instance may name
# others, and each would be a metric of its own.
_STEPS: Mapping[str, Sequence[str]] = {
    "apply": ("lock", "download", "extract", "activate", "install"),
    "execute": ("execute",),
    "health": ("bake", "health"),
}


def count_run(report: Report) -> None:
    """Count the run: its outcome, the seconds it and its instances took, the bytes sent to them."""
    stage, workflow = report["stage"], report["workflow"]
    emit({**_counters(report), **_archive_bytes(report)}, stage=stage, workflow=workflow)
    for phase, longest in slowest(report["instances"]):
        count_phase(stage, workflow, phase, longest)


def slowest(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, float]]:
    """The instances' phases that there were, each with the seconds of the instance that took
    longest: the run has waited for that one."""
    for phase, steps in _STEPS.items():
        times = (sum(number(o["seconds"].get(step)) for step in steps) for o in outcomes)
        longest = max(times, default=0.0)
        if longest:
            yield phase, longest


def _counters(report: Report) -> Measured:
    succeeded, counts = report["status"] == "SUCCEEDED", report["counts"]
    return {
        "RunsSucceeded": (MetricUnit.Count, int(succeeded)),
        "RunsFailed": (MetricUnit.Count, int(not succeeded)),
        "InstancesSucceeded": (MetricUnit.Count, counts["succeeded"]),
        "InstancesFailed": (MetricUnit.Count, counts["failed"]),
        "DurationSeconds": (MetricUnit.Seconds, duration(report)),
    }


def _archive_bytes(report: Report) -> Measured:
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


def announce(report: Report) -> None:
    """Metrics, and one event that carries the counts but not the instances."""
    count_run(report)
    detail = {name: value for name, value in report.items() if name in _ANNOUNCED}
    detail["duration_seconds"] = round(duration(report), 3)
    detail["summary"] = announcement(report)
    clients.events().put_events(
        Entries=[
            {
                "Source": EVENT_SOURCE,
                "DetailType": EVENT_RUN_FINISHED,
                "Detail": json.dumps(detail),
            }
        ]
    )
