"""From nothing to a fleet, by the command that docs/fleet.md gives, on an AWS of its own.

MiniStack refuses ``AWS::SSM::Document`` and ``AWS::IAM::OIDCProvider``, so Documents and GitOps
are left out here; it cannot answer the CDK's function that empties a bucket, which speaks HTTPS
only, so nothing is emptied; and it has no public AMI parameters, so one is made.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from codeferry_contracts.names import Stage
from codeferry_local.emulator.process import Emulator, free_port

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the CDK app is no package

from stacks.permissions import roles
from stacks.permissions.roles import (
    Place,
    cloudformation_permissions,
    deploy_permissions,
    inspect_permissions,
    plan_permissions,
    policy_document,
    policy_name,
)
from tests.e2e.fleet_instance import LARGE, Instance
from tests.e2e.laptop import REGION, ROOT, Laptop
from tests.e2e.needs import needs_of, refused, statements_of, unused

pytestmark = pytest.mark.e2e

ACCOUNT, STAGE = "000000000000", Stage("dev")
PLACE = Place("aws", REGION, ACCOUNT, STAGE)
IMAGE = "/codeferry/tests/image"
FOR_MINISTACK = [
    *("--leave-out", "Documents"),
    *("--context", "empty_on_destroy=false"),
    *("--context", f"fleet_image={IMAGE}"),
]
BUCKET = f"codeferry-dev-models-{ACCOUNT}-{REGION}"
BREAK_GLASS = STAGE.of_account("break-glass", REGION)
BOUNDARY = policy_name("boundary", REGION)
# What the bootstrap deploys, as settings of the CDK app; and without what MiniStack refuses.
CONTEXT = (
    "stage=dev",
    f"region={REGION}",
    f"permanent_bucket={BUCKET}",
    *FOR_MINISTACK[3::2],
    f"permissions_boundary={BOUNDARY}",
    "fleet=workers",
    "fleet_models=models",
)
STACKS = (
    STAGE.storage_stack,
    STAGE.workflow_stack,
    STAGE.fleet_storage_stack,
    STAGE.monitoring_stack,
    STAGE.fleet_stack,
)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    directory = tmp_path_factory.mktemp("laptop")
    emulator = Emulator.start(free_port(), directory / "aws", directory / "log", {})
    try:
        made = Laptop(emulator.url, directory)
        made.client("ssm").put_parameter(Name=IMAGE, Type="String", Value="ami-0123456789abcdef0")
        yield made
    finally:
        emulator.stop()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    directory = tmp_path_factory.mktemp("weights")
    (directory / "part").mkdir()
    (directory / "model.bin").write_bytes(os.urandom(300_000))
    (directory / "part" / "one.bin").write_bytes(b"one")
    return directory


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """Where the agent is built: other tests build theirs."""
    return tmp_path_factory.mktemp("build") / "codeferry-agent.pyz"


@pytest.fixture(scope="module")
def documented(weights, agent):
    """The command of docs/fleet.md, word by word, with weights that are there."""
    (line,) = re.findall(r"(?m)^scripts/bootstrap\.sh .+$", (ROOT / "docs/fleet.md").read_text())
    words = [str(weights) if word == "./weights" else word for word in shlex.split(line)]
    return [*words, "--agent", str(agent)]


@pytest.fixture(scope="module")
def assembly(laptop, bootstrapped, agent, tmp_path_factory):
    """What the bootstrap has deployed."""
    directory = tmp_path_factory.mktemp("assembly")
    laptop.synthesise(directory, *CONTEXT, f"agent_pyz={agent}")
    return directory


@pytest.fixture(scope="module")
def before(laptop):
    """What an empty account has: a default network, the image of the tests."""
    return laptop.inventory()


@pytest.fixture(scope="module")
def bootstrapped(laptop, before, documented):
    return laptop.run([*documented, *FOR_MINISTACK])


def last(done):
    return done.stdout.rstrip().splitlines()[-1]


@pytest.mark.timeout(900)
def test_the_documented_command_makes_a_stage(bootstrapped):
    """It says what it did and ends successful; what remains to be done is in it."""
    assert bootstrapped.returncode == 0, bootstrapped.stdout + bootstrapped.stderr[-3000:]
    assert last(bootstrapped) == "BOOTSTRAP SUCCESSFUL"
    assert "ferry push TARGET DIR --stage dev" in bootstrapped.stdout
    assert f"permanent_bucket={BUCKET} " in bootstrapped.stdout


def test_agent_and_weights_are_in_the_permanent_bucket(laptop, bootstrapped, weights, agent):
    """Byte for byte, in the structure they had."""
    assert bootstrapped.returncode == 0
    s3 = laptop.client("s3")
    local = {f"models/{p.relative_to(weights)}": p for p in weights.rglob("*") if p.is_file()}
    local["agent/codeferry-agent.pyz"] = agent
    for key, path in local.items():
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == path.read_bytes()
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"


def test_the_fleet_is_there(laptop, bootstrapped):
    """A group under its name, whose instances will carry the target."""
    assert bootstrapped.returncode == 0
    (group,) = laptop.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["AutoScalingGroupName"] == "codeferry-dev-workers"
    tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
    assert tags["codeferry:target"] == "workers"


@pytest.mark.timeout(900)
def test_doing_it_again_changes_nothing(laptop, bootstrapped, documented):
    """Every step finds its work done."""
    assert bootstrapped.returncode == 0
    before = stacks(laptop)
    again = laptop.run([*documented, *FOR_MINISTACK])
    assert again.returncode == 0, again.stdout
    assert last(again) == "BOOTSTRAP SUCCESSFUL"
    assert stacks(laptop) == before


def stacks(laptop):
    found = laptop.client("cloudformation").describe_stacks()["Stacks"]
    return {s["StackName"]: (s["StackStatus"], s.get("LastUpdatedTime")) for s in found}


@pytest.mark.timeout(900)
def test_a_plan_needs_exactly_what_the_plan_role_has(laptop, bootstrapped, assembly):
    """Every call of `cdk diff` is one that the role allows, and it allows nothing else."""
    assert bootstrapped.returncode == 0
    begun = time.time()
    diff = laptop.cdk(
        *("diff", "--app", assembly, "--method=template", "--ci", "--no-color"),
        AWS_ACCESS_KEY_ID="plan",
    )
    assert diff.returncode == 0, diff.stderr
    assert f"Stack {STAGE.workflow_stack}" in diff.stdout
    needs, statements = (
        asked(laptop, "plan", begun),
        policy_document(plan_permissions(PLACE))["Statement"],
    )
    assert refused(statements, needs) == []
    assert unused(statements, needs) == set()


@pytest.mark.timeout(900)
def test_the_health_check_needs_no_more_than_the_inspect_role_has(laptop, bootstrapped):
    """Every call of `ferry doctor` is one that the role allows."""
    assert bootstrapped.returncode == 0
    begun, ferry = time.time(), Path(sys.executable).with_name("ferry")
    doctor = laptop.run([ferry, "doctor", "--stage", "dev"], AWS_ACCESS_KEY_ID="inspect")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    needs = asked(laptop, "inspect", begun)
    assert needs
    assert refused(policy_document(inspect_permissions(PLACE))["Statement"], needs) == []


def asked(laptop, who, begun):
    """What the role's calls needed. AWS refuses it to become another, and the CDK then goes on
    with what it has: so what it asks here under a session of another role (ASIA…) is asked by
    this one there."""
    needs = needs_of(laptop.url, (who, "ASIA"), begun)
    return {need for need in needs if need.action != "sts:AssumeRole"}


@pytest.mark.timeout(900)
def test_a_deployment_needs_exactly_what_the_deploy_role_has(laptop, bootstrapped, assembly):
    """`cdk deploy` becomes the CDK's roles for assets and for stacks, and asks nothing else."""
    assert bootstrapped.returncode == 0
    begun = time.time()
    options = ("--exclusively", "--require-approval=never", "--import-existing-resources", "--ci")
    done = laptop.cdk("deploy", "--app", assembly, *options, *STACKS, AWS_ACCESS_KEY_ID="deployer")
    assert done.returncode == 0, done.stderr
    statements = policy_document(deploy_permissions(PLACE))["Statement"]
    needs = needs_of(laptop.url, "deployer", begun)
    assert refused(statements, needs) == []
    assert unused(statements, needs) == set()


