"""Permissions of CloudFormation in an account, and that the policies keep up with the code."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws

from bootstrap.aws import Aws
from bootstrap.permissions import settle_permissions

ACCOUNT, REGION = "123456789012", "eu-west-1"
PARTS = ("storage", "workflow", "fleet", "iam")
ARNS = [f"arn:aws:iam::{ACCOUNT}:policy/cdk-hnb659fds-codeferry-{p}-{REGION}" for p in PARTS]
BOUNDARY = f"cdk-hnb659fds-codeferry-boundary-{REGION}"
THEIRS = "arn:aws:iam::aws:policy/AdministratorAccess"


class Account:
    """An account whose CDK stack has been made with ``given``; None for none."""

    def __init__(self, given=None):
        self.given, self.policies = given, {}

    def partition(self):
        return "aws"

    def status(self, stack):
        return "" if self.given is None else "UPDATE_COMPLETE"

    def parameter(self, stack, name):
        assert (stack, name) == ("CDKToolkit", "CloudFormationExecutionPolicies")
        return self.given or ""

    def put_policy(self, arn, document, description):
        self.policies[arn] = document


def given(account, narrow=False):
    return settle_permissions(account, REGION, ACCOUNT, narrow=narrow)


@pytest.mark.parametrize("before", [None, ",".join(ARNS), ",".join(reversed(ARNS))])
def test_an_account_of_ours_gets_our_policies(before):
    """One without the CDK's stack, or one where it was made with them: they are up to date."""
    account = Account(before)
    found = given(account)
    assert found.options == ("--cloudformation-execution-policies", ",".join(ARNS))
    assert found.context == (f"permissions_boundary={BOUNDARY}",)
    assert [arn.rpartition("/")[2] for arn in account.policies] == [
        *(arn.rpartition("/")[2] for arn in ARNS),
        BOUNDARY,
    ]


@pytest.mark.parametrize("before", [THEIRS, "", f"{ARNS[0]},{THEIRS}"])
def test_what_another_team_chose_stays_and_is_told(before):
    """Nothing is made and nothing passed on; how to narrow it is said."""
    account = Account(before)
    found = given(account)
    assert (found.options, found.context, account.policies) == ((), (), {})
    assert "--narrow" in found.message
    assert (before or "AdministratorAccess") in found.message


def test_who_asks_for_it_gets_it_narrowed():
    """Also where the CDK's stack is there with other policies."""
    assert given(Account(THEIRS), narrow=True).options[1] == ",".join(ARNS)


# --- the policies themselves ----------------------------------------------------------------


@pytest.fixture
def iam(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield boto3.client("iam", region_name=REGION)


def content(number):
    statement = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{number}"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def current(iam):
    version = iam.get_policy(PolicyArn=ARNS[0])["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=ARNS[0], VersionId=version)["PolicyVersion"]
    return version, document["Document"]


def test_a_policy_is_made_once_and_changed_when_it_changes(iam):
    """Saying the same again makes no version."""
    aws = Aws(REGION)
    for _ in range(2):
        aws.put_policy(ARNS[0], content(1), "for the test")
        assert current(iam) == ("v1", content(1))
    aws.put_policy(ARNS[0], content(2), "for the test")
    assert current(iam) == ("v2", content(2))


def test_the_oldest_version_makes_room(iam):
    """IAM keeps five; the one in force is never deleted."""
    aws = Aws(REGION)
    for number in range(12):
        aws.put_policy(ARNS[0], content(number), "for the test")
    versions = iam.list_policy_versions(PolicyArn=ARNS[0])["Versions"]
    assert {v["VersionId"] for v in versions} == {f"v{n}" for n in range(8, 13)}
    assert current(iam) == ("v12", content(11))


def test_a_stacks_parameter_is_read(monkeypatch):
    """Empty for one that the stack does not have, or when there is no stack."""
    stacks = {"S": {"Parameters": [{"ParameterKey": "Chosen", "ParameterValue": "a,b"}]}}
    aws = Aws(REGION)
    monkeypatch.setattr(aws, "_describe", stacks.get)
    assert aws.parameter("S", "Chosen") == "a,b"
    assert aws.parameter("S", "Other") == aws.parameter("None", "Chosen") == ""


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_the_partition_is_the_regions(region, partition):
    """ARNs begin with it."""
    assert Aws(region).partition() == partition
