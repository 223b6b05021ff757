"""What a run costs at list price. Values only.

Prices are AWS's for us-east-1 without free tier, in US dollars. What a run calls follows
from its batches and waves; retries, sweeps of long commands, storage and transfer are not in
it. SSM Run Command on EC2 and the events of AWS's own services cost nothing.
"""

from __future__ import annotations

from codeferry_contracts.report import Cost

PER_TRANSITION = 0.025 / 1_000
PER_CALL = 0.20 / 1_000_000
PER_GB_SECOND = 0.0000133334  # arm64
PER_S3_WRITE = 0.005 / 1_000
PER_S3_READ = 0.0004 / 1_000
PER_LEDGER_WRITE = 0.625 / 1_000_000
PER_LEDGER_READ = 0.125 / 1_000_000
PER_EVENT = 1.00 / 1_000_000

# Plan, verify and report have a GiB and cleanup a quarter; of a batch's four functions three
# have a quarter and collect a half. Each is taken to need a second, which is long.
_RUN_GB_SECONDS = 3.25
_BATCH_GB_SECONDS = 1.25


def estimate(*, batches: int, waves: int, instances: int) -> Cost:
    """The calls of a run in which nothing is repeated, and their price together."""
    cost: Cost = {
        "usd": 0.0,
        "state_transitions": 7 + waves + 4 * batches,
        "function_calls": 4 + 4 * batches,
        "s3_writes": 5 + 2 * batches + instances,
        "s3_reads": 8 + 4 * batches + instances,
        "ledger_writes": 2 + 5 * batches,
        "ledger_reads": 2 + 4 * batches,
    }
    gb_seconds = _RUN_GB_SECONDS + batches * _BATCH_GB_SECONDS
    usd = (
        cost["state_transitions"] * PER_TRANSITION
        + cost["function_calls"] * PER_CALL
        + gb_seconds * PER_GB_SECOND
        + cost["s3_writes"] * PER_S3_WRITE
        + cost["s3_reads"] * PER_S3_READ
        + cost["ledger_writes"] * PER_LEDGER_WRITE
        + cost["ledger_reads"] * PER_LEDGER_READ
        + PER_EVENT
    )
    return {**cost, "usd": round(usd, 6)}
