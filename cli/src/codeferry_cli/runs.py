"""The runs of a stage: listed, and found by what a person types for one."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from codeferry_cli.errors import RunNotFound
from codeferry_cli.follow import Execution, describe
from codeferry_cli.stage import DeployedStage

LATEST = "latest"
STATUSES = {
    "running": "RUNNING",
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "cancelled": "ABORTED",
    "timed-out": "TIMED_OUT",
}

_READERS = 8
_PAGE = 100
# How far back a prefix is looked for: further, a person names the run in full.
_MOST_SEARCHED = 2000

Source = Literal["cli", "inbox", "console"]


@dataclass(frozen=True)
class Run:
    """One run as `ferry runs` lists it; target and project as far as its input names them."""

    execution: Execution
    target: str
    project: str

    @property
    def source(self) -> Source:
        return source(self.execution.run_id)

    @property
    def status(self) -> str:
        return status_word(self.execution.status)

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        if self.execution.stopped is None:
            return None
        return (self.execution.stopped - self.execution.started).total_seconds()

    def to_json(self) -> dict[str, Any]:
        stopped = self.execution.stopped
        return {
            "run_id": self.execution.run_id,
            "status": self.status,
            "source": self.source,
            "target": self.target,
            "project": self.project,
            "started_at": self.execution.started.isoformat(),
            "finished_at": stopped.isoformat() if stopped else None,
            "seconds": self.seconds,
        }


def source(run_id: str) -> Source:
    """Which way a run came in, told by the form of its id (contracts.names)."""
    if re.fullmatch(r"inbox-.+-[0-9a-f]{20}", run_id):
        return "inbox"
    return "cli" if re.fullmatch(r"\d{8}-\d{6}-.+-[0-9a-f]{8}", run_id) else "console"


def status_word(status: str) -> str:
    """Step Functions' status in the words of ``--status``."""
    words = {theirs: ours for ours, theirs in STATUSES.items()}
    return words.get(status, status.lower().replace("_", "-"))


def as_run(execution: Execution) -> Run:
    """What an execution's input says of the run; anything at all may have been typed there."""
    try:
        request = json.loads(execution.input)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        request = {}
    return Run(execution, str(request.get("target") or ""), str(request.get("project") or ""))


def list_runs(stage: DeployedStage, limit: int, status: str | None = None) -> list[Run]:
    """At most ``limit`` runs, newest first; ``status`` is one of STATUSES."""
    names = list(itertools.islice(_names(stage, status), limit))
    with ThreadPoolExecutor(_READERS) as readers:
        return [as_run(e) for e in readers.map(lambda name: describe(stage, name), names)]


def find_run(stage: DeployedStage, typed: str) -> Execution:
    """The run of that id, the only one whose id begins so, or the ``latest``.

    Raises RunNotFound.
    """
    from botocore.exceptions import ClientError

    if typed == LATEST:
        return describe(stage, _latest(stage))
    try:
        return describe(stage, typed)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
    return describe(stage, _by_prefix(stage, typed))


def _names(stage: DeployedStage, status: str | None = None) -> Iterator[str]:
    """Run ids, newest first, as ListExecutions gives them."""
    pages = stage.workflow.get_paginator("list_executions").paginate(
        stateMachineArn=stage.state_machine_arn,
        PaginationConfig={"PageSize": _PAGE},
        **({"statusFilter": STATUSES[status]} if status else {}),
    )
    for page in pages:
        for execution in page["executions"]:
            yield execution["name"]


def _latest(stage: DeployedStage) -> str:
    name = next(_names(stage), None)
    if name is None:
        raise RunNotFound(
            f"Stage '{stage.name}' has no runs yet.",
            hint=f"Start one: ferry push TARGET{stage.option()}",
        )
    return name


def _by_prefix(stage: DeployedStage, typed: str) -> str:
    searched = itertools.islice(_names(stage), _MOST_SEARCHED)
    matches = [name for name in searched if name.startswith(typed)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = "\n".join(matches[:10])
        raise RunNotFound(
            f"{len(matches)} runs begin with {typed!r}.", hint=f"Type more of one:\n{shown}"
        )
    raise RunNotFound(
        f"Stage '{stage.name}' has no run {typed!r}.",
        hint=f"List them: ferry runs{stage.option()}",
    )
