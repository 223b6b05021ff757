"""Start a run as `push`, `run` and `script` do: upload, start, follow; or `--dry-run`."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.signing import sign_request
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.options.groups import Waiting
from codeferry_cli.packing.errors import show
from codeferry_cli.packing.project import Prepared, measure
from codeferry_cli.runs import reach
from codeferry_cli.runs.follow import explain_interruption
from codeferry_cli.runs.logs import CLOCK_MS, LogTail
from codeferry_cli.runs.start import RunPlan, left_behind, price, require_expected, start_execution
from codeferry_cli.runs.upload import uploaded_variables
from codeferry_cli.terminal.output import RAW, Output, contacting_aws
from codeferry_cli.terminal.progress import Progress, progress
from codeferry_cli.views import packing_view
from codeferry_cli.views.live_output import LiveOutput
from codeferry_cli.views.run_view import follow, show_outcome, upload_archive, uploaded_json
from codeferry_contracts import formatting
from codeferry_contracts.layout import archive_key
from codeferry_contracts.names import SYNC
from codeferry_contracts.target import parse_target


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
    for path in left_behind(plan):
        output.note(
            f"Warning: {path} has to be there, and lies here, but is not packed: "
            "something ignores it (--include-pattern takes it)."
        )
    require_expected(plan)
    if dry_run:
        _dry_run(plan, access, output)
    else:
        _start(plan, access, waiting, output, show)


def _dry_run(plan: RunPlan, access: Access, output: Output) -> None:
    """Of the variables only the names."""
    instances = show_reach(access, plan.request.target, output)
    said: dict[str, Any] = {"request": plan.request.to_json()}
    if plan.variables.values:
        said["variables"] = plan.variables.names
    show_dry_run(plan.prepared, output, said, plan.request.target, instances)


def _start(
    plan: RunPlan, access: Access, waiting: Waiting, output: Output, show: bool | None
) -> None:
    """Upload, start, follow, and say how it went."""
    stage = find_stage(Aws(access), contacting_aws)
    reached = reach.require_instances(stage, plan.request.target, output.note)
    if plan.workflow == SYNC:
        reach.warn_of_another_owner(stage, reached, plan.request, output.note)
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


def show_reach(access: Access, target: str, output: Output) -> dict[str, Any] | None:
    """For ``--dry-run``: every instance, as data. It asks nothing that has to be there, so that
    it also works without AWS: then None, and it is said why. Raises NoInstances."""
    what = f"Not asked which instances {target} reaches"
    found = reach.unless_aws_unusable(
        access,
        output.note,
        what,
        lambda: reach.ask_instances(find_stage(Aws(access), contacting_aws), target),
    )
    if found is None:
        return None
    reach.tell_instances(found, output.line, each=True)
    return found.to_json()


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


def _price_line(priced: Mapping[str, Any]) -> str:
    known = priced["instances"]
    of = "one instance" if known is None else formatting.counted(known, "instance")
    nat = f"; through a NAT gateway ${priced['nat_usd']:.2f} more" if priced["nat_usd"] else ""
    return f"Price: about ${priced['usd']:.4f} for {of} at list price{nat}"


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2)
