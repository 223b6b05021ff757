"""From nothing to a fleet, by the command that docs/fleet.md gives, on an AWS of its own.

MiniStack refuses ``AWS::SSM::Document`` and ``AWS::IAM::OIDCProvider``, so Documents and GitOps
are left out here; it cannot answer the CDK's function that empties a bucket, which speaks HTTPS
only, so nothing is emptied; and it has no public AMI parameters, so one is made.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from codeferry_contracts.names import Stage
from codeferry_local.emulator import Emulator, free_port

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the CDK app is no package

from stacks.gitops_permissions import Place, plan_permissions

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("aws-bootstrap")]

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION, STAGE = "000000000000", "eu-west-1", Stage("dev")
IMAGE = "/codeferry/tests/image"
FOR_MINISTACK = [
    *("--leave-out", "Documents"),
    *("--context", "empty_on_destroy=false"),
    *("--context", f"fleet_image={IMAGE}"),
]
BUCKET = f"codeferry-dev-models-{ACCOUNT}-{REGION}"


@dataclass
class Laptop:
    """A machine that is signed in to an empty account."""

    url: str
    directory: Path

    @property
    def environment(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "CODEFERRY_"))}
        return kept | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "laptop",
            "AWS_SECRET_ACCESS_KEY": "laptop",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "HOME": str(self.directory),
        }

    def run(self, command, **changes):
        return subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=self.environment | changes,
            capture_output=True,
            text=True,
            check=False,
        )

    def cdk(self, *arguments):
        return self.run([sys.executable, ROOT / "scripts/cdk.py", *arguments])

    def synthesise(self, directory, *context):
        """The assembly that the bootstrap deployed, made again."""
        words = ("stage=dev", f"permanent_bucket={BUCKET}", *FOR_MINISTACK[3::2], *context)
        options = [part for word in words for part in ("-c", word)]
        made = self.cdk("synth", "--quiet", "--all", "--output", directory, *options)
        assert made.returncode == 0, made.stderr

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def calls(self):
        with urllib.request.urlopen(f"{self.url}/_codeferry/calls") as answer:
            return json.load(answer)["calls"]


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
def documented(weights):
    """The command of docs/fleet.md, word by word, with weights that are there."""
    (line,) = re.findall(r"(?m)^scripts/bootstrap\.sh .+$", (ROOT / "docs/fleet.md").read_text())
    return [str(weights) if word == "./weights" else word for word in shlex.split(line)]


@pytest.fixture(scope="module")
def bootstrapped(laptop, documented):
    return laptop.run([*documented, *FOR_MINISTACK])


def last(done):
    return done.stdout.rstrip().splitlines()[-1]


@pytest.mark.timeout(400)
def test_the_documented_command_makes_a_stage(bootstrapped):
    """It says what it did and ends successful; what remains to be done is in it."""
    assert bootstrapped.returncode == 0, bootstrapped.stdout + bootstrapped.stderr[-3000:]
    assert last(bootstrapped) == "BOOTSTRAP SUCCESSFUL"
    assert "ferry push TARGET DIR --stage dev" in bootstrapped.stdout
    assert f"permanent_bucket={BUCKET} " in bootstrapped.stdout


def test_agent_and_weights_are_in_the_permanent_bucket(laptop, bootstrapped, weights):
    """Byte for byte, in the structure they had."""
    assert bootstrapped.returncode == 0
    s3 = laptop.client("s3")
    local = {f"models/{p.relative_to(weights)}": p for p in weights.rglob("*") if p.is_file()}
    local["agent/codeferry-agent.pyz"] = ROOT / "build" / "codeferry-agent.pyz"
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


@pytest.mark.timeout(400)
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


@pytest.mark.timeout(400)
def test_a_plan_needs_no_more_than_the_plan_role_has(laptop, bootstrapped, tmp_path):
    """Every call of `cdk diff` and `ferry doctor` is one that the role allows."""
    assert bootstrapped.returncode == 0
    laptop.synthesise(tmp_path, "fleet=workers", "fleet_models=models")
    begun = time.time()
    diff = laptop.cdk("diff", "--app", tmp_path, "--method=template", "--ci", "--no-color")
    assert diff.returncode == 0, diff.stderr
    doctor = laptop.run([Path(sys.executable).with_name("ferry"), "doctor", "--stage", "dev"])
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert f"Stack {STAGE.workflow_stack}" in diff.stdout
    # AWS refuses the plan role these; the CDK then goes on with the credentials it has.
    needs = [c for c in laptop.calls() if c["time"] >= begun and c["action"] not in UNCHECKED]
    assert needs
    refused = [(c["action"], c["resource"]) for c in needs if not allowed(c)]
    assert refused == []


UNCHECKED = {"sts:AssumeRole", "sts:GetCallerIdentity"}


def allowed(call):
    place = Place("aws", REGION, ACCOUNT, STAGE)
    return any(
        call["action"] in permission.actions
        and any(like(pattern, call["resource"]) for pattern in permission.resources)
        for permission in plan_permissions(place)
    )


def like(pattern, value):
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), value) is not None


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
    done = laptop.run(documented, AWS_EC2_METADATA_DISABLED="true", **change)
    assert done.returncode == 1
    assert said in done.stdout
    assert remedy in done.stdout
    assert last(done) == "BOOTSTRAP INCOMPLETE"


@pytest.mark.timeout(400)
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


@pytest.mark.timeout(400)
def test_destroying_leaves_what_is_permanent_and_the_next_deployment_takes_it(
    laptop, bootstrapped, tmp_path
):
    """Bucket, objects and policy stay; a change set for a new stack imports the bucket.

    MiniStack makes that change set but cannot execute it for a stack that is not there yet.
    """
    assert bootstrapped.returncode == 0
    laptop.synthesise(tmp_path)
    gone = [STAGE.fleet_stack, STAGE.fleet_storage_stack]
    for stack in gone:
        laptop.client("cloudformation").delete_stack(StackName=stack)
        laptop.client("cloudformation").get_waiter("stack_delete_complete").wait(
            StackName=stack, WaiterConfig={"Delay": 1}
        )
    s3 = laptop.client("s3")
    buckets = {b["Name"] for b in s3.list_buckets()["Buckets"]}
    assert BUCKET in buckets
    assert not {b for b in buckets if "fleetstorage" in b}
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] >= 3
    assert "PermanentButForBreakGlass" in s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    assert imports(laptop, tmp_path) == ["AWS::S3::Bucket"]


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
