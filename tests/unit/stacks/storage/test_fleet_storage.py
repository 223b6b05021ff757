"""Buckets that stay and buckets that expire, and who could still delete them."""

from __future__ import annotations

import copy
import json

import pytest

from tests.unit.stacks.iam_evaluator import Request, decide, plain

ACCOUNT = "arn:aws:iam::111122223333"
# A resource policy's Deny is evaluated beside what the caller's own policies allow: everything.
ADMINISTRATOR = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]


@pytest.fixture
def permanent(found):
    """Logical id and resource of the permanent bucket."""
    (it,) = [
        (i, r)
        for i, r in found("FleetStorage", "AWS::S3::Bucket").items()
        if r["DeletionPolicy"] == "Retain"
    ]
    return it


@pytest.fixture
def protection(found, permanent):
    """The statements of the permanent bucket's policy, and the policy itself."""
    (policy,) = [
        p
        for p in found("FleetStorage", "AWS::S3::BucketPolicy").values()
        if p["Properties"]["Bucket"] == {"Ref": permanent[0]}
    ]
    return policy, plain(policy["Properties"]["PolicyDocument"]["Statement"])


def attempt(statements, action, principal, resource):
    context = {"aws:PrincipalArn": principal, "aws:SecureTransport": "true"}
    return decide(ADMINISTRATOR + statements, Request(action, resource, context))


def break_glass(found):
    """The role, as the policy that names it by reference spells it."""
    (role,) = [
        i
        for i, r in found("FleetStorage", "AWS::IAM::Role").items()
        if plain(r["Properties"].get("RoleName")) == "codeferry-prod-eu-west-1-break-glass"
    ]
    return f"<{role}.Arn>"


