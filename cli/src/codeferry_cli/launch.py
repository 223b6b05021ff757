"""From a project and a request to a run that is followed to its end."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from codeferry_cli import packing_view
from codeferry_cli.archive import Prepared
from codeferry_cli.aws import Aws
from codeferry_cli.ending import conclude
from codeferry_cli.follow import accompany
from codeferry_cli.live_output import LiveOutput
from codeferry_cli.logs import CLOCK_MS, LogTail
from codeferry_cli.options import Access, Waiting
from codeferry_cli.output import Output
from codeferry_cli.progress import Progress, progress
from codeferry_cli.rehearsal import rehearse
from codeferry_cli.request import build_request
from codeferry_cli.run_options import RunOptions
from codeferry_cli.stage import DeployedStage, find_stage
from codeferry_cli.start import start
from codeferry_cli.upload import send, sent_json
from codeferry_cli.variables import Variables, lent
from codeferry_contracts.entry import entry_script
from codeferry_contracts.layout import archive_key, environment_key
from codeferry_contracts.names import SYNC, new_run_id
from codeferry_contracts.request import Archive, Environment, RunRequest
from codeferry_contracts.target import parse_target


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
    request = build_request(
        target,
        prepared.project,
        run,
        Archive(archive_key(run_id)),
        command,
        Environment(environment_key(run_id)) if given.values else None,
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
    ``--output``. Raises RunFailed unless all of it went well, and what its parts raise."""
    for path in _left_behind(plan):
        output.note(
            f"Warning: {path} has to be there, and lies here, but is not packed: "
            "something ignores it (--include-pattern takes it)."
        )
    if dry_run:
        _rehearse(plan, output)
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


def _rehearse(plan: Launch, output: Output) -> None:
    """Of the variables only the names."""
    said: dict[str, Any] = {"request": plan.request.to_json()}
    if plan.variables.values:
        said["variables"] = plan.variables.names
    named = parse_target(plan.request.target).instances
    rehearse(plan.prepared, output, said, len(named) or None)


def _launch(
    plan: Launch, access: Access, waiting: Waiting, output: Output, show: bool | None
) -> None:
    """Upload, start, follow, and say how it went."""
    stage = find_stage(Aws(access))
    with progress() as shown:
        sent = send(stage, plan.prepared, archive_key(plan.run_id), shown)
        with lent(stage, plan.run_id, plan.variables) as environment:
            request = dataclasses.replace(
                plan.request, archive=sent.archive, environment=environment
            )
            start(stage, plan.workflow, plan.run_id, request)
        shown.line(f"Run {plan.run_id}")
        live = _live_output(stage, plan, shown, False if output.json else show)
        followed = accompany(stage, plan.workflow, plan.run_id, shown, waiting, live)
    packing_view.show_warnings(plan.prepared, sent.packed, output)
    conclude(stage, followed, output, sent_json(plan.run_id, plan.prepared, sent))


def _live_output(
    stage: DeployedStage, plan: Launch, shown: Progress, wanted: bool | None
) -> LiveOutput | None:
    if not plan.request.command:
        return None
    tail = LogTail(stage, plan.run_id, since=int(time.time() * 1000) - CLOCK_MS)
    later = f"ferry logs {plan.run_id} -f{stage.option()}"
    return LiveOutput(tail, shown, wanted=wanted, later=later)
