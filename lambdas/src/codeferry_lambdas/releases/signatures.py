"""Refuse a run that nobody who may sign has asked for.

An instance checks again, by the key that its document pins, since what stands in the record
between plan and dispatch is only as safe as the bucket. What it cannot know is checked here alone:
which instances a target means."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

from codeferry_contracts import signing
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.layout import INBOX_PREFIX, is_release_key, signature_key
from codeferry_contracts.names import SYNC
from codeferry_contracts.parameters import asks_for
from codeferry_contracts.request import Archive, RunRequest, Signature, parse_signature
from codeferry_contracts.target import parse_target
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import SignatureRefused
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.releases import archives
from codeferry_lambdas.runs.command import payload_for
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Plan, Run

_AHEAD_SECONDS = 900
_LIMIT = 16 << 10  # bytes of a .sig, which has some 1,300


def with_signature(settings: Settings, request: RunRequest) -> RunRequest:
    """The request with the signature that lies beside an upload to the inbox."""
    archive = request.archive
    if archive is None or not archive.key.startswith(INBOX_PREFIX):
        return request
    if not settings.signing_key or request.signature:
        return request
    key = signature_key(archive.key)
    try:
        archives.find_archive(
            settings.bucket, dataclasses.replace(archive, key=key, version_id=None)
        )
        body = clients.s3().get_object(Bucket=settings.bucket, Key=key)["Body"].read(_LIMIT)
        found = parse_signature(json.loads(body))
    except (CodeferryError, ValueError) as error:
        raise _refused(
            f"There is no signature at {key}, or it is not one.",
            "signature_missing",
            "Use ferry upload, as somebody who may use the signing key: it puts it there first.",
        ) from error
    return dataclasses.replace(request, signature=found)


def require(settings: Settings, plan: Plan, run: Run) -> None:
    """SignatureRefused unless the plan is what was signed; where releases are signed at all."""
    request = plan.run_request
    if not settings.signing_key or plan.archive is None:
        return
    signature = request.signature
    if signature is None:
        raise _refused("The run is not signed.", "signature_missing", _SIGN)
    message = _message(settings, plan, run, signature)
    if not signing.is_valid(settings.signing_key, message, signature.value):
        raise _refused(
            "The signature is not of this archive, project, target, command and variables, "
            "or not by this stage's key.",
            "signature_invalid",
            _SIGN,
        )
    _require_valid(signature, run, kept=is_release_key(plan.archive.key))
    _require_variables(settings, signature, plan)
    _require_target(settings, signature, plan)
    if run.workflow == SYNC and not is_release_key(plan.archive.key):
        _require_newer(settings, signature, plan.project)


_SIGN = "Start it with ferry, as somebody who may use the signing key."


def _message(settings: Settings, plan: Plan, run: Run, signature: Signature) -> bytes:
    """Of the payload, which instances check the same way."""
    payload, stage = payload_for(plan, run, ""), settings.stage.name
    return signing.payload_message(
        signature.delivered(), payload, stage=stage, workflow=run.workflow
    )


def _require_valid(signature: Signature, run: Run, *, kept: bool) -> None:
    """Of this run, and of now: only what is kept has no end, and nobody signs ahead of time, which
    would shut out everybody else."""
    now = time.time()
    if signature.run_id not in ("", run.id):
        raise _refused(f"It was signed for the run {signature.run_id}.", "signature_invalid", _SIGN)
    if signature.sequence > (now + _AHEAD_SECONDS) * 1000:
        raise _refused(
            "It was signed in the future.", "signature_invalid", "Set the clock where you sign."
        )
    if signature.expires_at < now and not (kept and signature.expires_at == 0):
        raise _refused("The signature has expired.", "signature_expired", "Push it again.")


def _require_variables(settings: Settings, signature: Signature, plan: Plan) -> None:
    """As far as S3 has their checksum; the instance, which has the bytes, compares them."""
    known, pinned = signature.environment, plan.environment
    if pinned:
        named = Archive(pinned.key, version_id=pinned.version_id)
        known = archives.find_archive(settings.bucket, named).sha256 or known
    if bool(pinned) != bool(signature.environment) or known != signature.environment:
        raise _refused("The signature is of other variables.", "signature_invalid", _SIGN)


def _require_target(settings: Settings, signature: Signature, plan: Plan) -> None:
    """The run reaches nobody whom the signed target does not mean."""
    if signature.target == plan.run_request.target:
        return
    meant = targets.resolve(parse_target(signature.target), settings)
    reached = {instance.instance_id for batch in plan.batches for instance in batch}
    others = sorted(reached - {instance.instance_id for instance in meant.reachable})
    if others:
        raise _refused(
            f"It was signed for {signature.target}, which {', '.join(others[:5])} is not.",
            "signature_target",
            "Push it to them.",
        )


def _require_newer(settings: Settings, signature: Signature, project: str) -> None:
    if not Ledger(settings.table).note_signed(signature.target, project, signature.sequence):
        raise _refused(
            f"A release of {project} that was signed later has gone to {signature.target}.",
            "signature_replayed",
            "Push it again, or go back with ferry rollback.",
        )


def require_asking(settings: Settings, plan: Plan) -> None:
    """SignatureRefused for a document that would take an unsigned release: the record names the
    version, and one of before is still there. A rollback takes nothing from outside."""
    if not settings.signing_key or plan.archive is None:
        return
    pinned = plan.document
    described: Any = clients.ssm().describe_document(
        Name=pinned.name, DocumentVersion=pinned.version
    )
    if not asks_for(described["Document"].get("Description", ""), settings.signing_key):
        raise _refused(
            f"{pinned.name} in version {pinned.version} does not ask for this stage's signature.",
            "signature_invalid",
            "Start the run again; if it stays so, deploy the stage.",
        )


def _refused(message: str, code: str, hint: str) -> SignatureRefused:
    return SignatureRefused(message, hint=hint, code=code)
