"""The cost of a run at list price. Values only.

Prices are AWS's for us-east-1 without free tier, in US dollars. What a run calls follows
from its batches and waves; retries, sweeps of long commands, storage and what a command prints
are not in it. SSM Run Command on EC2 and the events of AWS's own services cost nothing, and so
does an archive on its way from S3 to an instance of the region, unless it goes through NAT.
"""

from __future__ import annotations

from math import ceil

from codeferry_contracts.report import Cost

PER_TRANSITION = 0.025 / 1_000
PER_CALL = 0.20 / 1_000_000
PER_GB_SECOND = 0.0000133334  # arm64
PER_S3_WRITE = 0.005 / 1_000
PER_S3_READ = 0.0004 / 1_000
PER_LEDGER_WRITE = 0.625 / 1_000_000
PER_LEDGER_READ = 0.125 / 1_000_000
PER_EVENT = 1.00 / 1_000_000
PER_LOG_GB = 0.50
PER_TRACE = 5.00 / 1_000_000
PER_METRIC_HOUR = 0.30 / 730
PER_NAT_GB = 0.045

BATCH_LIMIT = 50  # instance ids in one SendCommand

# Plan, verify and report have a GiB and cleanup a quarter; of a batch's four functions three
# have a quarter and collect a half. Each is taken to need a second, which is long.
_RUN_GB_SECONDS = 3.25
_BATCH_GB_SECONDS = 1.25
# A call's lines are Lambda's own three and ours; a transition is about four events of the history.
_CALL_LOG_BYTES = 2_000
_TRANSITION_LOG_BYTES = 2_400
# All that a run with a command and a health check counts; CloudWatch asks for each by the hour in
# which it had a value, however many runs that hour has: docs/fleet.md lists them.
METRICS = 15
_PART_BYTES = 8 << 20


def estimate(*, batches: int, waves: int, instances: int, archive_bytes: int = 0) -> Cost:
    """The calls of a run in which nothing is repeated, and their price together.

    Metrics are counted as of the only run of its workflow in that hour: the next one's are paid.
    """
    cost: Cost = {
        "usd": 0.0,
        "state_transitions": 7 + waves + 4 * batches,
        "function_calls": 4 + 4 * batches,
        "s3_writes": 5 + 2 * batches + instances + upload_requests(archive_bytes),
        "s3_reads": 8 + 4 * batches + instances,
        "ledger_writes": 2 + 5 * batches,
        "ledger_reads": 2 + 4 * batches,
    }
    gb_seconds = _RUN_GB_SECONDS + batches * _BATCH_GB_SECONDS
    logged = (
        cost["function_calls"] * _CALL_LOG_BYTES + cost["state_transitions"] * _TRANSITION_LOG_BYTES
    )
    usd = (
        cost["state_transitions"] * PER_TRANSITION
        + cost["function_calls"] * PER_CALL
        + gb_seconds * PER_GB_SECOND
        + cost["s3_writes"] * PER_S3_WRITE
        + cost["s3_reads"] * PER_S3_READ
        + cost["ledger_writes"] * PER_LEDGER_WRITE
        + cost["ledger_reads"] * PER_LEDGER_READ
        + PER_EVENT
        + logged / 1e9 * PER_LOG_GB
        + PER_TRACE
        + METRICS * PER_METRIC_HOUR
    )
    return {**cost, "usd": round(usd, 6)}


def estimate_run(instances: int, archive_bytes: int) -> Cost:
    """The estimate of a run that reaches so many instances at once."""
    batches = ceil(instances / BATCH_LIMIT)
    return estimate(batches=batches, waves=1, instances=instances, archive_bytes=archive_bytes)


def upload_requests(archive_bytes: int) -> int:
    """A multipart upload's requests; an archive below two parts is the one PUT that every run
    has."""
    parts = ceil(archive_bytes / _PART_BYTES)
    return parts + 1 if parts > 1 else 0


def nat_usd(instances: int, archive_bytes: int) -> float:
    """What a NAT gateway asks for the archive's copies; through an S3 gateway endpoint: nothing."""
    return round(instances * archive_bytes / 1e9 * PER_NAT_GB, 6)