@pytest.mark.timeout(900)
def test_an_instance_needs_exactly_what_its_role_has(laptop, bootstrapped, tmp_path):
    """Its first start and its drain, with a kill in it, against the role as it is deployed.

    What the suite has no program for (AWS's agents) says so beside the permission.
    """
    assert bootstrapped.returncode == 0
    begun, instance = time.time(), Instance(tmp_path, laptop, "instance")
    started = instance.first_start()
    assert started.returncode == 0, started.stderr
    for bucket in buckets_of(laptop, "OutputsBucket", "CheckpointsBucket"):
        instance.write(bucket, "small", b"small")
        instance.write(bucket, "large", os.urandom(LARGE))
        instance.drain_and_be_killed()
        drained = instance.drain()
        assert drained.returncode == 0, drained.stderr
    needs = with_prefix(needs_of(laptop.url, "instance", begun), "models/")
    (role,) = instance_roles(laptop)
    statements = statements_of(laptop.client("iam"), role)
    assert refused(statements, needs) == []
    assert unused(statements, needs) == set(excuses())
    assert all(excuses().values())


def buckets_of(laptop, *outputs):
    stack = laptop.client("cloudformation").describe_stacks(StackName=STAGE.fleet_storage_stack)
    found = {o["OutputKey"]: o["OutputValue"] for o in stack["Stacks"][0]["Outputs"]}
    return [found[name] for name in outputs]


