from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.local.ssm.conftest import INSTANCE, OTHERS, Bench


def fleet(bench: Bench, count: int) -> list[str]:
    """Register instances without processes, tagged by parity."""
    ids = [f"i-{number:08x}" for number in range(count)]
    for number, instance_id in enumerate(ids):
        bench.server.add_instance(
            instance_id, Path("/nowhere"), executor="null", tags={"half": str(number % 2)}
        )
    return ids


def described(bench: Bench, **given: Any) -> list[str]:
    """The ids of every page of DescribeInstanceInformation."""
    pages = bench.ssm.get_paginator("describe_instance_information").paginate(**given)
    return [i["InstanceId"] for page in pages for i in page["InstanceInformationList"]]


def test_instance_information(bench: Bench) -> None:
    """An instance is Online, Linux, with agent version, name and times."""
    (found,) = bench.ssm.describe_instance_information()["InstanceInformationList"]
    assert found["InstanceId"] == INSTANCE
    assert (found["PingStatus"], found["PlatformType"]) == ("Online", "Linux")
    assert (found["Name"], found["ResourceType"]) == ("first", "EC2Instance")
    assert datetime.now(UTC) - found["LastPingDateTime"] < timedelta(minutes=1)
    assert found["AgentVersion"].startswith("3.")


def test_instances_come_in_pages(bench: Bench) -> None:
    """Every instance is on exactly one page, of at most MaxResults."""
    ids = fleet(bench, 123)
    first = bench.ssm.describe_instance_information(MaxResults=50)
    assert len(first["InstanceInformationList"]) == 50
    assert sorted(described(bench)) == sorted([INSTANCE, *ids])
    assert "NextToken" not in bench.ssm.describe_instance_information(
        MaxResults=50, Filters=[{"Key": "InstanceIds", "Values": ids[:50]}]
    )


def test_instances_are_filtered(bench: Bench) -> None:
    """Filters by id, tag, ping and platform are combined; both spellings of filters work."""
    ids = fleet(bench, 20)
    half = {"Key": "tag:half", "Values": ["1"]}
    assert described(bench, Filters=[half]) == ids[1::2]
    both = [half, {"Key": "InstanceIds", "Values": ids[:4]}]
    assert described(bench, Filters=both) == [ids[1], ids[3]]
    old = [{"key": "InstanceIds", "valueSet": [ids[7]]}]
    assert described(bench, InstanceInformationFilterList=old) == [ids[7]]
    online = {"Key": "PingStatus", "Values": ["ConnectionLost"]}
    assert described(bench, Filters=[online]) == []


def test_unknown_filter_and_token(bench: Bench) -> None:
    """A filter that does not exist and a token nobody made are refused."""
    with pytest.raises(bench.ssm.exceptions.InvalidFilterKey):
        described(bench, Filters=[{"Key": "Colour", "Values": ["red"]}])
    with pytest.raises(bench.ssm.exceptions.InvalidNextToken):
        bench.ssm.describe_instance_information(NextToken="bm9uc2Vuc2U=")


def test_invocations_come_in_pages(bench: Bench) -> None:
    """A command's 120 invocations are on three pages of 50, each once."""
    ids = fleet(bench, 120)
    bench.document("true")
    command_id = bench.send(Targets=[{"Key": "tag-key", "Values": ["half"]}])
    bench.ended(command_id)
    sizes: list[int] = []
    token: dict[str, str] = {}
    while True:
        answer = bench.ssm.list_command_invocations(CommandId=command_id, **token)
        sizes.append(len(answer["CommandInvocations"]))
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert sizes == [50, 50, 20]
    assert set(bench.invocations(command_id)) == set(ids)


def test_details_bring_the_steps(bench: Bench) -> None:
    """Without Details there are no steps; with it, each has status, code, times and output."""
    bench.document("echo out")
    command_id = bench.ran()["CommandId"]
    (plain,) = bench.ssm.list_command_invocations(CommandId=command_id)["CommandInvocations"]
    assert plain["CommandPlugins"] == []
    (step,) = bench.invocations(command_id)[INSTANCE]["CommandPlugins"]
    assert (step["Name"], step["Status"], step["ResponseCode"]) == ("apply", "Success", 0)
    assert step["Output"] == "out\n"
    assert step["ResponseStartDateTime"] <= step["ResponseFinishDateTime"]


def test_commands_newest_first_and_by_instance(bench: Bench) -> None:
    """ListCommands lists the newest first, and those of one instance."""
    bench.instance(OTHERS[0])
    bench.document("true")
    sent = [bench.send(), bench.send(OTHERS[0]), bench.send()]
    listed = [c["CommandId"] for c in bench.ssm.list_commands()["Commands"]]
    assert listed == sent[::-1]
    of_one = bench.ssm.list_commands(InstanceId=OTHERS[0])["Commands"]
    assert [c["CommandId"] for c in of_one] == [sent[1]]


def test_commands_are_filtered(bench: Bench) -> None:
    """Commands can be selected by status, document, stage and time."""
    bench.document("true")
    bench.document("false", name="other-doc")
    good, bad = bench.ran()["CommandId"], bench.ran(DocumentName="other-doc")["CommandId"]

    def found(key: str, value: str) -> list[str]:
        answer = bench.ssm.list_commands(Filters=[{"key": key, "value": value}])
        return [command["CommandId"] for command in answer["Commands"]]

    assert found("Status", "Failed") == [bad]
    assert found("DocumentName", "demo-doc") == [good]
    assert found("ExecutionStage", "Complete") == [bad, good]
    assert found("InvokedAfter", "2999-01-01T00:00:00Z") == []
    assert found("InvokedBefore", "2999-01-01T00:00:00Z") == [bad, good]


def test_new_commands_do_not_shift_the_pages(bench: Bench) -> None:
    """A command sent between two pages repeats nothing on the second."""
    bench.document("true")
    sent = [bench.send() for _ in range(4)]
    first = bench.ssm.list_commands(MaxResults=2)
    bench.send()
    second = bench.ssm.list_commands(MaxResults=2, NextToken=first["NextToken"])
    pages = [c["CommandId"] for c in first["Commands"] + second["Commands"]]
    assert pages == sent[::-1]


def test_unknown_command(bench: Bench) -> None:
    """Listing an unknown command is InvalidCommandId, getting it InvocationDoesNotExist."""
    with pytest.raises(bench.ssm.exceptions.InvalidCommandId):
        bench.command("0" * 36)
    with pytest.raises(bench.ssm.exceptions.InvocationDoesNotExist):
        bench.invocation("0" * 36)
