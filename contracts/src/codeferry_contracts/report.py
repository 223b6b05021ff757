"""The record of a run as it lies in S3: written by the workflow, read by the CLI."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from codeferry_contracts.result import ExitStatus

EVENT_SOURCE = "codeferry"
EVENT_RUN_FINISHED = "Codeferry Run Finished"

RunStatus = Literal["SUCCEEDED", "FAILED", "CANCELLED"]
OutcomeStatus = Literal["succeeded", "failed", "skipped"]
WaveStatus = Literal["done", "failed", "returned", "untouched"]


class ErrorRecord(TypedDict):
    """``phase`` is where a run failed; an instance's error has none."""

    code: str
    message: str
    hint: str
    phase: NotRequired[str]


class CommandOutcomeRecord(TypedDict):
    """How the command ended on one instance: result.Ran as JSON has it."""

    ending: ExitStatus
    exit_code: int
    signal: int
    seconds: float
    output_bytes: int
    tail: str


class Outcome(TypedDict):
    """How one instance fared: ``runs/<run_id>/instances/<id>.json``.

    ``ssm_status`` is Run Command's own StatusDetails. ``change`` is ``applied``,
    ``unchanged``, of a rollback ``restored`` or, of a script, ``ran``. ``ran`` is None where
    no command was started. ``returned`` is the release that a failed instance of a roll-out
    has again, absent or empty otherwise. ``wave`` is the wave of a roll-out it belongs to, from
    1, absent without one. ``seconds`` is by phase on the instance.
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
    returned: NotRequired[str]
    wave: NotRequired[int]
    seconds: dict[str, float]
    ran: CommandOutcomeRecord | None
    error: ErrorRecord | None


class CommandRecord(TypedDict):
    """What a batch was sent as: ``runs/<run_id>/commands/<n>.json``.

    Its output is in ``log_group``, in streams ``<command_id>/<instance_id>/<step>/stdout``.
    """

    command_id: str
    log_group: str
    instances: list[str]


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


class WaveRecord(TypedDict):
    """``status``: ``done``, ``failed``, ``returned`` (failed, and the release before is back),
    ``untouched``. ``succeeded`` had the release and were healthy when the wave ended; ``left`` have
    it now, ``back`` were sent back to another."""

    instances: int
    succeeded: int
    left: NotRequired[int]
    back: NotRequired[int]
    status: WaveStatus


class RolloutRecord(TypedDict):
    """``rollback`` is the run that has returned the failed wave, empty where none was needed."""

    waves: list[WaveRecord]
    bake_seconds: int
    health: list[str]
    rollback: str


class StarterRecord(TypedDict, total=False):
    """Who asked for a run, as far as the request says: ``request.StartedBy``."""

    user: str
    host: str
    root: str


class Report(TypedDict):
    """``runs/<run_id>/report.json``; times are ISO 8601 in UTC, durations seconds."""

    format: int
    run_id: str
    workflow: str
    stage: str
    status: RunStatus
    project: str
    target: str
    command: list[str]
    started_by: NotRequired[StarterRecord | None]
    started_at: str
    finished_at: str
    archive: ArchiveRecord | None
    counts: Counts
    instances: list[Outcome]
    verification: Verification | None
    rollout: NotRequired[RolloutRecord | None]
    warnings: list[str]
    error: ErrorRecord | None
    cost: Cost | None
