"""From a project and a request to a run that is followed to its end."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
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
from codeferry_cli.stage import DeployedStage, find_stage
from codeferry_cli.start import start
from codeferry_cli.upload import send, sent_json
from codeferry_cli.variables import Variables, lent
from codeferry_contracts.layout import archive_key
from codeferry_contracts.request import RunRequest


@dataclass(frozen=True)
class Launch:
    """A run about to be started: what is packed, and what is asked of the workflow.

    The request's archive and environment name keys; versions are known once they are there.
    """

    workflow: str
    run_id: str
    prepared: Prepared
    request: RunRequest
    variables: Variables = field(default_factory=Variables)


def rehearse_launch(plan: Launch, output: Output) -> None:
    """Say what would be packed and asked; of the variables only the names."""
    said: dict[str, Any] = {"request": plan.request.to_json()}
    if plan.variables.values:
        said["variables"] = plan.variables.names
    rehearse(plan.prepared, output, said)


def launch(
    plan: Launch, access: Access, waiting: Waiting, output: Output, show: bool | None = None
) -> None:
    """Upload, start, follow, and say how it went. ``show`` is ``--output``.

    Raises RunFailed unless all of it went well, and what its parts raise.
    """
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
    packing_view.show_warnings(sent.packed, output)
    conclude(stage, followed, output, sent_json(plan.run_id, plan.prepared, sent))


def _live_output(
    stage: DeployedStage, plan: Launch, shown: Progress, wanted: bool | None
) -> LiveOutput | None:
    if not plan.request.command:
        return None
    tail = LogTail(stage, plan.run_id, since=int(time.time() * 1000) - CLOCK_MS)
    later = f"ferry logs {plan.run_id} -f{stage.option()}"
    return LiveOutput(tail, shown, wanted=wanted, later=later)
