"""A local SSM server per test, unmodified boto3 clients, and a few documents."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from codeferry_local.ssm.instances import InvocationContext, LocalInstance
from codeferry_local.ssm.server import SsmServer

# A delivery timeout of 30 s passes in 0.3 s; the default execution timeout in 36 s.
SCALE = 0.01
INSTANCE = "i-0000000000000001a"
OTHERS = ["i-0000000000000002a", "i-0000000000000003a"]
EXECUTION_TIMEOUT = {"type": "String", "default": "3600", "allowedPattern": "[1-9][0-9]{0,5}"}


def document(*lines: str, parameters: dict[str, Any] | None = None, **step: Any) -> dict[str, Any]:
    """A document with one shell step, whose timeout is the parameter executionTimeout."""
    return {
        "schemaVersion": "2.2",
        "description": "a test",
        "parameters": {"executionTimeout": EXECUTION_TIMEOUT, **(parameters or {})},
        "mainSteps": [
            {
                "action": "aws:runShellScript",
                "name": "apply",
                "inputs": {"runCommand": list(lines), "timeoutSeconds": "{{ executionTimeout }}"},
                **step,
            }
        ],
    }


class RecordedEvents:
    """An event sink that remembers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def deliver(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def stop(self) -> None:
        pass

    def statuses(self, detail_type: str, command_id: str) -> list[str]:
        return [
            event["detail"]["status"]
            for event in self.events
            if event["detail-type"] == detail_type and event["detail"]["command-id"] == command_id
        ]


class Bench:
    """A server, a client that never retries, and the moves every test makes."""

    def __init__(self, server: SsmServer, root: Path, events: RecordedEvents) -> None:
        self.server = server
        self.root = root
        self.events = events
        self.ssm = client(server.url)

    def instance(self, instance_id: str = INSTANCE, **given: Any) -> Path:
        root = self.root / instance_id
        root.mkdir(parents=True, exist_ok=True)
        self.server.add_instance(instance_id, root, **given)
        return root

    def document(self, *lines: str, name: str = "demo-doc", **given: Any) -> dict[str, Any]:
        return self.create(document(*lines, **given), name)

    def create(self, content: Any, name: str = "demo-doc", **given: Any) -> dict[str, Any]:
        text = content if isinstance(content, str) else json.dumps(content)
        answer = self.ssm.create_document(Content=text, Name=name, DocumentType="Command", **given)
        described: dict[str, Any] = answer["DocumentDescription"]
        return described

    def send(self, *instance_ids: str, **given: Any) -> str:
        request = {"DocumentName": "demo-doc", **given}
        if "Targets" not in given:
            request["InstanceIds"] = list(instance_ids) or [INSTANCE]
        command_id: str = self.ssm.send_command(**request)["Command"]["CommandId"]
        return command_id

    def command(self, command_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ssm.list_commands(CommandId=command_id)["Commands"][0]
        return found

    def invocation(self, command_id: str, instance_id: str = INSTANCE, **given: Any) -> Any:
        return self.ssm.get_command_invocation(
            CommandId=command_id, InstanceId=instance_id, **given
        )

    def invocations(self, command_id: str) -> dict[str, dict[str, Any]]:
        pages = self.ssm.get_paginator("list_command_invocations").paginate(
            CommandId=command_id, Details=True
        )
        return {i["InstanceId"]: i for page in pages for i in page["CommandInvocations"]}

    def ended(self, command_id: str) -> dict[str, Any]:
        """The command, once it has ended."""
        on_the_way = ("Pending", "InProgress", "Cancelling")
        until(lambda: self.command(command_id)["Status"] not in on_the_way)
        return self.command(command_id)

    def ran(self, *instance_ids: str, **given: Any) -> Any:
        """Send, wait, and give the first instance's invocation."""
        command_id = self.send(*instance_ids, **given)
        self.ended(command_id)
        return self.invocation(command_id, *instance_ids[:1])


def client(url: str, **config: Any) -> Any:
    return boto3.client(
        "ssm",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


def invocation_of(root: Path, script: str, **more: Any) -> InvocationContext:
    """What the agent of the instance in ``root`` is given of a step that runs ``script``."""
    return InvocationContext(
        command_id="c",
        document_name="d",
        step="apply",
        script=script,
        timeout_seconds=60,
        instance=LocalInstance(instance_id=INSTANCE, root=root),
        parameters={},
        **more,
    )


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Poll until the condition holds; fail when it never does."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)
    return value


def control(url: str, method: str, path: str, body: Any = None) -> Any:
    """One control request, as another process makes it."""
    payload = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/_codeferry/{path}", payload, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def pid_in(path: Path) -> int:
    """The process id a script wrote, once it has."""
    return int(until(lambda: path.exists() and path.read_text().strip()))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A running server with one real instance."""
    events = RecordedEvents()
    with SsmServer(time_scale=SCALE, event_sink=events, paced=False) as server:
        made = Bench(server, tmp_path, events)
        made.instance(tags={"codeferry:target": "demo"}, name="first")
        yield made
