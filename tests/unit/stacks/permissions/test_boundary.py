"""The boundary of every role of every stage: what they need lies within, all else outside."""

from __future__ import annotations

import json

import pytest

from stacks.permissions.roles import boundary_document, place_of, policy_name
from tests.unit.stacks.conftest import EVERYTHING
from tests.unit.stacks.iam_evaluator import Request, bounded, decide
from tests.unit.stacks.policies import ACCOUNT, REGION, Assembly, arn_of, samples

BOUNDARY = boundary_document(place_of("aws", REGION, ACCOUNT))["Statement"]
NAME = policy_name("boundary", REGION)
TAGS = {
    "aws:ResourceTag/codeferry:stage": "prod",
    "aws:ResourceTag/codeferry:target": "workers",
}
ADMINISTRATOR = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]

# Version 2 of AmazonSSMManagedInstanceCore ("AWS managed policies for Systems Manager").
MANAGED_INSTANCE = [
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
    "ssm:DescribeAssociation",
    "ssm:DescribeDocument",
    "ssm:GetDeployablePatchSnapshotForInstance",
    "ssm:GetDocument",
    "ssm:GetManifest",
    "ssm:GetParameter",
    "ssm:GetParameters",
    "ssm:ListAssociations",
    "ssm:ListInstanceAssociations",
    "ssm:PutComplianceItems",
    "ssm:PutConfigurePackageResult",
    "ssm:PutInventory",
    "ssm:UpdateAssociationStatus",
    "ssm:UpdateInstanceAssociationStatus",
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
]


def test_all_that_a_role_may_do_lies_within(everything):
    """Each action on each resource of each role's policies; otherwise it would be lost."""
    assembly = Assembly(everything)
    lost = [
        (id_, action, resource)
        for stack, id_, role in assembly.resources("AWS::IAM::Role")
        for statement in assembly.role_statements(stack, id_)
        for action, resource in samples(statement)
        if not decide(BOUNDARY, Request(action, resource, principal(stack, id_, role)))
    ]
    assert lost == []


def principal(stack, id_, role):
    return {**TAGS, "aws:PrincipalArn": arn_of(stack, id_, role)}


def test_the_ssm_agent_can_do_its_work():
    """What AWS's own policy gives an instance is in the boundary too."""
    lost = [action for action in MANAGED_INSTANCE if not decide(BOUNDARY, Request(action, "x"))]
    assert lost == []


def arn(service, resource):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("iam:CreateUser", "*", {}),
        ("iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/Codeferry-a", {}),
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/Codeferry-a", {}),
        ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/Admin", {}),
        (
            "sts:AssumeRole",
            f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}",
            {},
        ),
        ("s3:GetObject", "arn:aws:s3:::payroll/a", {}),
        ("dynamodb:GetItem", arn("dynamodb", "table/payroll"), {}),
        ("ssm:SendCommand", arn("ec2", "instance/i-1"), {}),
        ("ssm:SendCommand", arn("ssm", "document/AWS-RunShellScript"), {}),
        ("kms:Decrypt", arn("kms", "key/1"), {}),
        ("lambda:InvokeFunction", arn("lambda", "function:payroll"), {}),
        ("lambda:UpdateFunctionCode", arn("lambda", "function:codeferry-prod-plan"), {}),
        ("ec2:RunInstances", "*", {}),
        ("secretsmanager:GetSecretValue", "*", {}),
        ("cloudformation:UpdateStack", "*", {}),
    ],
)
def test_an_administrators_policy_on_a_role_gives_nothing_of_others(action, resource, context):
    """A template may say what it likes."""
    assert not bounded(ADMINISTRATOR, BOUNDARY, Request(action, resource, context))


@pytest.mark.parametrize(
    ("purpose", "action", "resource", "allowed"),
    [
        ("plan", "ec2:DescribeLaunchTemplateVersions", "*", False),
        ("plan", "lambda:InvokeFunction", arn("lambda", "function:codeferry-prod-check"), False),
        ("inspect", "ec2:DescribeLaunchTemplateVersions", "*", True),
        ("inspect", "s3:GetObject", "arn:aws:s3:::codeferry-prod-a/b", False),
        ("inspect", "ssm:SendCommand", arn("ssm", "document/codeferry-prod-sync"), False),
        ("plan", "cloudformation:GetTemplate", "*", True),
        ("plan", "s3:GetObject", "arn:aws:s3:::codeferry-prod-a/b", False),
        ("plan", "s3:PutBucketPolicy", "arn:aws:s3:::codeferry-prod-a", False),
        ("plan", "ssm:SendCommand", arn("ssm", "document/codeferry-prod-sync"), False),
        (
            "plan",
            "sts:AssumeRole",
            f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds-deploy-role-{ACCOUNT}-{REGION}",
            False,
        ),
        (
            "deploy",
            "sts:AssumeRole",
            f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds-deploy-role-{ACCOUNT}-{REGION}",
            True,
        ),
        ("deploy", "cloudformation:GetTemplate", "*", False),
        ("deploy", "s3:GetObject", "arn:aws:s3:::codeferry-prod-a/b", False),
    ],
)
def test_githubs_roles_stay_what_they_are(purpose, action, resource, allowed):
    """Even with an administrator's policy: plan reads, deploy becomes the CDK's roles."""
    who = {
        "aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/codeferry-prod-eu-west-1-{purpose}",
        **TAGS,
    }
    assert bounded(ADMINISTRATOR, BOUNDARY, Request(action, resource, who)) is allowed


@pytest.fixture(scope="module")
def narrowed(everything, synthesise, tmp_path_factory):
    agent = str(everything.parent / "codeferry-agent.pyz")
    context = EVERYTHING | {"permissions_boundary": NAME, "agent_pyz": agent}
    return synthesise(tmp_path_factory.mktemp("narrowed"), **context)


def test_every_role_of_every_stack_gets_it(narrowed):
    """Also GitHub's, and those that the CDK makes by itself; CloudFormation makes no other."""
    assembly = Assembly(narrowed)
    found = {
        assembly.read(stack, role["Properties"].get("PermissionsBoundary"))
        for stack, _, role in assembly.resources("AWS::IAM::Role")
    }
    assert found == {f"arn:aws:iam::{ACCOUNT}:policy/{NAME}"}
    assert json.loads((narrowed / "validation-report.json").read_text())["pluginReports"] == []
