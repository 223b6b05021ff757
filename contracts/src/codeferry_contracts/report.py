"""The record of a run as it lies in S3: written by the workflow, read by the CLI."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

EVENT_SOURCE = "codeferry"
EVENT_RUN_FINISHED = "Codeferry Run Finished"

RunStatus = Literal["SUCCEEDED", "FAILED", "CANCELLED"]
OutcomeStatus = Literal["succeeded", "failed", "skipped"]


class ErrorRecord(TypedDict):
    """``phase`` is where a run failed; an instance's error has none."""

    code: str
    message: str
    hint: str
    phase: NotRequired[str]


class Outcome(TypedDict):
    """How one instance fared: ``runs/<run_id>/instances/<id>.json``.

    ``ssm_status`` is Run Command's own StatusDetails. ``change`` is ``applied`` or
    ``unchanged``. ``seconds`` is by phase on the instance.
    """

    instance_id: str
    name: str
    status: OutcomeStatus
    ssm_status: str
    command_id: str
    change: str
    release_id: str
    digest: str
    files: int
    bytes: int
    previous: str
    manifest: bool
    warnings: list[str]
    unmet: list[str]
    seconds: dict[str, float]
    error: ErrorRecord | None


class Counts(TypedDict):
    total: int
    succeeded: int
    failed: int
    skipped: int


class ArchiveRecord(TypedDict):
    key: str
    size: int
    sha256: str


class Verification(TypedDict):
    """``runs/<run_id>/verification.json``.

    ``source`` is ``manifest`` when instances were compared with the archive's own, or
    ``instances`` when the archive had none and they were compared with one another.
    """

    source: Literal["manifest", "instances"]
    release_id: str
    digest: str
    files: int
    bytes: int
    verified: int
    mismatched: list[str]
    python_files: list[str]
    python_file_count: int
    warnings: list[str]


class Cost(TypedDict):
    """What the run called, as planned, and the list price of it all in US dollars."""

    usd: float
    state_transitions: int
    function_calls: int
    s3_writes: int
    s3_reads: int
    ledger_writes: int
    ledger_reads: int


class Report(TypedDict):
    """``runs/<run_id>/report.json``; times are ISO 8601 in UTC, durations seconds."""

    format: int
    run_id: str
    workflow: str
    stage: str
    status: RunStatus
    project: str
    target: str
    started_at: str
    finished_at: str
    archive: ArchiveRecord | None
    counts: Counts
    instances: list[Outcome]
    verification: Verification | None
    warnings: list[str]
    error: ErrorRecord | None
    cost: Cost | None