def with_prefix(needs, prefix):
    """The journal knows no parameters; what the first start lists is what it was told to."""
    return {replace(need, context=(("s3:prefix", prefix),)) for need in needs}


def instance_roles(laptop):
    profiles = laptop.client("iam").list_instance_profiles()["InstanceProfiles"]
    return [role["RoleName"] for profile in profiles for role in profile["Roles"]]


def excuses():
    """Action to the reason why it is granted though nothing here uses it."""
    granted = [
        *roles.command_output_permissions(""),
        *roles.drain_permissions([], ""),
        *roles.first_start_permissions("", ""),
        *roles.models_permissions("", ""),
    ]
    found = {action: why for p in granted for action, why in p.unseen.items()}
    return found | dict(roles.SIGNALS)


@pytest.mark.parametrize(
    ("change", "said", "remedy"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "could not be reached", "network"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "does not know who",
            "aws sso login",
        ),
    ],
)
def test_who_is_not_signed_in_is_told_how(laptop, documented, change, said, remedy):
    """Before anything is made."""
    at_once = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
    done = laptop.run(documented, **at_once, **change)
    assert done.returncode == 1
    assert said in done.stdout
    assert remedy in done.stdout
    assert last(done) == "BOOTSTRAP INCOMPLETE"


@pytest.mark.timeout(900)
def test_a_deployment_that_fails_is_told_with_cloudformations_words(
    laptop, bootstrapped, documented
):
    """And with where to read more; nothing is called successful."""
    assert bootstrapped.returncode == 0
    without_image = [w.replace(IMAGE, "/no/such/image") for w in FOR_MINISTACK]
    done = laptop.run([*documented, *without_image])
    assert done.returncode == 1
    assert "/no/such/image" in done.stdout
    assert "describe-stack-events" in done.stdout
    assert last(done) == "BOOTSTRAP INCOMPLETE"


