"""Commands and scripts through the deployed documents, under the rules of Run Command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from codeferry_contracts.parameters import Payload, ssm_parameters
from codeferry_contracts.result import InstanceResult, parse_result
from codeferry_local.ssm.server import SsmServer
from tests.chaos.conftest import keep_agent
from tests.unit.agent.archives import Tree
from tests.unit.agent.commands import Machine, machine, wait_until
from tests.unit.agent.conftest import Instance, Store

INSTANCE = "i-0000000000000001a"
SCRIPT: Tree = {"do.sh": (b"#!/bin/sh\necho $1; exit $2\n", 0o755)}


class Fleet:
    """A Run Command with the documents and one instance."""

    def __init__(self, client: Any, machine: Machine) -> None:
        self.client, self.machine = client, machine

    def send(self, workflow: str, payload: Payload, seconds: int = 60, agent_url: str = "") -> str:
        sent = self.client.send_command(
            DocumentName=workflow,
            InstanceIds=[INSTANCE],
            Parameters=ssm_parameters(payload, seconds, agent_url),
        )
        command_id: str = sent["Command"]["CommandId"]
        return command_id

    def wait(self, command_id: str) -> Outcome:
        return wait_until(lambda: self.outcome(command_id))

    def outcome(self, command_id: str) -> Outcome | None:
        """What ListCommandInvocations says, once it is over."""
        answer = self.client.list_command_invocations(CommandId=command_id, Details=True)
        (found,) = answer["CommandInvocations"]
        over = found["Status"] not in ("Pending", "InProgress", "Cancelling")
        return Outcome(found) if over else None


class Outcome:
    """An invocation and its two steps."""

    def __init__(self, invocation: Any) -> None:
        self.status: str = invocation["StatusDetails"]
        self.steps = {each["Name"]: each["Output"] for each in invocation["CommandPlugins"]}

    def told(self, step: str = "result") -> InstanceResult:
        return parse_result(self.steps[step])


@pytest.fixture
def fleet(documents: dict[str, str], store: Store, tmp_path: Path) -> Iterator[Fleet]:
    home = tmp_path / "opt/codeferry"
    home.mkdir(parents=True)
    keep_agent(home)
    there = machine(Instance(home, store))
    with SsmServer(time_scale=0.1, paced=False) as server:
        server.add_instance(INSTANCE, tmp_path, tags={"codeferry:target": "demo"})
        client = boto3.client(
            "ssm",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret",
        )
        for name, content in documents.items():
            client.create_document(Content=content, Name=name, DocumentType="Command")
        yield Fleet(client, there)


def test_a_command_is_told_by_both_steps(fleet: Fleet) -> None:
    """Whatever it prints between them: what was applied first, how it ended last."""
    payload = fleet.machine.command("/bin/sh", "-c", "seq 10000; exit 3")
    outcome = fleet.wait(fleet.send("sync", payload))
    assert outcome.status == "Failed"
    assert outcome.told("apply").status == "running"
    last = outcome.told()
    assert last.ran is not None
    assert (last.status, last.ran.exit_code) == ("failed", 3)
    assert last.ran.tail.endswith("\n10000\n")
    assert last.release_id == outcome.told("apply").release_id == fleet.machine.current_id


def test_without_a_command_the_first_step_tells_all(fleet: Fleet) -> None:
    """The second has nothing to say."""
    fleet.machine.command()
    payload = fleet.machine.payload(fleet.machine.store.body)
    outcome = fleet.wait(fleet.send("sync", payload))
    assert (outcome.status, outcome.told("apply").status) == ("Success", "applied")
    assert outcome.steps["result"] == ""


def test_an_instance_without_the_agent(fleet: Fleet) -> None:
    """It fetches it, or says that it was told no URL: functions of before know of none."""
    (kept,) = (fleet.machine.root / ".agent").iterdir()
    fleet.machine.store.agent = agent = kept.read_bytes()
    kept.unlink()
    fleet.machine.command()
    payload = fleet.machine.payload(fleet.machine.store.body)
    outcome = fleet.wait(fleet.send("sync", payload))
    error = outcome.told("apply").error
    assert error is not None
    assert (outcome.status, error["code"]) == ("Failed", "agent_unavailable")
    url = fleet.machine.store.agent_url
    outcome = fleet.wait(fleet.send("sync", payload, agent_url=url))
    assert (outcome.status, outcome.told("apply").status) == ("Success", "applied")
    assert kept.read_bytes() == agent


@pytest.mark.parametrize(("code", "status"), [("0", "Success"), ("194", "Failed")])
def test_a_script_is_told_by_both_steps(fleet: Fleet, code: str, status: str) -> None:
    """Also when its exit code would have the agent reboot the instance."""
    payload = fleet.machine.command("do.sh", "a b", code, tree=SCRIPT)
    outcome = fleet.wait(fleet.send("script", payload))
    assert (outcome.status, outcome.told("script").status) == (status, "running")
    assert outcome.steps["script"].splitlines()[1] == "a b"
    last = outcome.told()
    assert last.ran is not None
    assert last.ran.exit_code == int(code)
    assert last.status == ("failed" if code != "0" else "ran")


def test_a_cancelled_command_is_ended_and_recorded(fleet: Fleet) -> None:
    """CancelCommand reaches it; the instance knows how it ended, also when nobody asks."""
    payload = fleet.machine.command("/bin/sh", "-c", "echo started; sleep 60")
    command_id = fleet.send("sync", payload)
    working = fleet.machine.root / ".results/run-1.working"
    wait_until(lambda: _supervised(working))
    fleet.client.cancel_command(CommandId=command_id)
    assert fleet.wait(command_id).status == "Cancelled"
    wait_until(lambda: not working.exists())
    last = parse_result(fleet.machine.result_step("run-1"))
    assert last.ran is not None
    assert (last.ran.ending, last.status) == ("interrupted", "failed")  # it cannot know by whom


def _supervised(working: Path) -> bool:
    """Whether the command itself has been started by its supervisor."""
    pid = working.read_text()
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().strip())


def test_run_commands_own_timeout_is_survived_by_the_answer(fleet: Fleet) -> None:
    """It kills what it started; the supervisor ends the command and leaves the last line."""
    payload = fleet.machine.command("/bin/sh", "-c", "sleep 60")
    outcome = fleet.wait(fleet.send("sync", payload, seconds=20))
    assert outcome.status == "ExecutionTimedOut"
    last = outcome.told()
    assert last.ran is not None
    assert last.ran.ending == "interrupted"
