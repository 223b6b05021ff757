"""From a project and a request to a run that is followed to its end."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from codeferry_cli import packing_view, reach
from codeferry_cli.archive import Prepared
from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.ending import conclude
from codeferry_cli.errors import ExpectationUnmet
from codeferry_cli.follow import accompany, watched
from codeferry_cli.here import started_by
from codeferry_cli.live_output import LiveOutput
from codeferry_cli.logs import CLOCK_MS, LogTail
from codeferry_cli.options.groups import Waiting
from codeferry_cli.packing import find_root
from codeferry_cli.rehearsal import rehearse
from codeferry_cli.request import build_request
from codeferry_cli.run_options import RunOptions
from codeferry_cli.signing import sign_request
from codeferry_cli.start import start
from codeferry_cli.terminal.output import RAW, Output, contacting_aws
from codeferry_cli.terminal.progress import Progress, progress
from codeferry_cli.upload import send, sent_json
from codeferry_cli.variable_upload import lent
from codeferry_cli.variables import Variables
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


@dataclass(frozen=True)
class Launch:
    """A run about to be started: what is packed, and what is asked of the workflow.

    The request's archive and environment name keys; versions are known once they are there.
    """

    workflow: str
    run_id: str
    prepared: Prepared
    request: RunRequest
    variables: Variables


def planned(
    workflow: str,
    target: str,
    prepared: Prepared,
    run: RunOptions,
    command: tuple[str, ...] = (),
    variables: Variables | None = None,
) -> Launch:
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
    return Launch(workflow, run_id, prepared, request, given)


def carry_out(
    plan: Launch,
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
        _rehearse(plan, access, output)
    else:
        _launch(plan, access, waiting, output, show)


def _left_behind(plan: Launch) -> list[str]:
    """What the run needs of the project, and what it would fail for on every instance."""
    if plan.workflow != SYNC:
        return []
    entry = entry_script(plan.request.command) if plan.request.command else None
    needed = dict.fromkeys([*plan.request.expect.files, *([entry] if entry else [])])
    selection = plan.prepared.selection
    here = [path for path in needed if (selection.root / path).is_file()]
    packed = {file.path for file in selection.files} if here else set()
    return [path for path in here if os.fsencode(path) not in packed]


def _require_expected(plan: Launch) -> None:
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


def _rehearse(plan: Launch, access: Access, output: Output) -> None:
    """Of the variables only the names."""
    instances = reach.rehearse(access, plan.request.target, output)
    said: dict[str, Any] = {"request": plan.request.to_json()}
    if plan.variables.values:
        said["variables"] = plan.variables.names
    rehearse(plan.prepared, output, said, plan.request.target, instances)


def _launch(
    plan: Launch, access: Access, waiting: Waiting, output: Output, show: bool | None
) -> None:
    """Upload, start, follow, and say how it went."""
    stage = find_stage(Aws(access), contacting_aws)
    reached = reach.require(stage, plan.request.target, output)
    if plan.workflow == SYNC:
        reach.warn_of_anothers(stage, reached, plan.request, output)
    with progress() as shown:
        sent = send(stage, plan.prepared, archive_key(plan.run_id), shown)
        with lent(stage, plan.run_id, plan.variables) as environment:
            request = dataclasses.replace(
                reach.understood(plan.request, reached),
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
            with watched(stage, plan.workflow, plan.run_id, cancel=waiting.cancel_on_exit):
                start(stage, plan.workflow, plan.run_id, request)
        shown.line(f"Run {plan.run_id}")
        live = _live_output(stage, plan, shown, False if output.json else show, output.form)
        followed = accompany(stage, plan.workflow, plan.run_id, shown, waiting, live)
    if live and live.has_stdout:
        output = dataclasses.replace(output, form=RAW)
    packing_view.show_warnings(plan.prepared, sent.packed, output)
    conclude(stage, followed, output, sent_json(plan.run_id, plan.prepared, sent))


def _live_output(
    stage: DeployedStage, plan: Launch, shown: Progress, wanted: bool | None, form: str | None
) -> LiveOutput | None:
    if not plan.request.command:
        return None
    tail = LogTail(stage, plan.run_id, since=int(time.time() * 1000) - CLOCK_MS)
    later = f"ferry logs {plan.run_id} -f{stage.option()}"
    bare = None if form is None else form == RAW
    return LiveOutput(tail, shown, wanted=wanted, bare=bare, later=later)
