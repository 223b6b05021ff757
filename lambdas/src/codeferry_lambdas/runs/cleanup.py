"""Stop a run's commands and delete what they read. Done twice, it is the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from codeferry_contracts.layout import (
    INBOX_PREFIX,
    is_archive_key,
    is_environment_of,
    signature_key,
)
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import RunClosed, ignored
from codeferry_lambdas.aws.observability import logger
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import PinnedArchive, PinnedEnvironment, Record, Run


def clean_up(settings: Settings, run: Run, request: Any) -> None:
    """Stop the commands, then delete what they read: the archive and a command's variables."""
    stop_commands(Ledger(settings.table), run.id)
    plan = Record(settings.bucket, run.keys).find_plan()
    # Keys come from outside: only where archives lie may anything be deleted.
    key, version_id = _named(plan.archive if plan else None, request, "archive")
    if is_archive_key(key):
        delete_object(settings.bucket, key, version_id)
        if settings.signing_key and key.startswith(INBOX_PREFIX):
            delete_object(settings.bucket, signature_key(key), "")
        abort_uploads(settings.bucket, key, datetime.fromisoformat(run.started_at))
    key, version_id = _named(plan.environment if plan else None, request, "environment")
    if is_environment_of(key, run.id):
        delete_object(settings.bucket, key, version_id)


def stop_commands(ledger: Ledger, run_id: str) -> None:
    """Close the run, cancel what has not ended, and forget the tokens."""
    ledger.close(run_id)
    for batch in ledger.batches(run_id):
        if not batch.command_id:
            continue
        if not batch.ended:
            _cancel(batch.command_id)
        ledger.forget_token(batch.command_id)


def stop_if_closed(ledger: Ledger, run_id: str, command_id: str) -> None:
    """Cleanup closes the run, then cancels the commands it knows; dispatch makes the command
    known, then looks at the run. One of the two sees the other."""
    if ledger.is_closed(run_id):
        clients.ssm().cancel_command(CommandId=command_id)
        raise RunClosed("The run was ended while this batch was being sent.")


def _cancel(command_id: str) -> None:
    try:
        clients.ssm().cancel_command(CommandId=command_id)
    except clients.ssm().exceptions.InvalidCommandId:
        logger.info("There is no such command to cancel.", extra={"command_id": command_id})


def _named(
    pinned: PinnedArchive | PinnedEnvironment | None, request: Any, field: str
) -> tuple[str, str]:
    """An object's key and version as plan pinned them, else as the request names them."""
    if pinned is not None:
        return pinned.key, pinned.version_id
    stated = request.get(field) if isinstance(request, dict) else None
    if not isinstance(stated, dict):
        return "", ""
    return str(stated.get("key", "")), str(stated.get("version_id", ""))


def delete_object(bucket: str, key: str, version_id: str) -> None:
    """Delete the version the run is for (the latest when it named none) and the key's
    delete markers. Another version may be another run's."""
    found = list(_versions(bucket, key))
    latest = {item["VersionId"] for item in found if item["IsLatest"]} if not version_id else set()
    markers = {item["VersionId"] for item in found if "Size" not in item}
    for version in latest | markers | ({version_id} - {""}):
        with ignored("NoSuchKey", "NoSuchVersion", "404"):
            clients.s3().delete_object(Bucket=bucket, Key=key, VersionId=version)


def _versions(bucket: str, key: str) -> Iterator[Any]:
    """Versions and delete markers of exactly this key; a marker has no size."""
    pages = clients.s3().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
    for page in pages:
        for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            if item["Key"] == key:
                yield item


def abort_uploads(bucket: str, key: str, before: datetime) -> None:
    """Abort the key's multipart uploads from before the run; a later one is the next upload."""
    pages = clients.s3().get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key)
    for page in pages:
        for upload in page.get("Uploads", ()):
            if upload["Key"] == key and upload["Initiated"] < before:
                with ignored("NoSuchUpload"):
                    clients.s3().abort_multipart_upload(
                        Bucket=bucket, Key=key, UploadId=upload["UploadId"]
                    )
