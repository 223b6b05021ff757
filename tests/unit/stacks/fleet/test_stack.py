"""The fleet: how its instances are made, what they may do, how the group changes."""

from __future__ import annotations

import json

import pytest

from tests.unit.stacks.iam_evaluator import Request, decide, plain

ACCOUNT = "111122223333"


@pytest.fixture
def launch(only):
    return only("Fleet", "AWS::EC2::LaunchTemplate")["LaunchTemplateData"]


@pytest.fixture
def group(found):
    (resource,) = found("Fleet", "AWS::AutoScaling::AutoScalingGroup").values()
    return resource


def test_metadata_needs_a_token_and_stays_on_the_instance(launch):
    """IMDSv2 only, and no hop further: a container or a proxy gets no credentials."""
    assert launch["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}


def test_nobody_can_log_in(launch, found):
    """No key pair, and no security group of the instances lets anything in."""
    assert "KeyName" not in launch
    (group_id,) = [g["Fn::GetAtt"][0] for g in launch["SecurityGroupIds"]]
    instances = found("Fleet", "AWS::EC2::SecurityGroup")[group_id]["Properties"]
    assert "SecurityGroupIngress" not in instances
    assert found("Fleet", "AWS::EC2::SecurityGroupIngress") == {}


def test_volumes_are_encrypted(launch):
    """Every volume, on gp3."""
    for device in launch["BlockDeviceMappings"]:
        assert device["Ebs"]["Encrypted"] is True
        assert device["Ebs"]["VolumeType"] == "gp3"


def test_an_instance_that_shuts_down_is_gone(launch):
    """A failed first start shuts down; nothing half made stays stopped in the account."""
    assert launch["InstanceInitiatedShutdownBehavior"] == "terminate"


@pytest.mark.parametrize(
    "tag",
    [
        {"Key": "codeferry:target", "Value": "gpu-workers"},
        {"Key": "codeferry:stage", "Value": "prod"},
    ],
)
def test_instances_and_volumes_carry_target_and_stage(launch, group, tag):
    """The tags make an instance a target, and its stage's alone, from its first second on."""
    for specification in launch["TagSpecifications"]:
        assert tag in specification["Tags"]
    assert tag | {"PropagateAtLaunch": True} in group["Properties"]["Tags"]


def test_the_group_has_a_name_to_be_found_by(group):
    """Alarms, people and asg:NAME targets name it."""
    assert group["Properties"]["AutoScalingGroupName"] == "codeferry-prod-gpu-workers"


def test_no_instance_serves_before_its_first_start_is_done(group):
    """The hook comes with the group, so it holds the very first instance too; silence ends it."""
    (hook,) = group["Properties"]["LifecycleHookSpecificationList"]
    assert hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_LAUNCHING"
    assert hook["DefaultResult"] == "ABANDON"


def test_a_stack_without_whole_instances_fails(group):
    """CloudFormation waits for as many signals as instances, and rolls back without them."""
    assert group["CreationPolicy"]["ResourceSignal"] == {"Count": 1, "Timeout": "PT1H"}


def test_a_new_template_rolls_through_the_group(group):
    """In parts, with time to look at each, never below what serves; an alarm turns it back."""
    policy = group["UpdatePolicy"]["AutoScalingInstanceRefresh"]
    assert policy["Strategy"] == "Rolling"
    preferences = policy["Preferences"]
    assert preferences["MinHealthyPercentage"] == 100
    assert preferences["CheckpointPercentages"] == [10, 50, 100]
    assert preferences["CheckpointDelay"] == 300
    assert len(preferences["AlarmSpecification"]["Alarms"]) == 1
    # The two are alternatives to CloudFormation: with both it takes neither.
    assert "AutoScalingRollingUpdate" not in group["UpdatePolicy"]


def test_the_refresh_is_as_the_service_knows_it(group):
    """Every preference is one that Auto Scaling's own model has, within its bounds."""
    import botocore.session

    shape = (
        botocore.session.get_session()
        .get_service_model("autoscaling")
        .shape_for("RefreshPreferences")
    )
    used = group["UpdatePolicy"]["AutoScalingInstanceRefresh"]["Preferences"]
    assert set(used) <= set(shape.members)


def test_a_changed_agent_is_a_changed_template(synthesise, tmp_path):
    """Another agent means other user data, so a new template version and a refresh."""

    def data(agent):
        directory = tmp_path / agent.decode()
        directory.mkdir()
        (directory / "agent.pyz").write_bytes(agent)
        context = {"stage": "prod", "fleet": "a", "agent_pyz": str(directory / "agent.pyz")}
        synthesise(directory / "out", **context)
        template = json.loads((directory / "out/Codeferry-prod-Fleet.template.json").read_text())
        (launch,) = (
            r["Properties"]["LaunchTemplateData"]["UserData"]
            for r in template["Resources"].values()
            if r["Type"] == "AWS::EC2::LaunchTemplate"
        )
        return json.dumps(launch)

    assert data(b"one") != data(b"two")


def test_the_user_data_carries_the_agent_by_digest(launch, everything):
    """Where it is, and what it has to be."""
    text = plain(launch["UserData"]["Fn::Base64"])
    line = next(line for line in text.splitlines() if line.startswith('{"region"'))
    settings = json.loads(line)
    (asset,) = everything.glob("asset.*.pyz")
    assert settings["agent"]["url"].endswith(asset.name.removeprefix("asset."))
    assert settings["agent"]["sha256"] == _sha256(asset)
    assert settings["models"].endswith("/weights/v1/")
    assert len(text.encode()) <= 16 * 1024


def _sha256(path):
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- what an instance may do ----------------------------------------------------------------


@pytest.fixture
def statements(found):
    """All that the instances' role is allowed, but for AWS's own managed policy."""
    inline = found("Fleet", "AWS::IAM::Policy").values()
    drain = found("FleetStorage", "AWS::IAM::ManagedPolicy").values()
    return [
        statement
        for policy in (*inline, *drain)
        for statement in plain(policy["Properties"]["PolicyDocument"]["Statement"])
    ]


ASSETS = f"arn:aws:s3:::cdk-hnb659fds-assets-{ACCOUNT}-eu-west-1"
GROUPS = f"arn:aws:autoscaling:eu-west-1:{ACCOUNT}:autoScalingGroup:1:autoScalingGroupName"


def test_an_instance_drains_into_the_ephemeral_buckets_only(statements, found):
    """It can put, look at and finish an upload there; it can delete nothing."""
    buckets = found("FleetStorage", "AWS::S3::Bucket")
    permanent = [i for i, b in buckets.items() if b["DeletionPolicy"] == "Retain"]
    for bucket in buckets:
        objects = f"<{bucket}.Arn>/a/b"
        assert decide(statements, Request("s3:PutObject", objects)) is (bucket not in permanent)
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteBucket"):
            assert not decide(statements, Request(action, objects))


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:GetObject", f"{ASSETS}/another-asset.zip", False),
        ("autoscaling:CompleteLifecycleAction", f"{GROUPS}/codeferry-prod-gpu-workers", True),
        ("autoscaling:CompleteLifecycleAction", f"{GROUPS}/codeferry-prod-others", False),
        ("autoscaling:SetDesiredCapacity", f"{GROUPS}/codeferry-prod-gpu-workers", False),
        ("ec2:RunInstances", "*", False),
        ("iam:PassRole", "*", False),
        ("ssm:SendCommand", "*", False),
    ],
)
def test_an_instance_can_complete_its_own_start_and_little_else(
    statements, action, resource, allowed
):
    """Not another group's, not the group's size, nobody else's assets."""
    assert decide(statements, Request(action, resource)) is allowed


