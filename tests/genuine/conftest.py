"""The embedded AWS with a genuine amazon-ssm-agent on its instances, where one is named."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest

from codeferry_local.home import Home
from codeferry_local.process import Supervisor
from tests.e2e.conftest import HURRIED, Aws, project, until

__all__ = ["project"]

VARIABLE = "CODEFERRY_SSM_AGENT"
ON_THE_WAY = {"Pending", "InProgress", "Cancelling", "Delayed"}


@pytest.fixture(scope="session")
def aws(tmp_path_factory):
    """Two instances; the waits of SSM are as long as AWS's, because the agent's are."""
    agent = os.environ.get(VARIABLE)
    if not agent:
        pytest.skip(f"{VARIABLE} names no genuine amazon-ssm-agent: see docs/local.md")
    home = Home(tmp_path_factory.mktemp("aws"))
    supervisor = Supervisor.start(
        home, instances=2, target="demo", attached=True, agent=Path(agent), variables=HURRIED
    )
    try:
        yield Aws(home)
    finally:
        supervisor.stop()


class Commands:
    """Documents of a test's own on one instance, without Codeferry: what the agent does."""

    def __init__(self, aws):
        self.aws = aws
        self.ssm = aws.client("ssm")
        self.instance = aws.state.instances[0]

    def step(self, *lines, name="main", step=None, **inputs):
        return {
            "action": "aws:runShellScript",
            "name": name,
            "inputs": {"runCommand": list(lines), "timeoutSeconds": "60", **inputs},
            **(step or {}),
        }

    def send(self, *steps, parameters=None, given=None, **request):
        name = f"genuine-{uuid.uuid4().hex[:12]}"
        document = {"schemaVersion": "2.2", "description": "a test", "mainSteps": list(steps)}
        if parameters:
            document["parameters"] = parameters
        self.ssm.create_document(
            Content=json.dumps(document), Name=name, DocumentType="Command", DocumentFormat="JSON"
        )
        sent = self.ssm.send_command(
            DocumentName=name,
            InstanceIds=[self.instance.instance_id],
            Parameters=given or {},
            **request,
        )
        return sent["Command"]["CommandId"]

    def ended(self, command_id):
        """The invocation, once it has ended."""
        return until(lambda: self._ended(command_id))

    def _ended(self, command_id):
        found = self.ssm.list_command_invocations(CommandId=command_id, Details=True)
        (invocation,) = found["CommandInvocations"]
        return None if invocation["Status"] in ON_THE_WAY else invocation

    def ran(self, *steps, **given):
        return self.ended(self.send(*steps, **given))

    def details(self, command_id, name="main"):
        return self.ssm.get_command_invocation(
            CommandId=command_id, InstanceId=self.instance.instance_id, PluginName=name
        )

    def one(self, *lines, **inputs):
        """Run one step and give what GetCommandInvocation says of it."""
        command_id = self.send(self.step(*lines, **inputs))
        self.ended(command_id)
        return self.details(command_id)


@pytest.fixture(scope="session")
def commands(aws):
    return Commands(aws)
