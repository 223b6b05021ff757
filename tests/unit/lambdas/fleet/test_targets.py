"""From a target to instances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from codeferry_contracts.names import Stage
from codeferry_contracts.target import parse_target
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.fleet.unreachable import Agent, Machine, lines, no_instances
from codeferry_lambdas.handlers import check

ONLINE = Agent("Online", "Linux")
DEV = Settings(Stage("dev"), "bucket", "table", "/log")
STRICT = replace(DEV, require_stage_tag=True)
TAGGED = {"codeferry:target": "x"}


def launch(count: int = 1, **tags: str) -> list[str]:
    """Running instances with these tags; ``codeferry`` stands for codeferry:target, ``stage``
    for codeferry:stage."""
    ec2 = clients.ec2()
    names = {"codeferry": "codeferry:target", "stage": "codeferry:stage"}
    names |= {"group": "aws:autoscaling:groupName"}
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
        return {machine.instance_id for machine in targets.find_machines(parse_target(text))}

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
    assert list(targets.find_machines(target)) == []
    assert targets._filter(target)["Values"] == [r"prod\*"]


def test_more_than_a_page(settings: Settings, ssm: Stubber) -> None:
    """120 instances are asked for in chunks of 50 and none is lost."""
    ids = sorted(launch(120, codeferry="web"))
    for start in (0, 50, 100):
        answer(ssm, *ids[start : start + 50])
    assert sorted(targets.find_agents(ids)) == ids


def test_resolve(settings: Settings, ssm: Stubber) -> None:
    """Reachable, unreachable and stopped instances are told apart."""
    here, offline, stopped = launch(3, codeferry="web", Name="n")
    clients.ec2().stop_instances(InstanceIds=[stopped])
    answer(ssm, here)
    found = targets.resolve(parse_target("web"), settings)
    assert found.reachable == (targets.Instance(here, "n"),)
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
    found = targets.classify([Machine("i-1", state, tags)], agents, DEV, alone=False)
    obstacles = found.unreachable + found.left_out
    assert [o.code for o in obstacles] == ([code] if code else [])
    assert all(o.fix and o.reason for o in obstacles)


@pytest.mark.parametrize(
    ("version", "old"),
    [("3.3.39.0", True), ("2.3.1319.0", True), ("3.3.40.0", False), ("4.0.0", False), ("", False)],
)
def test_an_agent_too_old_for_ssmmessages_is_named(version: str, old: bool) -> None:
    """Where it is not online that may be why; where it is, doctor warns."""
    machine = Machine("i-1", "running", TAGGED)
    lost = Agent("ConnectionLost", "Linux", version)
    (obstacle,) = targets.classify([machine], {"i-1": lost}, DEV, alone=False).unreachable
    assert ("AWS-UpdateSSMAgent" in obstacle.fix) is old
    assert (bool(version) and version in obstacle.reason) is old
    online = targets.classify(
        [machine], {"i-1": Agent("Online", "Linux", version)}, DEV, alone=False
    )
    assert online.old_agents == ({"i-1": version} if old else {})


def test_terminated_ones_are_silent_unless_named() -> None:
    """An instance that is gone is not worth a word, unless it is the target itself."""
    gone = Machine("i-1", "terminated", {"codeferry:target": "x"})
    assert targets.classify([gone], {}, DEV, alone=False).left_out == ()
    assert [o.instance_id for o in targets.classify([gone], {}, DEV, alone=True).left_out] == [
        "i-1"
    ]


def test_no_instances_names_reason_and_fix() -> None:
    """The error lists every instance with its reason and its fix, and cuts a long list."""
    machines = [Machine(f"i-{n}", "stopped", {}) for n in range(30)]
    obstacles = targets.classify(machines, {}, DEV, alone=False).left_out
    error = no_instances(parse_target("web"), obstacles)
    assert "i-0 is stopped. Start it: aws ec2 start-instances" in error.message
    assert "and 10 more" in error.message
    assert len(lines(obstacles)) == 21
    assert "create-tags" in no_instances(parse_target("web"), ()).hint


@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        (
            "gpu-worker",
            "No instance matches the target 'gpu-worker'",
            "Did you mean 'gpu-workers'?",
        ),
        ("demo-1", "No instance matches the target 'demo-1'", "has that name: tag:Name=demo-1"),
        (
            "i-0123456789abcdef0",
            "There is no instance i-0123456789abcdef0",
            "Check the id, --region",
        ),
        ("tag:Role=x", "No instance matches the target 'tag:Role=x'", "Known targets: "),
    ],
)
def test_a_target_that_matches_nothing_is_told_what_there_is(
    settings: Settings, typed: str, message: str, hint: str
) -> None:
    """An id, a name and a slip of the keys each get their own advice, and all targets there are."""
    launch(2, codeferry="gpu-workers", Name="demo-1")
    launch(codeferry="db")
    launch(codeferry="theirs", stage="prod")
    why = check.handler({"target": typed}, None)["why"]
    assert why["message"].startswith(message)
    assert hint in why["hint"]
    assert why["hint"].endswith("Known targets: gpu-workers (2 instances), db (1 instance)")


def test_check_says_nothing_of_what_a_run_has_changed(settings: Settings) -> None:
    """Those instances are in the run's record; what a request may say is answered all the same."""
    found = check.handler({"target": "run:run-1"}, None)
    assert (found["reachable"], found["unreachable"], found["why"]) == ([], [], None)
    assert "started_by" in found["request"]


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


