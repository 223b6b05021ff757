"""`ferry` in a clean environment, and a stage on a real MiniStack for it to talk to.

The stage's workflow is a stand-in with the real one's state names: it records what it is
told to, so that the command line is tested against real executions and real histories.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from codeferry_cli.main import run

CREDENTIALS = {"access_key_id": "test", "secret_access_key": "test"}
REGION = "eu-west-1"


@dataclass(frozen=True)
class Answer:
    """What one command line did."""

    exit: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Ferry = Callable[..., Answer]


def _entered(events: list[dict[str, Any]]) -> set[str]:
    details = (event.get("stateEnteredEventDetails", {}) for event in events)
    return {detail["name"] for detail in details if detail}


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, no AWS configuration, no FERRY_ variables; the working directory."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "FERRY_", "CODEFERRY_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def ferry(capfdbinary: pytest.CaptureFixture[bytes]) -> Ferry:
    """Runs a command line in this process."""

    def call(*arguments: str) -> Answer:
        capfdbinary.readouterr()
        code = run(arguments)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return Answer(code, out.decode(errors="replace"), err.decode(errors="replace"))

    return call


@pytest.fixture(scope="session")
def ferry_command() -> str:
    """The console script of this environment."""
    return str(Path(sys.executable).with_name("ferry"))


@pytest.fixture
def project(clean_environment: Path) -> Path:
    """A small project; commands that take DIR run beside it."""
    root = clean_environment / "demo"
    (root / "pkg").mkdir(parents=True)
    (root / "requirements.txt").write_text("")
    (root / "train.py").write_text("print('training')\n")
    (root / "pkg" / "model.py").write_text("x = 1\n" * 50)
    return root


@dataclass(frozen=True)
class World:
    """A deployed stand-in of a stage."""

    endpoint: str
    bucket: str
    machines: Mapping[str, str]

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def execution_arn(self, run_id: str, workflow: str = "sync") -> str:
        return self.machines[workflow].replace(":stateMachine:", ":execution:") + f":{run_id}"

    def start(self, run_id: str, target: str, workflow: str = "sync", **more: Any) -> None:
        """A run started by hand, as in the console."""
        request = {"archive": {"key": f"archives/{run_id}.tar.gz"}, "target": target, **more}
        self.client("stepfunctions").start_execution(
            stateMachineArn=self.machines[workflow], name=run_id, input=json.dumps(request)
        )

    def request_of(self, run_id: str, workflow: str = "sync") -> Any:
        """The input of a run's execution."""
        arn = self.execution_arn(run_id, workflow)
        return json.loads(
            self.client("stepfunctions").describe_execution(executionArn=arn)["input"]
        )

    def objects(self, prefix: str) -> set[str]:
        """The keys of the objects that are there now."""
        listed = self.client("s3").list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return {entry["Key"] for entry in listed.get("Contents", ())}

    def await_end(self, run_id: str, workflow: str = "sync") -> None:
        arn = self.execution_arn(run_id, workflow)
        states = self.client("stepfunctions")
        deadline = time.monotonic() + 60
        while states.describe_execution(executionArn=arn)["status"] == "RUNNING":
            assert time.monotonic() < deadline, "the run does not end"
            time.sleep(0.05)

    def await_state(self, run_id: str, name: str, workflow: str = "sync") -> None:
        """Until the run has entered the state ``name``."""
        arn = self.execution_arn(run_id, workflow)
        states = self.client("stepfunctions")
        deadline = time.monotonic() + 60
        while name not in _entered(states.get_execution_history(executionArn=arn)["events"]):
            assert time.monotonic() < deadline, f"the run does not come to {name}"
            time.sleep(0.05)

    def state(self) -> dict[str, Any]:
        """The state file `ferry local up` would write."""
        return {
            "pid": os.getpid(),
            "endpoints": {"aws": self.endpoint, "ssm": self.endpoint},
            "region": REGION,
            "credentials": CREDENTIALS,
        }


@pytest.fixture(scope="session")
def deployed(ministack: str) -> World:
    """The stack of the stage `local`, deployed to MiniStack by CloudFormation."""
    template = json.loads(
        (Path(__file__).parent / "stage_template.json").read_text(encoding="utf-8")
    )
    template["Resources"]["Record"]["Properties"]["Code"]["ZipFile"] = (
        Path(__file__).parent / "stage_function.py"
    ).read_text(encoding="utf-8")
    world = World(ministack, "", {})
    formation = world.client("cloudformation")
    name = "Codeferry-local-Workflow"
    formation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    formation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    stack = formation.describe_stacks(StackName=name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    machines = {
        "sync": outputs["SyncStateMachineArn"],
        "script": outputs["ScriptStateMachineArn"],
    }
    return World(ministack, outputs["ArtifactBucket"], machines)


@pytest.fixture
def world(deployed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The deployed stage, as what `--stage local` finds."""
    home = tmp_path / "local"
    home.mkdir()
    (home / "state.json").write_text(json.dumps(deployed.state()))
    monkeypatch.setenv("CODEFERRY_LOCAL_HOME", str(home))
    monkeypatch.setenv("FERRY_STAGE", "local")
    return deployed


@pytest.fixture
def inbox(world: World) -> Iterator[None]:
    """Starts a run for each upload to the inbox, as the stage's start function does."""
    from codeferry_contracts.layout import parse_inbox_key
    from codeferry_contracts.names import inbox_run_id

    over = threading.Event()

    def serve() -> None:
        s3, states, seen = world.client("s3"), world.client("stepfunctions"), set()
        while not over.wait(0.1):
            found = s3.list_object_versions(Bucket=world.bucket, Prefix="inbox/")
            for version in found.get("Versions", ()):
                run_id = inbox_run_id(world.bucket, version["Key"], version["VersionId"])
                if run_id not in seen:
                    seen.add(run_id)
                    request = {"target": parse_inbox_key(version["Key"]).target}
                    states.start_execution(
                        stateMachineArn=world.machines["sync"],
                        name=run_id,
                        input=json.dumps(request),
                    )

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    over.set()
    thread.join()
    s3 = world.client("s3")
    for version in s3.list_object_versions(Bucket=world.bucket, Prefix="inbox/").get(
        "Versions", ()
    ):
        s3.delete_object(Bucket=world.bucket, Key=version["Key"], VersionId=version["VersionId"])
