"""What an instance without processes says: the result line of a release that was applied."""

from __future__ import annotations

import binascii
import json
from typing import Any

from codeferry_contracts.archive import release_id
from codeferry_contracts.parameters import PAYLOAD_PARAMETER, decode_payload
from codeferry_contracts.result import RESULT_FORMAT, RESULT_KEY
from codeferry_local.ssm.executors import InvocationContext


def applied(context: InvocationContext) -> tuple[int, str, str]:
    """Success with the payload's tree; without any output for a command that has no payload."""
    try:
        payload = decode_payload(str(context.parameters[PAYLOAD_PARAMETER]))
        line = _result_line(payload)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return 0, "", ""
    return 0, f"{json.dumps(line, separators=(',', ':'))}\n", ""


def _result_line(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        RESULT_KEY: RESULT_FORMAT,
        "run_id": payload["run_id"],
        "status": "applied",
        "project": payload["project"],
        "release_id": release_id(payload["digest"]),
        "digest": payload["digest"],
        "files": payload["files"],
        "manifest": bool(payload["digest"]),
    }
