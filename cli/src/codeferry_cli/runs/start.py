"""Start runs: pack, upload, start, follow, or with `--dry-run` only say so."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import ExpectationUnmet, Interrupted, RunNotStarted
from codeferry_cli.options.run import RunOptions, Variables
from codeferry_cli.packing import find_root
from codeferry_cli.packing.project import Prepared
from codeferry_cli.runs.execution import describe
from codeferry_cli.runs.find import started_by
from codeferry_cli.runs.request import build_request
from codeferry_contracts.cost import estimate_run, nat_usd
from codeferry_contracts.layout import archive_key, environment_key
from codeferry_contracts.names import SYNC, new_run_id
from codeferry_contracts.request import (
    Archive,
    Environment,
    Expect,
    RunRequest,
    entry_script,
    expected_of,
)

ARRIVAL_SECONDS = 60.0  # S3's events take a second or two, rarely more
_INTERVAL = 0.5  # seconds


def start_execution(stage: DeployedStage, workflow: str, run_id: str, request: RunRequest) -> str:
    """Start the run and return its execution's ARN.

    Starting the same run again is the same run: Step Functions answers a repeated name
    with equal input as it did the first time, so a retried call does no harm.
    """
    answer = stage.workflow.start_execution(
        stateMachineArn=stage.state_machine_arn(workflow),
        name=run_id,
        input=json.dumps(request.to_json()),
    )
    arn: str = answer["executionArn"]
    return arn


def await_execution(
    stage: DeployedStage,
    run_id: str,
    timeout: float = ARRIVAL_SECONDS,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return when the run an upload starts exists.

    Raises RunNotStarted after ``timeout``, Interrupted on Ctrl-C: it may start all the same.
    """
    deadline = clock() + timeout
    look = f"Look later: ferry status {run_id}{stage.option()}"
    try:
        while not _exists(stage, run_id):
            if clock() >= deadline:
                raise RunNotStarted(
                    f"The upload arrived, but within {timeout:g} s no run {run_id} was started.",
                    hint=f"See what is wrong: ferry doctor{stage.option()}\n{look}",
                    details={"run_id": run_id},
                )
            sleep(_INTERVAL)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"Stopped waiting. The upload is complete and starts the run {run_id}.",
            hint=look,
            details={"run_id": run_id},
        ) from stop


def _exists(stage: DeployedStage, run_id: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        describe(stage, SYNC, run_id)  # what an upload starts
    except ClientError as error:
        if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
            return False
        raise
    return True


def price(instances: int | None, archive_bytes: int) -> dict[str, Any]:
    """What the run costs at list price, without the free tier, and what NAT would add, in dollars.
    Where the instances are not known, for one."""
    known = 1 if instances is None else instances
    return {
        "instances": instances,
        "usd": estimate_run(known, archive_bytes)["usd"],
        "nat_usd": nat_usd(known, archive_bytes),
    }


@dataclass(frozen=True)
class RunPlan:
    """A run about to be started: what is packed, and what is asked of the workflow.

    The request's archive and environment name keys; versions are known once they are there.
    """

    workflow: str
    run_id: str
    prepared: Prepared
    request: RunRequest
    variables: Variables


def plan_run(
    workflow: str,
    target: str,
    prepared: Prepared,
    run: RunOptions,
    command: tuple[str, ...] = (),
    variables: Variables | None = None,
) -> RunPlan:
    """A run of now, with the keys of what it will upload; nothing is packed or sent yet.

    Raises RequestInvalid listing every value that cannot be.
    """
    given = variables or Variables()
    run_id = new_run_id(prepared.project, datetime.now(UTC))
    # A script belongs to the project it is started in: its own name is that of no directory.
    root = prepared.selection.root if workflow == SYNC else find_root(None)
    request = build_request(
        target,
        prepared.project,
        run,
        Archive(archive_key(run_id)),
        command,
        Environment(environment_key(run_id)) if given.values else None,
        started_by(root),
    )
    return RunPlan(workflow, run_id, prepared, request, given)


def left_behind(plan: RunPlan) -> list[str]:
    """What the run needs of the project, and what it would fail for on every instance."""
    if plan.workflow != SYNC:
        return []
    entry = entry_script(plan.request.command) if plan.request.command else None
    needed = dict.fromkeys([*plan.request.expect.files, *([entry] if entry else [])])
    selection = plan.prepared.selection
    here = [path for path in needed if (selection.root / path).is_file()]
    packed = {file.path for file in selection.files} if here else set()
    return [path for path in here if os.fsencode(path) not in packed]


def require_expected(plan: RunPlan) -> None:
    """Raise ExpectationUnmet where --strict would fail every instance, before anything is sent."""
    if plan.workflow != SYNC or not plan.request.options.strict:
        return
    expect, command = plan.request.expect, plan.request.command
    if expect == Expect() and command:
        expect = expected_of(command)  # as plan has it
    files: set[bytes] = set()
    links: set[bytes] = set()
    for file in plan.prepared.selection.files:
        (links if file.target is not None else files).add(file.path)
    directories = {parent for path in files | links for parent in _above(path)}
    kept = {path.rstrip("/") for path in plan.request.options.persist}
    wanted = [(path, files) for path in expect.files]
    wanted += [(path, directories) for path in expect.directories if path.rstrip("/") not in kept]
    missing = [
        path
        for path, there in wanted
        if (plain := os.fsencode(os.path.normpath(path))) not in there
        and links.isdisjoint({plain, *_above(plain)})  # where a link leads is the instance's to say
    ]
    if missing:
        raise ExpectationUnmet(
            f"Not among what is packed, and expected: {', '.join(missing)}.",
            hint="See what is packed: ferry pack --list\nWithout --strict it is only a warning.",
        )


def _above(path: bytes) -> Iterator[bytes]:
    """The directories a path lies in."""
    while path := path.rpartition(b"/")[0]:
        yield path
