"""From a target to instances."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from codeferry_contracts.target import parse_target
from codeferry_lambdas import check, clients, fleet
from codeferry_lambdas.obstacles import Agent, Machine, lines, no_instances
from codeferry_lambdas.settings import Settings

ONLINE = Agent("Online", "Linux")


def launch(count: int = 1, **tags: str) -> list[str]:
    """Running instances with these tags; ``codeferry`` stands for codeferry:target."""
    ec2 = clients.ec2()
    names = {"codeferry": "codeferry:target", "group": "aws:autoscaling:groupName"}
    tagged: Any = [{"Key": names.get(k, k), "Value": v} for k, v in tags.items()]
    made = ec2.run_instances(
        ImageId="ami-12345678",
        MinCount=count,
        MaxCount=count,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tagged}],
    )
    return [instance["InstanceId"] for instance in made["Instances"]]


def answer(ssm: Stubber, *ids: str, ping: str = "Online") -> None:
    found = [{"InstanceId": i, "PingStatus": ping, "PlatformType": "Linux"} for i in ids]
    ssm.add_response(
        "describe_instance_information",
        {"InstanceInformationList": found},
        {"Filters": [{"Key": "InstanceIds", "Values": ANY}], "MaxResults": 50},
    )


def test_target_forms(settings: Settings) -> None:
    """Each form of a target finds its instances and no others."""
    (web,) = launch(codeferry="web", Name="one", Env="prod")
    (db,) = launch(codeferry="db", group="pool")
    (untagged,) = launch(Env="prod")

    def found(text: str) -> set[str]:
        return {machine.instance_id for machine in fleet.find_machines(parse_target(text))}

    assert found("web") == {web}
    assert found(db) == {db}
    assert found("tag:Env=prod") == {web, untagged}
    assert found("asg:pool") == {db}
    assert found("all") == {web, db}
    assert found("nobody") == set()
    assert found("i-0123456789abcdef0") == set()


def test_wildcards_are_letters(settings: Settings) -> None:
    """A star in a target's value is a star: EC2's wildcards do not widen the target."""
    launch(codeferry="x", Env="production")
    target = parse_target("tag:Env=prod*")
    assert list(fleet.find_machines(target)) == []
    assert fleet._filter(target)["Values"] == [r"prod\*"]


def test_more_than_a_page(settings: Settings, ssm: Stubber) -> None:
    """120 instances are asked for in chunks of 50 and none is lost."""
    ids = sorted(launch(120, codeferry="web"))
    for start in (0, 50, 100):
        answer(ssm, *ids[start : start + 50])
    assert sorted(fleet.find_agents(ids)) == ids


def test_resolve(settings: Settings, ssm: Stubber) -> None:
    """Reachable, unreachable and stopped instances are told apart."""
    here, offline, stopped = launch(3, codeferry="web", Name="n")
    clients.ec2().stop_instances(InstanceIds=[stopped])
    answer(ssm, here)
    found = fleet.resolve(parse_target("web"))
    assert found.reachable == (fleet.Instance(here, "n"),)
    assert [(o.instance_id, o.code) for o in found.unreachable] == [(offline, "not_managed")]
    assert [(o.instance_id, o.code) for o in found.left_out] == [(stopped, "not_running")]
    assert stopped in found.left_out[0].fix


@pytest.mark.parametrize(
    ("state", "tags", "agent", "code"),
    [
        ("stopped", {}, None, "not_running"),
        ("pending", {"codeferry:target": "x"}, ONLINE, "not_running"),
        ("running", {}, ONLINE, "not_tagged"),
        ("running", {"codeferry:target": "x"}, None, "not_managed"),
        ("running", {"codeferry:target": "x"}, Agent("ConnectionLost", "Linux"), "agent_offline"),
        ("running", {"codeferry:target": "x"}, Agent("Online", "Windows"), "not_linux"),
        ("running", {"codeferry:target": ""}, ONLINE, None),
    ],
)
def test_obstacles(state: str, tags: dict[str, str], agent: Any, code: str | None) -> None:
    """Each thing that keeps commands from an instance has a code and a fix."""
    agents = {"i-1": agent} if agent else {}
    found = fleet.judge([Machine("i-1", state, tags)], agents, alone=False)
    obstacles = found.unreachable + found.left_out
    assert [o.code for o in obstacles] == ([code] if code else [])
    assert all(o.fix and o.reason for o in obstacles)


def test_terminated_ones_are_silent_unless_named() -> None:
    """An instance that is gone is not worth a word, unless it is the target itself."""
    gone = Machine("i-1", "terminated", {"codeferry:target": "x"})
    assert fleet.judge([gone], {}, alone=False).left_out == ()
    assert [o.instance_id for o in fleet.judge([gone], {}, alone=True).left_out] == ["i-1"]


def test_no_instances_names_reason_and_fix() -> None:
    """The error lists every instance with its reason and its fix, and cuts a long list."""
    machines = [Machine(f"i-{n}", "stopped", {}) for n in range(30)]
    obstacles = fleet.judge(machines, {}, alone=False).left_out
    error = no_instances("web", obstacles)
    assert "i-0 is stopped. Start it: aws ec2 start-instances" in error.message
    assert "and 10 more" in error.message
    assert len(lines(obstacles)) == 21
    assert "create-tags" in no_instances("web", ()).hint


def test_check(settings: Settings, ssm: Stubber) -> None:
    """The doctor's check says who would be reached, who not, and what to do."""
    here, offline = launch(2, codeferry="web")
    answer(ssm, here)
    found = check.handler({"target": "web"}, None)
    assert found["reachable"] == [here]
    (obstacle,) = found["unreachable"]
    assert obstacle["instance_id"] == offline
    assert "AmazonSSMManagedInstanceCore" in obstacle["fix"]


def test_check_refuses_what_is_no_target(settings: Settings) -> None:
    """A typo is refused under its name, not looked up."""
    with pytest.raises(Exception, match="is not a target") as raised:
        check.handler({"target": "vol-1"}, None)
    assert type(raised.value).__name__ == "TargetInvalid"
