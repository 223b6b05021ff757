"""The stand-in stage's one function: writes the record of a run, answers `doctor`.

What it records follows the target's name: `fleet` goes well, `partial` loses one of three.
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3

DIGEST = "d" * 64
IDS = [f"i-{number:017x}" for number in (1, 2, 3)]


def handler(event: Any, context: object) -> dict[str, Any]:
    if "step" not in event:
        return check(event["target"])
    s3 = boto3.client("s3", endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))
    outcomes = [outcome(event["target"], instance_id) for instance_id in IDS]
    prefix = f"runs/{event['run_id']}/"
    if event["step"] == "collect":
        for found in outcomes:
            put(s3, event["bucket"], f"{prefix}instances/{found['instance_id']}.json", found)
        return {}
    found = report(event, outcomes)
    put(s3, event["bucket"], f"{prefix}report.json", found)
    return {"succeeded": found["status"] == "SUCCEEDED"}


def put(s3: Any, bucket: str, key: str, document: object) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(document).encode())


def check(target: str) -> dict[str, Any]:
    if target == "broken":
        raise RuntimeError("the check function broke")
    lost = {"instance_id": IDS[1], "reason": "It is stopped.", "fix": "Start it: aws ec2 start"}
    reachable = [] if target == "unreachable" else [IDS[0]]
    return {"reachable": reachable, "unreachable": [lost]}


def outcome(target: str, instance_id: str) -> dict[str, Any]:
    failed = target == "partial" and instance_id == IDS[2]
    error = {
        "code": "disk_full",
        "message": "No space \x1b[31mleft\x1b[0m on the [bold]device[/bold].",
        "hint": "Free some space under /opt.",
    }
    return {
        "instance_id": instance_id,
        "name": "web-" + instance_id[-1],
        "status": "failed" if failed else "succeeded",
        "ssm_status": "Failed" if failed else "Success",
        "command_id": "c",
        "change": "" if failed else "applied",
        "release_id": "" if failed else DIGEST[:20],
        "digest": "" if failed else DIGEST,
        "files": 0 if failed else 12,
        "bytes": 0 if failed else 3400,
        "previous": "",
        "manifest": True,
        "warnings": [],
        "unmet": [],
        "seconds": {} if failed else {"download": 0.2, "extract": 0.3},
        "error": error if failed else None,
    }


def report(event: Any, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    good = sum(found["status"] == "succeeded" for found in outcomes)
    ok = good == len(outcomes)
    error = {
        "code": "instances_failed",
        "message": f"{good}/{len(outcomes)} instances have the release.",
        "hint": "See the reason of each instance.",
        "phase": "apply",
    }
    return {
        "format": 1,
        "run_id": event["run_id"],
        "workflow": "sync",
        "stage": "local",
        "status": "SUCCEEDED" if ok else "FAILED",
        "project": "demo",
        "target": event["target"],
        "started_at": "2026-11-20T16:00:00+00:00",
        "finished_at": "2026-11-20T16:00:04+00:00",
        "archive": None,
        "counts": {"total": 3, "succeeded": good, "failed": 3 - good, "skipped": 0},
        "instances": outcomes,
        "verification": {
            "source": "manifest",
            "release_id": DIGEST[:20],
            "digest": DIGEST,
            "files": 12,
            "bytes": 3400,
            "verified": good,
            "mismatched": [],
            "python_files": ["train.py"],
            "python_file_count": 1,
            "warnings": [],
        },
        "warnings": ["The archive could not be deleted."],
        "error": None if ok else error,
    }
