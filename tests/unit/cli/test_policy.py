"""The policy that docs/iam-others.md gives to whoever runs `ferry`, against the calls it makes."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.commands.group import COMMANDS
from codeferry_contracts.names import WORKFLOWS, Stage
from tests.e2e.needs import Need, needs_of, refused
from tests.unit.stacks.iam_evaluator import listed

PAGE = Path(__file__).resolve().parents[3] / "docs/iam-others.md"
ACCOUNT, REGION = "000000000000", "eu-west-1"

# What they ask of AWS is not a stage's: transfers between buckets of one's own, or nothing.
NOT_OF_A_STAGE = {"demo", "local", "init", "pack", "s3", "completion"}


def policy() -> list[dict[str, Any]]:
    """The statements of the block to paste, for the stage of these tests."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.S)
    for placeholder, value in (("REGION", REGION), ("ACCOUNT", ACCOUNT), ("STAGE", "local")):
        block = block.replace(placeholder, value)
    document = json.loads(block)
    assert set(document) == {"Version", "Statement"}
    return document["Statement"]


Calls = Callable[..., set[Need]]


def as_aws_spells_it(need: Need) -> Need:
    """A log group is given with what is in it ("Actions, resources, and condition keys for Amazon
    CloudWatch Logs", Service Authorization Reference)."""
    inside = {"logs:FilterLogEvents": ":*", "logs:GetLogEvents": ":log-stream:one"}
    return replace(need, resource=need.resource + inside.get(need.action, ""))


@pytest.fixture
def calls(ferry: Any, world: Any, tmp_path: Path) -> Calls:
    """What a command line called: it is signed in as somebody who is nobody else here."""
    key = f"person-{uuid.uuid4().hex}"
    state = world.state() | {"credentials": {"access_key_id": key, "secret_access_key": "test"}}
    (tmp_path / "local" / "state.json").write_text(json.dumps(state))

    def called(*arguments: str, exits: int = 0) -> set[Need]:
        answer = ferry(*arguments)
        assert answer.exit == exits, answer.err + answer.out
        return {as_aws_spells_it(need) for need in needs_of(world.endpoint, key, 0)}

    return called


def test_every_command_makes_do_with_the_documented_policy(
    calls: Calls, world: Any, project: Path, inbox: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each calls is allowed, and there is no statement that none of them needs."""
    monkeypatch.setenv("SECRET", "x")
    script = project / "check.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    finished, running = (f"{word}-{uuid.uuid4().hex[:8]}" for word in ("finished", "running"))
    world.start(finished, "fleet", command=["true"])
    world.start(running, "slow")
    world.await_end(finished)
    world.await_state(running, "AwaitLong")
    lines = {
        "push": [("fleet", str(project))],
        "run": [("fleet", str(project), "--env", "SECRET", "--", "true")],
        "script": [("fleet", str(script), "--no-files")],
        "rollback": [("fleet", str(project))],
        "upload": [("fleet", str(project), "--wait")],
        "runs": [()],
        "releases": [("fleet", "--project", "demo")],
        "status": [(finished,)],
        "logs": [(finished,), (finished, "-f")],
        "cancel": [(running, "--no-wait")],
        "doctor": [("fleet",)],
    }
    assert set(lines) == set(COMMANDS) - NOT_OF_A_STAGE
    statements, seen = policy(), set()
    for command, typed in lines.items():
        for arguments in typed:
            # The stand-in has no rollback: what it would call is below.
            found = calls(command, *arguments, exits=3 if command == "rollback" else 0)
            assert refused(statements, found) == [], command
            seen |= found
    assert "logs:FilterLogEvents" in {need.action for need in seen}
    granted = {action for statement in statements for action in listed(statement["Action"])}
    # A take-back of what did not start, and of an upload that was cut off.
    rare = {"s3:DeleteObjectVersion", "s3:AbortMultipartUpload"}
    assert granted - {need.action for need in seen} == rare


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_the_policy_names_what_a_stage_has(workflow: str) -> None:
    """Machines, function and log group by the names that contracts give them."""
    stage = Stage("local")
    owner = f"{REGION}:{ACCOUNT}"
    machine = f"arn:aws:states:{owner}:stateMachine:{stage.state_machine(workflow)}"
    function = f"arn:aws:lambda:{owner}:function:{stage.function('check')}"
    stack = f"arn:aws:cloudformation:{owner}:stack/{stage.workflow_stack}/1"
    wanted = [
        Need("", "states:StartExecution", machine),
        Need("", "lambda:InvokeFunction", function),
        Need("", "cloudformation:DescribeStacks", stack),
    ]
    assert refused(policy(), wanted) == []


def test_the_policy_lets_nobody_read_variables_or_others_stages() -> None:
    """Nor send a command by itself."""
    kept = "arn:aws:s3:::codeferry-local-storage-artifacts/environments/1.env.json"
    other = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:codeferry-prod-sync"
    unwanted = [
        Need("", "s3:GetObject", kept),
        Need("", "states:StartExecution", other),
        Need("", "ssm:SendCommand", "*"),
    ]
    assert refused(policy(), unwanted) == unwanted
