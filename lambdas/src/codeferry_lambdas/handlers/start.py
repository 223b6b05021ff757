"""start: an upload into the inbox becomes a run.

Whatever the key looks like, a run is started: plan refuses what makes no sense and says
so where people look. Only folder markers, which consoles create, and signatures start nothing."""

from __future__ import annotations

from typing import Any

from codeferry_contracts.errors import RequestInvalid
from codeferry_contracts.layout import SIGNATURE_SUFFIX, parse_inbox_key
from codeferry_contracts.names import inbox_run_id
from codeferry_lambdas.aws.observability import Event, entry, logger
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.executions import start_once


@entry
def handler(event: Event) -> None:
    """Takes EventBridge's S3 "Object Created". Its key is not URL-encoded, unlike the key
    in S3's own notifications (Amazon S3 User Guide, "EventBridge event message structure").
    """
    settings = Settings.from_env(None, "STATE_MACHINE_ARN_SYNC")
    detail = event["detail"]
    key, version_id = detail["object"]["key"], detail["object"].get("version-id", "")
    if key.endswith(("/", SIGNATURE_SUFFIX)):
        logger.info("Ignored a folder marker or a signature.", extra={"key": key})
        return
    run_id = inbox_run_id(detail["bucket"]["name"], key, version_id)
    start_once(settings.start_arn, run_id, request_for(key, version_id))


def request_for(key: str, version_id: str) -> dict[str, Any]:
    """The run request an upload stands for; without a target when the key names none."""
    archive = {"key": key} | ({"version_id": version_id} if version_id else {})
    try:
        return {"archive": archive, "target": parse_inbox_key(key).target}
    except RequestInvalid:
        return {"archive": archive}