def test_the_permanent_bucket_keeps_every_version_and_outlives_its_stack(permanent):
    """Destroying or replacing it leaves it, with all versions and no rule that expires them."""
    _, resource = permanent
    assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"
    assert resource["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    for rule in resource["Properties"]["LifecycleConfiguration"]["Rules"]:
        assert not {key for key in rule if "Expiration" in key}


def test_its_protection_outlives_the_stack_too(protection):
    """A bucket that stays without its policy would be open to deletion."""
    policy, _ = protection
    assert policy["DeletionPolicy"] == policy["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize(
    "action", ["s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:PutBucketPolicy"]
)
def test_not_even_an_administrator_deletes_the_bucket_or_what_protects_it(
    protection, permanent, found, action
):
    """Only the break-glass role does."""
    _, statements = protection
    bucket = f"<{permanent[0]}.Arn>"
    for principal in (f"{ACCOUNT}:role/Admin", f"{ACCOUNT}:user/alice", f"{ACCOUNT}:root"):
        assert not attempt(statements, action, principal, bucket)
    assert attempt(statements, action, break_glass(found), bucket)


def test_a_version_is_never_lost_a_delete_marker_is_no_loss(protection, permanent, found):
    """Versions are closed to all but one; ordinary work with the bucket goes on."""
    _, statements = protection
    model = f"<{permanent[0]}.Arn>/weights/v1/model.bin"
    administrator = f"{ACCOUNT}:role/Admin"
    assert not attempt(statements, "s3:DeleteObjectVersion", administrator, model)
    assert attempt(statements, "s3:DeleteObjectVersion", break_glass(found), model)
    for action in ("s3:PutObject", "s3:GetObject", "s3:DeleteObject"):
        assert attempt(statements, action, administrator, model)


def test_a_protection_without_its_deny_would_be_caught(protection, permanent):
    """Each of the statement's parts matters: without it the attempts above succeed."""
    _, statements = protection
    bucket, administrator = f"<{permanent[0]}.Arn>", f"{ACCOUNT}:role/Admin"
    without = [s for s in statements if s.get("Sid") != "PermanentButForBreakGlass"]
    assert len(without) == len(statements) - 1
    assert attempt(without, "s3:DeleteBucket", administrator, bucket)
    reversed_condition = copy.deepcopy(statements)
    (deny,) = [s for s in reversed_condition if s.get("Sid") == "PermanentButForBreakGlass"]
    deny["Condition"] = {"ArnNotEquals": {"aws:PrincipalArn": "*"}}
    assert attempt(reversed_condition, "s3:DeleteBucket", administrator, bucket)


def test_who_can_delete_the_permanent_bucket_outlives_the_stack_too(found):
    """A role that goes could be made anew by a deployment, with a trust of its own."""
    stays = [
        (r["Type"], r["DeletionPolicy"], r["UpdateReplacePolicy"])
        for kind in ("AWS::IAM::Role", "AWS::IAM::Policy")
        for id_, r in found("FleetStorage", kind).items()
        if id_.startswith("BreakGlass")
    ]
    assert stays == [("AWS::IAM::Role", "Retain", "Retain"), ("AWS::IAM::Policy", *["Retain"] * 2)]


def test_breaking_the_glass_takes_a_second_factor(found):
    """Anyone of the account who may assume roles, with MFA and for one hour."""
    (role,) = [
        r["Properties"]
        for r in found("FleetStorage", "AWS::IAM::Role").values()
        if plain(r["Properties"].get("RoleName")) == "codeferry-prod-eu-west-1-break-glass"
    ]
    trust = plain(role["AssumeRolePolicyDocument"]["Statement"])
    with_mfa = {"aws:MultiFactorAuthPresent": "true"}
    assert decide(trust, Request("sts:AssumeRole", context=with_mfa))
    assert not decide(trust, Request("sts:AssumeRole", context={}))
    assert not decide(
        trust, Request("sts:AssumeRole", context={**with_mfa, next(iter(with_mfa)): "false"})
    )
    assert role["MaxSessionDuration"] == 3600


def test_one_permission_set_of_identity_center_may_break_the_glass_too(synthesise, tmp_path):
    """Its sessions carry no key about a second factor; no other set's, and nobody of that name."""
    synthesise(tmp_path, stage="prod", break_glass_permission_set="BreakGlass")
    template = json.loads((tmp_path / "Codeferry-prod-FleetStorage.template.json").read_text())
    (role,) = [
        r["Properties"] for r in template["Resources"].values() if "RoleName" in r["Properties"]
    ]
    trust = plain(role["AssumeRolePolicyDocument"]["Statement"])
    roles = "arn:aws:iam::111122223333:role"
    reserved = f"{roles}/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO"
    for principal, allowed in (
        (f"{reserved}_BreakGlass_0123456789abcdef", True),
        (f"{reserved}_Administrator_0123456789abcdef", False),
        (f"{roles}/AWSReservedSSO_BreakGlass_0123456789abcdef", False),
    ):
        asked = Request("sts:AssumeRole", context={"aws:PrincipalArn": principal})
        assert decide(trust, asked) is allowed


def test_ephemeral_buckets_expire_and_go_with_their_stack(found, permanent):
    """Outputs after 30 days, checkpoints after 14; unfinished uploads after one."""
    days = []
    for id_, resource in found("FleetStorage", "AWS::S3::Bucket").items():
        if id_ == permanent[0]:
            continue
        assert resource["DeletionPolicy"] == "Delete"
        rules = {r["Id"]: r for r in resource["Properties"]["LifecycleConfiguration"]["Rules"]}
        days.append(rules["ephemeral"]["ExpirationInDays"])
        assert rules["leftovers"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert sorted(days) == [14, 30]


def test_no_bucket_is_open(found):
    """Public access blocked, no ACLs, and HTTP refused to everyone, in each of the three."""
    buckets = found("FleetStorage", "AWS::S3::Bucket")
    policies = found("FleetStorage", "AWS::S3::BucketPolicy").values()
    for id_, resource in buckets.items():
        properties = resource["Properties"]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert properties["OwnershipControls"]["Rules"] == [
            {"ObjectOwnership": "BucketOwnerEnforced"}
        ]
        (policy,) = [p for p in policies if p["Properties"]["Bucket"] == {"Ref": id_}]
        statements = plain(policy["Properties"]["PolicyDocument"]["Statement"])
        http = Request("s3:GetObject", f"<{id_}.Arn>/a", {"aws:SecureTransport": "false"})
        assert not decide(ADMINISTRATOR + statements, http)


def test_the_outputs_name_every_bucket(everything):
    """People and scripts find them there, and read that the permanent one stays."""
    template = json.loads((everything / "Codeferry-prod-FleetStorage.template.json").read_text())
    outputs = template["Outputs"]
    assert {"PermanentBucket", "OutputsBucket", "CheckpointsBucket"} <= set(outputs)
    assert "Stays" in outputs["PermanentBucket"]["Description"]


def test_a_permanent_bucket_with_a_name_can_be_taken_over(synthesise, tmp_path):
    """CloudFormation finds an existing resource by a literal name: bucket, policy and role."""
    name = "codeferry-prod-models-1-eu-west-1"
    synthesise(tmp_path, stage="prod", region="eu-west-1", permanent_bucket=name)
    template = json.loads((tmp_path / "Codeferry-prod-FleetStorage.template.json").read_text())
    named = [
        r["Properties"][name]
        for kind, name in (
            ("AWS::S3::Bucket", "BucketName"),
            ("AWS::S3::BucketPolicy", "Bucket"),
            ("AWS::IAM::Role", "RoleName"),
        )
        for r in template["Resources"].values()
        if r["Type"] == kind and r.get("DeletionPolicy") == "Retain"
    ]
    assert named == [name, name, "codeferry-prod-eu-west-1-break-glass"]
