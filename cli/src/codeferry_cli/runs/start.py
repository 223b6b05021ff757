"""Start runs: pack, upload, start, follow, or with `--dry-run` only say so."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.signing import sign_request
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.errors import ExpectationUnmet, Interrupted, RunNotStarted
from codeferry_cli.options.groups import Waiting
from codeferry_cli.options.run import RunOptions, Variables
from codeferry_cli.packing import find_root
from codeferry_cli.packing.errors import show
from codeferry_cli.packing.project import Prepared, measure
from codeferry_cli.runs import reach
from codeferry_cli.runs.execution import describe
from codeferry_cli.runs.find import started_by
from codeferry_cli.runs.follow import explain_interruption, follow
from codeferry_cli.runs.logs import CLOCK_MS, LogTail
from codeferry_cli.runs.record import show_outcome
from codeferry_cli.runs.request import build_request
from codeferry_cli.runs.upload import upload_archive, uploaded_json, uploaded_variables
from codeferry_cli.terminal import packing_view
from codeferry_cli.terminal.live_output import LiveOutput
from codeferry_cli.terminal.output import RAW, Output, contacting_aws
from codeferry_cli.terminal.progress import Progress, progress
from codeferry_contracts import formatting
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
from codeferry_contracts.target import parse_target

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
    patience: float = ARRIVAL_SECONDS,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return when the run an upload starts exists.

    Raises RunNotStarted after ``patience``, Interrupted on Ctrl-C: it may start all the same.
    """
    deadline = clock() + patience
    look = f"Look later: ferry status {run_id}{stage.option()}"
    try:
        while not _exists(stage, run_id):
            if clock() >= deadline:
                raise RunNotStarted(
                    f"The upload arrived, but within {patience:g} s no run {run_id} was started.",
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


def show_dry_run(
    prepared: Prepared,
    output: Output,
    plan: Mapping[str, Any],
    target: str,
    reached: Mapping[str, Any] | None = None,
) -> None:
    """Pack to nowhere, and say what would go out; ``plan`` is what would be done with it, and
    ``reached`` whom the stage's check function reaches (None where it was not asked).

    Packing is done in full: only that finds the secrets, and the release it would be.
    """
    packed = measure(prepared)
    packing_view.show_warnings(prepared, packed, output)
    summary = packed.summary
    files = formatting.counted(summary.files, "file")
    output.line(f"Would pack {files}, {formatting.size(summary.bytes)}, of {summary.project}")
    output.line(f"Archive {formatting.size(packed.size)}, release {summary.release_id}")
    output.line("Largest:")
    for file in prepared.selection.largest(5):
        output.line(f"  {formatting.size(file.size):>9}  {show(file.path)}")
    for name, value in plan.items():
        output.line(f"{name.capitalize()}: {_value_text(value)}")
    known = reached["reachable"] if reached else parse_target(target).instances
    priced = price(len(known) if reached else len(known) or None, packed.size)
    output.line(_price_line(priced))
    output.document(
        {"dry_run": True}
        | packing_view.packed_json(prepared, packed)
        | {"largest": packing_view.largest_json(prepared)}
        | dict(plan)
        | {"instances": reached, "price": priced}
    )


def price(instances: int | None, archive_bytes: int) -> dict[str, Any]:
    """What the run costs at list price, without the free tier, and what NAT would add, in dollars.
    Where the instances are not known, for one."""
    known = 1 if instances is None else instances
    return {
        "instances": instances,
        "usd": estimate_run(known, archive_bytes)["usd"],
        "nat_usd": nat_usd(known, archive_bytes),
    }


def _price_line(priced: Mapping[str, Any]) -> str:
    known = priced["instances"]
    of = "one instance" if known is None else formatting.counted(known, "instance")
    nat = f"; through a NAT gateway ${priced['nat_usd']:.2f} more" if priced["nat_usd"] else ""
    return f"Price: about ${priced['usd']:.4f} for {of} at list price{nat}"


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2)


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


