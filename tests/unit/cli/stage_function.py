"""The stand-in stage's one function: writes the record of a run, answers `doctor`.

What it records follows the target's name: `fleet` goes well, `partial` loses one of three,
whose command, if there is one, exits with 3. A command prints its own words and more.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

import boto3

DIGEST = "d" * 64
IDS = [f"i-{number:017x}" for number in (1, 2, 3)]
LOG_GROUP = "/codeferry/local/commands"


def handler(event: Any, context: object) -> dict[str, Any]:
    if "step" not in event:
        return check(event["target"])
    s3 = client("s3")
    target = event["request"]["target"]
    command = event["request"].get("command", [])
    outcomes = [outcome(target, instance_id, command, event["workflow"]) for instance_id in IDS]
    prefix = f"runs/{event['run_id']}/"
    if event["step"] == "collect":
        record = {"command_id": event["run_id"], "log_group": LOG_GROUP, "instances": IDS}
        put(s3, event["bucket"], f"{prefix}commands/00000.json", record)
        if command:
            log(event["run_id"], command, "script" if event["workflow"] == "script" else "apply")
        for found in outcomes:
            put(s3, event["bucket"], f"{prefix}instances/{found['instance_id']}.json", found)
        return {}
    found = report(event, outcomes)
    put(s3, event["bucket"], f"{prefix}report.json", found)
    put(s3, event["bucket"], f"{prefix}report.html", {"a": "page"})
    return {"succeeded": found["status"] == "SUCCEEDED"}


def client(service: str) -> Any:
    return boto3.client(service, endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))


def put(s3: Any, bucket: str, key: str, document: object) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(document).encode())


def log(command_id: str, command: list[str], step: str) -> None:
    """What the command prints on each instance, as Run Command streams it."""
    logs = client("logs")
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=LOG_GROUP)
    now = int(time.time() * 1000)
    for number, instance_id in enumerate(IDS):
        stream = f"{command_id}/{instance_id}/{step}/stdout"
        logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
        result = {"codeferry_result": 1, "run_id": command_id, "status": "running"}
        lines = [json.dumps(result), "running " + " ".join(command), "\x1b[31mdone\x1b[0m"]
        events = [
            {"timestamp": now + 10 * n + number, "message": line} for n, line in enumerate(lines)
        ]
        logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events)


def check(target: str) -> dict[str, Any]:
    if target == "broken":
        raise RuntimeError("the check function broke")
    lost = {"instance_id": IDS[1], "reason": "is stopped", "fix": "Start it: aws ec2 start"}
    reachable = [] if target in ("unreachable", "nobody") else [IDS[0]]
    known = ["archive", "target", "project"] + ([] if target == "old" else ["started_by"])
    found = {"reachable": reachable, "unreachable": [lost], "request": known}
    found["names"] = {IDS[0]: "web-1"}
    if target == "nobody":
        why = {"code": "no_instances", "message": "No instance matches.", "hint": "Known: fleet"}
        found |= {"unreachable": [], "why": why}
    if target == "old":
        found["old_agents"] = {IDS[0]: "3.1.1"}
    return found | ({"of_every_stage": [IDS[0]]} if target == "open" else {})


def outcome(target: str, instance_id: str, command: list[str], workflow: str) -> dict[str, Any]:
    failed = target == "partial" and instance_id == IDS[2]
    applied = not failed or command
    error = {
        "code": "disk_full",
        "message": "No space \x1b[31mleft\x1b[0m on the [bold]device[/bold].",
        "hint": "Free some space under /opt.",
    }
    if command:
        error = {"code": "exit_code", "message": "exit code 3", "hint": "See what it printed."}
    return {
        "instance_id": instance_id,
        "name": "web-" + instance_id[-1],
        "status": "failed" if failed else "succeeded",
        "ssm_status": "Failed" if failed else "Success",
        "command_id": "c",
        "change": "" if failed else "ran" if workflow == "script" else "applied",
        "release_id": DIGEST[:20] if applied else "",
        "digest": DIGEST if applied else "",
        "files": 12 if applied else 0,
        "bytes": 3400 if applied else 0,
        "previous": "",
        "manifest": True,
        "warnings": [],
        "unmet": [],
        "seconds": {"download": 0.2} | ({"extract": 0.3} if applied else {}),
        "ran": ran(failed) if command else None,
        "error": error if failed else None,
    }


def ran(failed: bool) -> dict[str, Any]:
    return {
        "ending": "exited",
        "exit_code": 3 if failed else 0,
        "signal": 0,
        "seconds": 1.5,
        "output_bytes": 40,
        "tail": "Traceback\n  \x1b[31mbad\x1b[0m line\n" if failed else "fine\n",
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
        "workflow": event["workflow"],
        "stage": "local",
        "status": "SUCCEEDED" if ok else "FAILED",
        "project": "demo",
        "target": event["request"]["target"],
        "command": event["request"].get("command", []),
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