def test_an_instance_reads_its_agent_and_its_models(statements, everything, found):
    """The one asset, and the prefix it is to fetch, not the rest of the permanent bucket."""
    (asset,) = everything.glob("asset.*.pyz")
    key = asset.name.removeprefix("asset.")
    assert decide(statements, Request("s3:GetObject", f"{ASSETS}/{key}"))
    arns = {r for s in statements for r in s["Resource"] if r.endswith("/weights/v1/*")}
    (models,) = {r.removesuffix("/weights/v1/*") for r in arns}
    assert decide(statements, Request("s3:GetObject", f"{models}/weights/v1/a"))
    assert not decide(statements, Request("s3:GetObject", f"{models}/weights/v2/a"))
    listing = {"s3:prefix": "weights/v1/"}
    assert decide(statements, Request("s3:ListBucket", models, listing))
    assert not decide(statements, Request("s3:ListBucket", models, {"s3:prefix": ""}))
    assert not decide(statements, Request("s3:ListBucket", models))


def test_the_role_has_ssm_core_and_the_stages_policies(only):
    """Systems Manager's, the workflow's exported one and the drain's; no administrator."""
    attached = plain(only("Fleet", "AWS::IAM::Role")["ManagedPolicyArns"])
    assert attached[:2] == [
        "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
        f"arn:aws:iam::{ACCOUNT}:policy/codeferry-prod-eu-west-1-instance",
    ]
    assert len(attached) == 3
    assert "DrainPolicy" in attached[2]