def start_run(
    plan: RunPlan,
    access: Access,
    waiting: Waiting,
    output: Output,
    *,
    dry_run: bool,
    show: bool | None = None,
) -> None:
    """Launch it, or with ``dry_run`` only say what would be packed and asked. ``show`` is
    ``--show-output``. Raises RunFailed unless all of it went well, and what its parts raise."""
    for path in _left_behind(plan):
        output.note(
            f"Warning: {path} has to be there, and lies here, but is not packed: "
            "something ignores it (--include-pattern takes it)."
        )
    _require_expected(plan)
    if dry_run:
        _dry_run(plan, access, output)
    else:
        _start(plan, access, waiting, output, show)


def _left_behind(plan: RunPlan) -> list[str]:
    """What the run needs of the project, and what it would fail for on every instance."""
    if plan.workflow != SYNC:
        return []
    entry = entry_script(plan.request.command) if plan.request.command else None
    needed = dict.fromkeys([*plan.request.expect.files, *([entry] if entry else [])])
    selection = plan.prepared.selection
    here = [path for path in needed if (selection.root / path).is_file()]
    packed = {file.path for file in selection.files} if here else set()
    return [path for path in here if os.fsencode(path) not in packed]


def _require_expected(plan: RunPlan) -> None:
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


def _dry_run(plan: RunPlan, access: Access, output: Output) -> None:
    """Of the variables only the names."""
    instances = reach.show_reach(access, plan.request.target, output)
    said: dict[str, Any] = {"request": plan.request.to_json()}
    if plan.variables.values:
        said["variables"] = plan.variables.names
    show_dry_run(plan.prepared, output, said, plan.request.target, instances)


def _start(
    plan: RunPlan, access: Access, waiting: Waiting, output: Output, show: bool | None
) -> None:
    """Upload, start, follow, and say how it went."""
    stage = find_stage(Aws(access), contacting_aws)
    reached = reach.require_instances(stage, plan.request.target, output)
    if plan.workflow == SYNC:
        reach.warn_of_another_owner(stage, reached, plan.request, output)
    with progress() as shown:
        sent = upload_archive(stage, plan.prepared, archive_key(plan.run_id), shown)
        with uploaded_variables(stage, plan.run_id, plan.variables) as environment:
            request = dataclasses.replace(
                reach.understood_by_stage(plan.request, reached),
                archive=sent.archive,
                environment=environment,
            )
            signature = sign_request(
                stage,
                plan.workflow,
                request,
                archive=sent.packed.sha256,
                digest=sent.packed.summary.digest,
                variables=plan.variables.encode() if environment else b"",
                run_id=plan.run_id,
            )
            request = dataclasses.replace(request, signature=signature)
            with explain_interruption(
                stage, plan.workflow, plan.run_id, cancel=waiting.cancel_on_exit
            ):
                start_execution(stage, plan.workflow, plan.run_id, request)
        shown.line(f"Run {plan.run_id}")
        live = _live_output(stage, plan, shown, False if output.json else show, output.form)
        followed = follow(stage, plan.workflow, plan.run_id, shown, waiting, live)
    if live and live.has_stdout:
        output = dataclasses.replace(output, form=RAW)
    packing_view.show_warnings(plan.prepared, sent.packed, output)
    show_outcome(stage, followed, output, uploaded_json(plan.run_id, plan.prepared, sent))


def _live_output(
    stage: DeployedStage, plan: RunPlan, shown: Progress, wanted: bool | None, form: str | None
) -> LiveOutput | None:
    if not plan.request.command:
        return None
    tail = LogTail(stage, plan.run_id, since=int(time.time() * 1000) - CLOCK_MS)
    later = f"ferry logs {plan.run_id} -f{stage.option()}"
    bare = None if form is None else form == RAW
    return LiveOutput(tail, shown, wanted=wanted, bare=bare, later=later)