# --- stages of one account ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "stage", "code"),
    [
        (DEV, None, None),
        (DEV, "dev", None),
        (DEV, "prod", "other_stage"),
        (DEV, "dev-2", "other_stage"),
        (DEV, "Dev", "other_stage"),
        (DEV, "", "other_stage"),
        (STRICT, None, "no_stage"),
        (STRICT, "dev", None),
        (STRICT, "prod", "other_stage"),
        (STRICT, "", "other_stage"),
    ],
)
def test_an_instance_of_another_stage_is_out_of_reach(
    settings: Settings, stage: str | None, code: str | None
) -> None:
    """Its tag says whose it is, to the letter; without one it is everybody's, or, where the tag is
    required, nobody's. The reason and the way out are told."""
    tags = TAGGED if stage is None else TAGGED | {"codeferry:stage": stage}
    found = targets.classify(
        [Machine("i-1", "running", tags)], {"i-1": ONLINE}, settings, alone=True
    )
    assert [o.code for o in found.unreachable] == ([code] if code else [])
    assert len(found.reachable) == (0 if code else 1)
    assert all("Key=codeferry:stage,Value=dev" in o.fix for o in found.unreachable)


@pytest.mark.parametrize("target", ["web", "all", "tag:Env=x", "asg:pool"])
def test_a_target_means_the_instances_of_its_own_stage(
    settings: Settings, ssm: Stubber, target: str
) -> None:
    """Whatever form it has: those of another stage neither get code nor count as missed."""
    alike = {"codeferry": "web", "Env": "x", "group": "pool"}
    (own,), (_,), (open_,) = (
        launch(**alike, **s) for s in ({"stage": "dev"}, {"stage": "prod"}, {})
    )
    answer(ssm, own, open_)
    found = targets.resolve(parse_target(target), settings)
    assert {i.instance_id for i in found.reachable} == {own, open_}
    assert (found.unreachable, found.left_out) == ((), ())
    assert found.of_every_stage == (open_,)


def test_who_asks_for_another_stages_instances_alone_is_told_whose_they_are(
    settings: Settings, ssm: Stubber
) -> None:
    """By id as by a target that has no others."""
    (other,) = launch(codeferry="web", stage="prod")
    for target in ("web", other):
        answer(ssm, other)
        found = targets.resolve(parse_target(target), settings)
        (obstacle,) = found.unreachable
        assert found.reachable == ()
        assert obstacle.reason == "is of the stage 'prod', by its tag codeferry:stage"


def test_a_run_is_not_returned_on_what_is_another_stages_by_now(
    settings: Settings, ssm: Stubber
) -> None:
    """An instance that changed hands since is left alone."""
    (own,), (other,) = launch(codeferry="web"), launch(codeferry="web", stage="prod")
    answer(ssm, own)
    found = targets.resolve_ids({own, other}, settings)
    assert [i.instance_id for i in found.reachable] == [own]
    assert found.unreachable == ()
