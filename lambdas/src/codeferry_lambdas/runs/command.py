"""One SendCommand: what it says, how it is sent, and how it is found when its answer was lost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any

from botocore.exceptions import ClientError

from codeferry_contracts.layout import agent_key
from codeferry_contracts.parameters import (
    APPLY_SECONDS,
    Payload,
    RollbackPayload,
    command_seconds,
    ssm_parameters,
)
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import THROTTLED, AwsRefused, code_of
from codeferry_lambdas.aws.observability import logger
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.fleet.batches import DELIVERY_SECONDS
from codeferry_lambdas.runs.invocations import ssm_status
from codeferry_lambdas.runs.ledger import BatchEntry, Ledger
from codeferry_lambdas.runs.record import PinnedArchive, PinnedEnvironment, Plan, Run, version_of

# A URL is good for as long as its command's delivery may take and then, on the instance, what
# comes before the last byte: of the agent 90 s (fetch.py), then of the variables 5 attempts.
AGENT_URL_SECONDS = DELIVERY_SECONDS + 120
ENVIRONMENT_URL_SECONDS = AGENT_URL_SECONDS + 60
_BUSY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)


def command_arguments(settings: Settings, plan: Plan, run: Run, failed: int) -> dict[str, Any]:
    """SendCommand's arguments but for the instances."""
    environment_url = presign(settings.bucket, plan.environment, ENVIRONMENT_URL_SECONDS)
    url = presign(settings.bucket, plan.archive, archive_url_seconds(plan))
    payload = payload_for(plan, run, url)
    document = plan.document
    agent_url = presign_agent(settings.agent_bucket, document.agent) if document.agent else ""
    return {
        "DocumentName": document.name,
        "DocumentVersion": document.version,
        "DocumentHash": document.hash,
        "DocumentHashType": "Sha256",
        "Comment": run.id,
        "TimeoutSeconds": DELIVERY_SECONDS,
        "MaxConcurrency": str(plan.concurrency),
        "MaxErrors": "100%" if plan.budget is None else str(plan.budget - failed),
        "Parameters": ssm_parameters(payload, plan.step_seconds, agent_url, environment_url),
        **({"CloudWatchOutputConfig": _output(settings)} if prints(plan) else {}),
    }


def _output(settings: Settings) -> dict[str, Any]:
    return {"CloudWatchLogGroupName": settings.log_group, "CloudWatchOutputEnabled": True}


def prints(plan: Plan) -> bool:
    """Whether there is output to be kept. Where there is no route to CloudWatch Logs the SSM agent
    tries for minutes before each step, while URLs age: a push does not need one."""
    request, rollout = plan.run_request, plan.run_request.options.rollout
    return bool(request.command or request.options.install or (rollout and rollout.health))


def send_batch(settings: Settings, plan: Plan, run: Run, number: int, failed: int) -> str:
    """Send to the batch, then to those of it that SSM knows; empty when that is nobody."""
    ids = [instance.instance_id for instance in plan.batches[number]]
    arguments = command_arguments(settings, plan, run, failed)
    try:
        return send_command(ids, arguments)
    except clients.sending_ssm().exceptions.InvalidInstanceId:
        # SSM refuses the whole command for one instance that left since plan.
        online = targets.online(ids)
    if online == ids:
        raise AwsRefused("SSM takes one of the instances for invalid, but knows all of them.")
    return send_command(online, arguments) if online else ""


def send_command(instance_ids: Sequence[str], arguments: dict[str, Any]) -> str:
    """Send, and again only when SSM says that it did not: it was too busy, or has too many."""
    for pause in (*_BUSY_SECONDS, None):
        try:
            answer = clients.sending_ssm().send_command(InstanceIds=list(instance_ids), **arguments)
        except ClientError as error:
            if pause is None or code_of(error) not in THROTTLED:
                raise
            time.sleep(pause)
        else:
            if pause is None or not over_quota(answer["Command"]):
                return answer["Command"]["CommandId"]
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def over_quota(sent: Mapping[str, Any]) -> bool:
    """Whether SSM took the command and cancelled it before any instance had it, because too many
    wait in the account ("Understanding command statuses", Systems Manager User Guide)."""
    return ssm_status(sent) == "RateExceeded"


def archive_url_seconds(plan: Plan) -> int:
    """The archive comes under the project's lock, and a download that broke off asks again: until
    the work that is not the command has to be done."""
    request = plan.run_request
    stated = 0 if request.command else request.options.timeout_seconds or 0
    return DELIVERY_SECONDS + max(APPLY_SECONDS, stated)


def presign(bucket: str, pinned: PinnedArchive | PinnedEnvironment | None, seconds: int) -> str:
    """A GET of exactly this object version; empty without one."""
    if pinned is None:
        return ""
    return _presigned({"Bucket": bucket, "Key": pinned.key, **version_of(pinned)}, seconds)


def presign_agent(bucket: str, sha256: str) -> str:
    """A GET of the code that a document has instances run."""
    return _presigned({"Bucket": bucket, "Key": agent_key(sha256)}, AGENT_URL_SECONDS)


def _presigned(params: Any, seconds: int) -> str:
    return clients.s3().generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)


def known_command(ledger: Ledger, plan: Plan, run: Run, number: int) -> str | None:
    """The batch's command when it was sent before, as the ledger or SSM remembers it."""
    earlier = ledger.reserve(run.id, number)
    if earlier is None:
        return None
    return earlier.command_id or find_command(plan, run, number, earlier)


def find_command(plan: Plan, run: Run, number: int, reserved: BatchEntry) -> str | None:
    """The command whose id was lost with SendCommand's answer."""
    ids = {instance.instance_id for instance in plan.batches[number]}
    since = reserved.reserved_at.astimezone(UTC) - timedelta(minutes=1)
    filters: Any = [
        {"key": "DocumentName", "value": plan.document.name},
        {"key": "InvokedAfter", "value": f"{since:%Y-%m-%dT%H:%M:%SZ}"},
    ]
    for page in clients.ssm().get_paginator("list_commands").paginate(Filters=filters):
        for command in page["Commands"]:
            sent_to = set(command.get("InstanceIds", ()))
            # An earlier attempt may have left out instances SSM no longer knew.
            ours = command.get("Comment") == run.id and sent_to and sent_to <= ids
            if ours and not over_quota(command):
                logger.info("Adopted a command.", extra={"command_id": command["CommandId"]})
                return command["CommandId"]
    return None


def payload_for(plan: Plan, run: Run, url: str) -> Payload | RollbackPayload:
    """The payload for the instances; the URL is presigned."""
    request = plan.run_request
    if plan.archive is None:
        return RollbackPayload(run.id, plan.project, request.release or "", plan.leaving)
    options, expect, rollout = request.options, request.expect, request.options.rollout
    return Payload(
        run_id=run.id,
        project=plan.project,
        url=url,
        sha256=plan.archive.sha256,
        size=plan.archive.size,
        digest=plan.digest,
        files=plan.files,
        unpacked_bytes=plan.unpacked.bytes,
        unpacked_files=plan.unpacked.files,
        keep_releases=options.keep_releases,
        strict=options.strict,
        user=options.user or "",
        persist=options.persist,
        expect_files=expect.files,
        expect_directories=expect.directories,
        command=request.command,
        command_seconds=command_seconds(run.workflow, options.timeout_seconds),
        environment=plan.environment is not None,
        install=options.install,
        returning=rollout is not None,
        bake_seconds=rollout.bake_seconds if rollout else 0,
        health=rollout.health if rollout else (),
        signature=request.signature.delivered() if request.signature else None,
    )