def test_cloudformation_has_codeferrys_policies_and_no_others(laptop, bootstrapped):
    """In an account that the bootstrap finds empty; and each says what the code says."""
    assert bootstrapped.returncode == 0
    iam = laptop.client("iam")
    role = f"cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}"
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    parts = cloudformation_permissions(PLACE)
    assert {p["PolicyName"] for p in attached} == {policy_name(part, REGION) for part in parts}
    granted = [p for permissions in parts.values() for p in permissions]
    assert statements_of(iam, role) == policy_document(granted)["Statement"]


@pytest.mark.timeout(900)
def test_destroying_leaves_what_is_permanent_and_the_next_deployment_takes_it(
    laptop, before, bootstrapped, documented, assembly
):
    """Bucket, objects, policy and the role that may break the glass stay, the CDK's own things and
    nothing else. A change set for a new stack imports bucket and role; without them, all of the
    account is as it was.

    MiniStack makes that change set but cannot execute it for a stack that is not there yet.
    """
    assert bootstrapped.returncode == 0
    deployed = kinds(laptop.inventory())
    empty(laptop.client("s3"), *buckets_of(laptop, "OutputsBucket", "CheckpointsBucket"))
    destroyed = laptop.cdk("destroy", "--app", assembly, "--all", "--force", "--ci")
    assert destroyed.returncode == 0, destroyed.stderr
    left = {
        name for _, name in laptop.inventory() - before if not name.startswith("cdk-hnb659fds-")
    }
    assert left == {BUCKET, BREAK_GLASS, "CDKToolkit", "/cdk-bootstrap/hnb659fds/version"}
    s3 = laptop.client("s3")
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] >= 3
    assert "PermanentButForBreakGlass" in s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    assert sorted(imports(laptop, assembly)) == ["AWS::IAM::Role", "AWS::S3::Bucket"]
    forget(laptop, STAGE.fleet_storage_stack)
    break_the_glass(laptop)
    again = laptop.run([*documented, *FOR_MINISTACK])
    assert last(again) == "BOOTSTRAP SUCCESSFUL", again.stdout
    assert kinds(laptop.inventory()) == deployed


def kinds(inventory):
    """How many of each; made up names differ."""
    return Counter(call for call, _ in inventory)


def forget(laptop, stack):
    """A stack that a change set was made for and that never came to be."""
    formation = laptop.client("cloudformation")
    formation.delete_stack(StackName=stack)
    formation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})


def empty(s3, *buckets):
    """As the CDK's function does on AWS."""
    for bucket in buckets:
        for version in s3.list_object_versions(Bucket=bucket).get("Versions", []):
            s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def break_the_glass(laptop):
    """As docs/fleet.md says: versions, policy and bucket, in this order, and then the role."""
    s3, iam = laptop.client("s3"), laptop.client("iam")
    empty(s3, BUCKET)
    s3.delete_bucket_policy(Bucket=BUCKET)
    s3.delete_bucket(Bucket=BUCKET)
    for name in iam.list_role_policies(RoleName=BREAK_GLASS)["PolicyNames"]:
        iam.delete_role_policy(RoleName=BREAK_GLASS, PolicyName=name)
    iam.delete_role(RoleName=BREAK_GLASS)


def imports(laptop, assembly):
    """What CloudFormation would take over instead of making it."""
    prepare = ("--method=prepare-change-set", "--change-set-name=take-over")
    options = ("--exclusively", "--import-existing-resources", "--require-approval=never")
    stack = STAGE.fleet_storage_stack
    done = laptop.cdk("deploy", "--app", assembly, *prepare, *options, stack)
    assert done.returncode == 0, done.stderr
    answer = laptop.client("cloudformation").describe_change_set(
        StackName=stack, ChangeSetName="take-over"
    )
    changes = [change["ResourceChange"] for change in answer["Changes"]]
    return [c["ResourceType"] for c in changes if c["Action"] == "Import"]
