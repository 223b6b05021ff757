"""The real definition, executed by MiniStack with canned functions.

Only waiting is shortened: retry intervals become nothing and the waits for a command last
``WAIT_SECONDS``, in the loaded JSON. Everything else runs as it is deployed.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from codeferry_local.emulator.process import Emulator, free_port
from tests.workflow.canned import Canned, Workflow
from tests.workflow.definition import FUNCTIONS, substituted

ROOT = Path(__file__).parents[2]
# Stands for the rollback workflow: it fails for runs that are called "lost-…".
ROLLBACK: dict[str, Any] = {
    "StartAt": "Look",
    "States": {
        "Look": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.target", "StringMatches": "wave:lost-*", "Next": "Lost"}],
            "Default": "Done",
        },
        "Lost": {"Type": "Fail", "Error": "instances_failed"},
        "Done": {"Type": "Succeed"},
    },
}
# Not a whole number, which AWS would want: MiniStack only waits so long. A function has answered
# before the wait for its token begins, so a wait this short loses no answer.
WAIT_SECONDS = 0.02
SOURCE = Path(__file__).with_name("canned_function.py")


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MiniStack in which retries do not wait."""
    directory = tmp_path_factory.mktemp("ministack")
    wanted = {"SFN_WAIT_SCALE": "0", "SERVICES": "lambda,stepfunctions,iam,logs,events"}
    emulator = Emulator.start(free_port(), directory, directory / "log", wanted)
    yield emulator.url
    emulator.stop()


def client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="session")
def workflow(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The state machine and its canned functions, deployed once."""
    functions, states = client("lambda", endpoint), client("stepfunctions", endpoint)
    calls = tmp_path_factory.mktemp("calls")
    arns = {name: _deploy(functions, name, calls, endpoint) for name in FUNCTIONS}
    rollback = _machine(states, "rollback", ROLLBACK)
    arn = _machine(states, "run", _hurried(substituted(arns, rollback)))
    return Workflow(states=states, arn=arn, calls=calls, rollback=rollback)


def _machine(states: Any, name: str, definition: dict[str, Any]) -> str:
    machine = states.create_state_machine(
        name=name,
        definition=json.dumps(definition),
        roleArn="arn:aws:iam::000000000000:role/any",
    )
    return str(machine["stateMachineArn"])


def _deploy(functions: Any, name: str, calls: Path, endpoint: str) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bootstrap = zipfile.ZipInfo("bootstrap")
        bootstrap.external_attr = 0o755 << 16
        bundle.writestr(bootstrap, f"#!{sys.executable}\n{SOURCE.read_text()}")
    answer = functions.create_function(
        FunctionName=name,
        Runtime="provided.al2023",
        Role="arn:aws:iam::000000000000:role/any",
        Handler="bootstrap",
        Code={"ZipFile": archive.getvalue()},
        Timeout=30,
        Environment={"Variables": {"NAME": name, "CALLS": str(calls), "ENDPOINT": endpoint}},
    )
    return str(answer["FunctionArn"])


def _hurried(definition: dict[str, Any]) -> dict[str, Any]:
    """The same definition with short waits: what a test may wait for, and nothing else."""
    text, found = json.dumps(definition), 0
    for seconds in (15, 60, 420, 3_600, 14_400):
        wait = f'"TimeoutSeconds": {seconds},'
        found += wait in text
        text = text.replace(wait, f'"TimeoutSeconds": {WAIT_SECONDS},')
    assert found == 5, "the definition has other waits than these"
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.fixture
def canned(workflow: Workflow) -> Canned:
    """One run with answers of its own."""
    return Canned(workflow)