# --- where it lives -------------------------------------------------------------------------


def test_the_own_network_has_no_way_out_but_its_endpoints(found):
    """No gateway, no NAT, no default route: S3 and the services an instance needs."""
    for kind in ("InternetGateway", "NatGateway", "Route", "EIP"):
        assert found("Fleet", f"AWS::EC2::{kind}") == {}
    services = {
        plain(e["Properties"]["ServiceName"]).rpartition(".")[2]
        for e in found("Fleet", "AWS::EC2::VPCEndpoint").values()
    }
    assert {"s3", "ssm", "ssmmessages", "logs"} <= services
    # AWS has it no more in its newer Regions, and no agent of the image needs it.
    assert "ec2messages" not in services
    # What the first start reports to.
    assert {"cloudformation", "autoscaling"} <= services


def test_the_group_waits_for_all_that_its_first_instances_need(everything):
    """The endpoints by which they report, and the policy by which they may."""
    template = json.loads((everything / "Codeferry-prod-Fleet.template.json").read_text())
    resources = template["Resources"]
    needed = {
        id_
        for id_, r in resources.items()
        if r["Type"] in ("AWS::EC2::VPCEndpoint", "AWS::IAM::Policy")
    }
    assert len(needed) > 6
    assert needed <= set(resources["Group"]["DependsOn"])


def test_nobody_pays_for_metrics_by_the_minute_that_nobody_reads(only):
    """Detailed monitoring; the group's own metrics are free."""
    data = only("Fleet", "AWS::EC2::LaunchTemplate")["LaunchTemplateData"]
    assert data["Monitoring"] == {"Enabled": False}


def test_the_own_network_is_in_the_zones_that_were_chosen(synthesise, tmp_path):
    """A region's first two may lack an instance type, or a service's endpoint."""
    agent = tmp_path / "agent.pyz"
    agent.write_bytes(b"agent")
    context = {"fleet": "a", "agent_pyz": str(agent), "fleet_zones": "eu-west-1b,eu-west-1c"}
    synthesise(tmp_path / "out", stage="prod", **context)
    template = json.loads((tmp_path / "out/Codeferry-prod-Fleet.template.json").read_text())
    subnets = [r for r in template["Resources"].values() if r["Type"] == "AWS::EC2::Subnet"]
    zones = [subnet["Properties"]["AvailabilityZone"] for subnet in subnets]
    assert zones == ["eu-west-1b", "eu-west-1c"]


def test_a_fleet_can_live_in_subnets_of_yours(synthesise, tmp_path):
    """Then nothing of a network is made but the closed security group."""
    agent = tmp_path / "agent.pyz"
    agent.write_bytes(b"agent")
    context = {
        "stage": "prod",
        "fleet": "a",
        "agent_pyz": str(agent),
        "fleet_vpc": "vpc-1",
        "fleet_subnets": "subnet-1,subnet-2",
        "fleet_types": "m7i.large",
        "fleet_spot": "true",
    }
    synthesise(tmp_path / "out", **context)
    template = json.loads((tmp_path / "out/Codeferry-prod-Fleet.template.json").read_text())
    by_type = {r["Type"]: r["Properties"] for r in template["Resources"].values()}
    assert not {t for t in by_type if t.startswith("AWS::EC2::VPC") or "Subnet" in t}
    group = by_type["AWS::AutoScaling::AutoScalingGroup"]
    assert group["VPCZoneIdentifier"] == ["subnet-1", "subnet-2"]
    assert group["CapacityRebalance"] is True
    distribution = group["MixedInstancesPolicy"]["InstancesDistribution"]
    assert distribution["OnDemandPercentageAboveBaseCapacity"] == 0
    assert distribution["SpotAllocationStrategy"] == "price-capacity-optimized"
    assert "x86_64" in json.dumps(template["Parameters"])
