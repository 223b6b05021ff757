"""`ferry rollback`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.commands.start import show_reach
from codeferry_cli.options import groups
from codeferry_cli.options.groups import Waiting
from codeferry_cli.options.run import RunOptions, rollback_options
from codeferry_cli.options.types import PROJECT, RELEASE, RELEASE_DIGITS
from codeferry_cli.packing import find_root
from codeferry_cli.runs import reach
from codeferry_cli.runs.find import choose_run, source_of, started_by
from codeferry_cli.runs.follow import explain_interruption
from codeferry_cli.runs.record import RunRecord
from codeferry_cli.runs.releases import find_release
from codeferry_cli.runs.request import build_rollback
from codeferry_cli.runs.start import start_execution
from codeferry_cli.terminal.output import Output, contacting_aws
from codeferry_cli.terminal.progress import progress
from codeferry_cli.views.run_view import follow, show_outcome
from codeferry_contracts.names import ROLLBACK, new_run_id, project_name
from codeferry_contracts.request import RunRequest
from codeferry_contracts.target import parse_target


@click.command(cls=FerryCommand, short_help="Make an earlier release current again.")
@groups.target_argument
@groups.directory_argument
@groups.option("--project", type=PROJECT, help="The project, instead of DIR's.")
@click.option("--to", "release", type=RELEASE, help="This release.  [default: the one before]")
@rollback_options
@groups.start_options
def rollback(
    target: str,
    directory: Path | None,
    project: str | None,
    release: str | None,
    run: RunOptions,
    waiting: Waiting,
    dry_run: bool,
    access: Access,
    output: Output,
) -> None:
    """Make an earlier release of a project current again on every instance of TARGET.

    Nothing is uploaded or unpacked: releases are kept on the instances, and this switches to
    one of them. Without --to each instance goes back to the release it had before its own.
    TARGET may also be run:RUN, for the instances that a run has given its release; those
    that have got another one since keep that.

    \b
    Examples:
      ferry rollback gpu-workers
      ferry rollback gpu-workers --project train --to 41967ebe10bd
      ferry rollback run:latest
      ferry rollback run:20261120-101500-train-1f0c9a2e
    """
    project = project or _project_of(directory)
    named = None if _is_run(target) else project
    if not _is_complete(target, release):
        looked_up = partial(_resolve, target, release, project, access, output)
        target, release = (
            looked_up()
            if not dry_run
            else reach.unless_aws_unusable(
                access, output.note, "Not looked up what that is", looked_up
            )
            or (target, release)
        )
    request = build_rollback(target, named, release, run, started_by(find_root(directory)))
    if dry_run:
        _dry_run(request, access, output)
    else:
        _roll_back(request, access, waiting, output)


def _is_run(target: str) -> bool:
    """Whether the target says the project already."""
    return parse_target(target).kind in ("run", "wave")


def _resolve(
    target: str, release: str | None, project: str, access: Access, output: Output
) -> tuple[str, str | None]:
    """Target and release as the request has them, from what was typed: a run by the beginning of
    its name or `latest`, a release by its first digits. Asks AWS only where that is needed."""
    typed = parse_target(target)
    stage = find_stage(Aws(access), contacting_aws)
    if typed.kind in ("run", "wave"):
        named = choose_run(stage, typed.value, project, output.note).run_id
        target = f"{typed.kind}:{named}"
        project = _project_of_run(stage, named)
    if release is not None and len(release) < RELEASE_DIGITS:
        release = find_release(stage, project, _instances(stage, target), release, target)
        output.note(f"Release {release}")
    return target, release


def _is_complete(target: str, release: str | None) -> bool:
    """Whether nothing has to be looked up: a run's name as ferry makes them, a whole release."""
    typed = parse_target(target)
    named = typed.kind not in ("run", "wave") or source_of(typed.value) != "console"
    return named and (release is None or len(release) == RELEASE_DIGITS)


def _instances(stage: DeployedStage, target: str) -> set[str]:
    if _is_run(target):
        report = RunRecord(stage, parse_target(target).value).report()
        return {o["instance_id"] for o in report["instances"]} if report else set()
    asked = reach.ask_instances(stage, target)
    return {*asked.reachable, *(o["instance_id"] for o in asked.unreachable)}


def _project_of_run(stage: DeployedStage, run_id: str) -> str:
    report = RunRecord(stage, run_id).report()
    return report["project"] if report else ""


def _project_of(directory: Path | None) -> str:
    return project_name(find_root(directory).name)


def _dry_run(request: RunRequest, access: Access, output: Output) -> None:
    asks = not _is_run(request.target)
    instances = show_reach(access, request.target, output) if asks else None
    wanted = f"release {request.release}" if request.release else "the release before"
    output.line(f"Would make {wanted} of {request.project or 'its project'} current again")
    output.line(f"Request: {json.dumps(request.to_json(), indent=2)}")
    output.document({"dry_run": True, "request": request.to_json(), "instances": instances})


def _roll_back(request: RunRequest, access: Access, waiting: Waiting, output: Output) -> None:
    stage = find_stage(Aws(access), contacting_aws)
    run_id = new_run_id(request.project or ROLLBACK, datetime.now(UTC))
    request = reach.understood_by_stage(
        request, reach.require_instances(stage, request.target, output.note)
    )
    with progress() as shown:
        with explain_interruption(stage, ROLLBACK, run_id, cancel=waiting.cancel_on_exit):
            start_execution(stage, ROLLBACK, run_id, request)
        shown.line(f"Run {run_id}")
        followed = follow(stage, ROLLBACK, run_id, shown, waiting)
    show_outcome(stage, followed, output, {"run_id": run_id, "request": request.to_json()})
