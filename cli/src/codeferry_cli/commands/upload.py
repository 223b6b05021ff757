"""`ferry upload`."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path

import click

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.signing import sign_request
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.commands.command import FerryCommand
from codeferry_cli.commands.start import show_dry_run, show_reach
from codeferry_cli.options import groups
from codeferry_cli.options.groups import Packing, Waiting
from codeferry_cli.packing import project
from codeferry_cli.packing.project import BeforeEnd, Prepared
from codeferry_cli.runs import reach
from codeferry_cli.runs.start import await_execution
from codeferry_cli.terminal.output import Output, contacting_aws
from codeferry_cli.terminal.progress import progress
from codeferry_cli.views import packing_view
from codeferry_cli.views.run_view import follow, show_outcome, upload_archive, uploaded_json
from codeferry_contracts.archive import Summary
from codeferry_contracts.layout import inbox_key, signature_key
from codeferry_contracts.names import SYNC, inbox_run_id
from codeferry_contracts.request import Archive, RunRequest


@click.command(
    cls=FerryCommand, short_help="Pack and upload to the inbox; the arrival starts the run."
)
@groups.target_argument
@groups.directory_argument
@groups.packing_options
@groups.start_options
def upload(
    target: str,
    directory: Path | None,
    packing: Packing,
    waiting: Waiting,
    dry_run: bool,
    access: Access,
    output: Output,
) -> None:
    """Pack a project and upload it to the inbox of TARGET; its arrival starts the run.

    This is the way of programs that may write to the inbox and nothing more: the same
    archive put there by any S3 client does the same. The run takes every option at its
    default.

    \b
    Examples:
      ferry upload gpu-workers
      ferry upload gpu-workers ./service --no-wait
      ferry upload gpu-workers --dry-run
    """
    prepared = project.prepare(directory, packing)
    key = inbox_key(target, _upload_name(prepared.project))
    packing_view.show_selection(prepared, output)
    if dry_run:
        instances = show_reach(access, target, output)
        show_dry_run(prepared, output, {"key": key}, target, instances)
    else:
        _upload(prepared, target, key, access, waiting, output)


def _upload(
    prepared: Prepared, target: str, key: str, access: Access, waiting: Waiting, output: Output
) -> None:
    stage = find_stage(Aws(access), contacting_aws)
    reach.require_instances(stage, target, output.note)
    with progress() as shown:
        sent = upload_archive(
            stage, prepared, key, shown, _signing(stage, target, prepared.project, key)
        )
        run_id = inbox_run_id(stage.bucket, key, sent.archive.version_id or "")
        shown.line(f"Run {run_id}")
        if waiting.wait:
            shown.now("Waiting for the upload to start its run…", mark="arrival")
            await_execution(stage, run_id)
        followed = follow(stage, SYNC, run_id, shown, waiting)
    packing_view.show_warnings(prepared, sent.packed, output)
    show_outcome(stage, followed, output, uploaded_json(run_id, prepared, sent))


def _signing(stage: DeployedStage, target: str, project: str, key: str) -> BeforeEnd:
    """The step that puts the signature beside the upload, before that is there."""

    def put_signature(sha256: str, summary: Summary) -> None:
        request = RunRequest(Archive(key), target, project)
        signature = sign_request(stage, SYNC, request, archive=sha256, digest=summary.digest)
        if signature:
            body = json.dumps(signature.to_json()).encode()
            stage.s3.put_object(Bucket=stage.bucket, Key=signature_key(key), Body=body)

    return put_signature


def _upload_name(project: str) -> str:
    """Different for every upload, so that two at once never meet in one key."""
    return f"{project}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
