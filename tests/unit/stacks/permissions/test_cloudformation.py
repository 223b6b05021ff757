"""CloudFormation's permissions: enough for every template, no administrator."""

from __future__ import annotations

import json

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from stacks.permissions.roles import (
    BESIDE_THE_HANDLERS,
    POLICY_LIMIT,
    boundary_document,
    cloudformation_permissions,
    place_of,
    policy_document,
    policy_name,
)
from tests.unit.stacks.iam_evaluator import Request, decide, like
from tests.unit.stacks.policies import ACCOUNT, NAMED, REGION, Assembly, arn_of

PLACE = place_of("aws", REGION, ACCOUNT)
PERMISSIONS = [p for part in cloudformation_permissions(PLACE).values() for p in part]
STATEMENTS = policy_document(PERMISSIONS)["Statement"]
GRANTED = {action for p in PERMISSIONS if p.effect == "Allow" for action in p.actions}
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/{policy_name('boundary', REGION)}"

# What a handler may ask for on behalf of properties that no template of ours has.
NOT_ASKED_FOR = {
    "elasticfilesystem:*": "No function mounts a file system.",
    "s3files:*": "No function mounts a bucket.",
    "kinesis:*": "The table has no stream to Kinesis.",
    "dynamodb:*KinesisStreamingDestination": "The table has no stream to Kinesis.",
    "dynamodb:ImportTable": "The table begins empty.",
    "dynamodb:*TableReplica": "The table is in one region.",
    "dynamodb:*Item": "The table has no replica to fill.",
    "dynamodb:Query": "The table has no replica to fill.",
    "dynamodb:Scan": "The table has no replica to fill.",
    "dynamodb:BatchWriteItem": "The table has no replica to fill.",
    "dynamodb:*ResourcePolicy": "The table has no policy of its own.",
    "managed-fleets:*": "The group is of Auto Scaling.",
    "elasticloadbalancing:*": "The group has no load balancer.",
    "vpc-lattice:*": "Neither group nor endpoints are of VPC Lattice.",
    "vpce:*": "The endpoints are of one region.",
    "autoscaling:*LoadBalancer*": "The group has no load balancer.",
    "autoscaling:*TrafficSources": "The group has no load balancer.",
    "autoscaling:*NotificationConfiguration": "The group notifies nobody.",
    "ec2:*SubnetCidrBlock": "The network has no IPv6.",
    "ec2:CreateVpcEncryptionControl": "The network has no encryption control.",
    "ec2:ModifyVpcTenancy": "The network's tenancy is the default.",
    "firehose:*": "Logs are delivered to CloudWatch only.",
    "logs:*LogDelivery": "Log groups deliver nowhere else.",
    "logs:*DataProtectionPolicy": "Log groups mask nothing.",
    "logs:*IndexPolic*": "Log groups have no index.",
    "logs:*ResourcePolicy": "A log group of ours has no policy of its own.",
    "logs:*KmsKey": "Log groups are encrypted by CloudWatch's own key.",
    "logs:PutLogGroupDeletionProtection": "A log group goes with its stack.",
    "logs:PutBearerTokenAuthentication": "Nobody writes logs by a bearer token.",
    "logs:CreateLogStream": "Of an import into the table, which begins empty.",
    "logs:DescribeLogStreams": "Of an import into the table, which begins empty.",
    "logs:PutLogEvents": "Of an import into the table, which begins empty.",
    "kms:CreateGrant": "Table and functions use AWS's own keys.",
    "kms:RevokeGrant": "Table and functions use AWS's own keys.",
    "kms:ListAliases": "Table and functions use AWS's own keys.",
    "kms:Decrypt": "Functions and state machines use AWS's own keys.",
    "kms:Encrypt": "Functions and state machines use AWS's own keys.",
    "kms:GenerateDataKey": "Functions and state machines use AWS's own keys.",
    "lambda:*CapacityProvider": "No function has a capacity provider.",
    "lambda:*FunctionScalingConfig": "No function has a capacity provider.",
    "lambda:*FunctionCodeSigningConfig": "Code is pinned by its digest, not signed.",
    "lambda:AssociateRuntimeAlias": "No function has a runtime alias.",
    "s3tables:*": "No bucket has metadata tables.",
    "s3:*MetadataTableConfiguration": "No bucket has metadata tables.",
    "s3:UpdateBucketMetadata*": "No bucket has metadata tables.",
    "s3:*Abac": "No bucket is governed by tags.",
    "s3:*AccelerateConfiguration": "No bucket is accelerated.",
    "s3:*AnalyticsConfiguration": "No bucket is analysed.",
    "s3:*InventoryConfiguration": "No bucket has an inventory.",
    "s3:*MetricsConfiguration": "No bucket has request metrics.",
    "s3:*ReplicationConfiguration": "No bucket is replicated.",
    "s3:*BucketReplication": "No bucket is replicated.",
    "s3:*IntelligentTieringConfiguration": "No bucket is tiered.",
    "s3:*ObjectLockConfiguration": "No bucket is locked.",
    "s3:*BucketCORS": "No bucket is for browsers.",
    "s3:DeleteBucketCors": "No bucket is for browsers.",
    "s3:DeleteBucketAnalyticsConfiguration": "No bucket is analysed.",
    "s3:DeleteBucketMetricsConfiguration": "No bucket has request metrics.",
    "s3:*BucketWebsite": "No bucket is a website.",
    "s3:*Acl": "Access lists are off.",
    "s3:PutBucketLogging": "No bucket logs accesses.",
    "s3:DeleteBucketEncryption": "S3 has no buckets without any more.",
    "s3:DeleteBucketLifecycle": "Every bucket has a lifecycle.",
    "s3:DeleteObject": "Objects are for the function that empties a bucket.",
    "s3:GetObjectMetadata": "The table begins empty.",
    "s3:GetObjectVersion": "Assets are named by their digest, without a version.",
    "s3:REST.PUT.OBJECT": "Logs are delivered to CloudWatch only.",
    "iam:*UserPolicy": "Policies are for roles.",
    "iam:*GroupPolicy": "Policies are for roles.",
    "iam:DeleteRolePermissionsBoundary": "A role never loses its boundary.",
    "iam:DeleteOpenIDConnectProvider": "The account's one provider stays: others trust it too.",
    "iam:RemoveClientIDFromOpenIDConnectProvider": "The provider's audience is never another.",
    "iam:UpdateOpenIDConnectProviderThumbprint": "The provider has no thumbprints.",
    "ssm:Get*": "A template's image is resolved by CloudFormation.",
}
# Without handlers in a schema: what CloudFormation calls for them itself.
WITHOUT_SCHEMA = {"Custom::S3AutoDeleteObjects": {"lambda:InvokeFunction"}}


def asked_for(kind):
    """The actions that CloudFormation's handlers name for making, changing and deleting one, from
    the resource type's schema as cfn-lint carries it."""
    if kind in WITHOUT_SCHEMA:
        return WITHOUT_SCHEMA[kind]
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema["handlers"]
    wanted = [handlers[h]["permissions"] for h in handlers if h != "list"]
    return {action for actions in wanted for action in actions}


def kinds(assembly):
    return {resource["Type"] for _, _, resource in Assembly(assembly).resources()}


def covered(action):
    return any(like(granted, action, case=False) for granted in GRANTED)


def test_every_resource_type_of_every_template_can_be_made_changed_and_deleted(everything):
    """Each action of each handler is granted, or there is a reason why it is never asked for."""
    missing = {
        (kind, action)
        for kind in kinds(everything)
        for action in asked_for(kind)
        if not covered(action) and not any(like(p, action) for p in NOT_ASKED_FOR)
    }
    assert missing == set()


def test_nothing_is_granted_that_no_handler_asks_for(everything):
    """And the few that are have their reason beside the permissions."""
    asked = {action for kind in kinds(everything) for action in asked_for(kind)}
    spare = {g for g in GRANTED if not any(like(g, a, case=False) for a in asked)}
    assert spare <= set(BESIDE_THE_HANDLERS)
    assert {action for action in BESIDE_THE_HANDLERS if not covered(action)} == set()


def test_no_reason_is_left_over(everything):
    """A reason is for an action that a handler asks for, and that is not granted."""
    asked = {action for kind in kinds(everything) for action in asked_for(kind)}
    refused = {action for action in asked if not covered(action)}
    idle = {p for p in NOT_ASKED_FOR if not any(like(p, action) for action in refused)}
    assert idle == set()


def test_a_policy_fits(everything):
    """Each below IAM's limit, with the longest names of partition and region."""
    place = place_of("aws-us-gov", "ap-southeast-99", ACCOUNT)
    made = [policy_document(p) for p in cloudformation_permissions(place).values()]
    for content in (*made, boundary_document(place)):
        assert len(json.dumps(content, separators=(",", ":"))) <= POLICY_LIMIT


def test_the_names_are_always_the_same():
    """By part and region, which `cdk bootstrap` is told, and outside of what the policies open."""
    assert policy_name("iam", REGION) == "cdk-hnb659fds-codeferry-iam-eu-west-1"
    for part in (*cloudformation_permissions(PLACE), "boundary"):
        arn = f"arn:aws:iam::{ACCOUNT}:policy/{policy_name(part, REGION)}"
        for action in ("iam:CreatePolicyVersion", "iam:DeletePolicy", "iam:CreatePolicy"):
            assert not decide(STATEMENTS, Request(action, arn))


# --- names ----------------------------------------------------------------------------------

MADE_BY = {
    "AWS::S3::Bucket": "s3:CreateBucket",
    "AWS::DynamoDB::Table": "dynamodb:CreateTable",
    "AWS::Lambda::Function": "lambda:CreateFunction",
    "AWS::StepFunctions::StateMachine": "states:CreateStateMachine",
    "AWS::SSM::Document": "ssm:CreateDocument",
    "AWS::Events::Rule": "events:PutRule",
    "AWS::SNS::Topic": "sns:CreateTopic",
    "AWS::SQS::Queue": "sqs:CreateQueue",
    "AWS::KMS::Key": "kms:CreateKey",
    "AWS::Logs::LogGroup": "logs:CreateLogGroup",
    "AWS::CloudWatch::Alarm": "cloudwatch:PutMetricAlarm",
    "AWS::CloudWatch::Dashboard": "cloudwatch:PutDashboard",
    "AWS::AutoScaling::AutoScalingGroup": "autoscaling:CreateAutoScalingGroup",
    "AWS::IAM::Role": "iam:CreateRole",
    "AWS::IAM::ManagedPolicy": "iam:CreatePolicy",
    "AWS::IAM::InstanceProfile": "iam:CreateInstanceProfile",
}


def test_every_name_in_the_templates_is_one_that_may_be_made(everything):
    """Given names begin with codeferry-, made up ones with their stack's."""
    context = {"iam:PermissionsBoundary": BOUNDARY, "aws:RequestTag/codeferry:stage": "prod"}
    assert set(MADE_BY) == set(NAMED)
    made = [
        Request(MADE_BY[resource["Type"]], arn_of(stack, id_, resource), context)
        for stack, id_, resource in Assembly(everything).resources(*MADE_BY)
    ]
    assert [request for request in made if not decide(STATEMENTS, request)] == []


# --- no administrator -----------------------------------------------------------------------

IAM = f"arn:aws:iam::{ACCOUNT}"
OURS, FUNCTION = f"{IAM}:role/Codeferry-prod-Workflow-StartRole-1", "lambda.amazonaws.com"
BOUND = {"iam:PermissionsBoundary": BOUNDARY}
CORE = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
TAGGED = {"aws:ResourceTag/codeferry:stage": "prod"}
EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"

TAGGING = {"aws:RequestTag/codeferry:stage": "prod"}
VPC, GROUP = f"{EC2}:vpc/vpc-1", f"{EC2}:security-group/sg-1"
FROM_TEMPLATE = {"ec2:LaunchTemplate": f"{EC2}:launch-template/lt-1"}

# Calls on what is there, each with what it is on.
CHANGES = [
    ("AuthorizeSecurityGroupIngress", GROUP),
    ("AuthorizeSecurityGroupEgress", GROUP),
    ("RevokeSecurityGroupIngress", GROUP),
    ("RevokeSecurityGroupEgress", GROUP),
    ("DeleteSecurityGroup", GROUP),
    ("AssociateRouteTable", f"{EC2}:route-table/rtb-1"),
    ("AssociateRouteTable", f"{EC2}:subnet/subnet-1"),
    ("ReplaceRouteTableAssociation", f"{EC2}:route-table/rtb-1"),
    ("ModifySubnetAttribute", f"{EC2}:subnet/subnet-1"),
    ("ModifyVpcAttribute", VPC),
    ("DeleteVpc", VPC),
    ("ModifyVpcEndpoint", f"{EC2}:vpc-endpoint/vpce-1"),
    ("CreateLaunchTemplateVersion", f"{EC2}:launch-template/lt-1"),
    ("CreateTags", f"{EC2}:instance/i-1"),
    ("CreateTags", GROUP),
    ("DeleteTags", GROUP),
    # What something new is put into.
    ("CreateSubnet", VPC),
    ("CreateRouteTable", VPC),
    ("CreateVpcEndpoint", VPC),
    ("CreateVpcEndpoint", f"{EC2}:subnet/subnet-1"),
    ("CreateVpcEndpoint", GROUP),
    ("RunInstances", GROUP),
    ("RunInstances", f"{EC2}:launch-template/lt-1"),
]
# Calls that make something, with what they make.
MAKES = [
    ("CreateVpc", VPC),
    ("CreateSubnet", f"{EC2}:subnet/*"),
    ("CreateRouteTable", f"{EC2}:route-table/*"),
    ("CreateSecurityGroup", f"{EC2}:security-group/*"),
    ("CreateVpcEndpoint", f"{EC2}:vpc-endpoint/*"),
    ("CreateLaunchTemplate", f"{EC2}:launch-template/*"),
]


def network_decisions():
    """Of each call: on ours or tagged it is allowed; on somebody else's, or untagged, it is not,
    whatever tags the request would give."""
    for call, resource in CHANGES:
        yield f"ec2:{call}", resource, TAGGED, True
        yield f"ec2:{call}", resource, TAGGING, False
        yield f"ec2:{call}", resource, FROM_TEMPLATE, False
    for call, resource in MAKES:
        yield f"ec2:{call}", resource, TAGGING, True
        yield f"ec2:{call}", resource, {}, False
        yield "ec2:CreateTags", resource, TAGGING | {"ec2:CreateAction": call}, True
    yield (
        "ec2:CreateTags",
        f"{EC2}:network-acl/acl-1",
        {"ec2:CreateAction": "CreateNetworkAcl"},
        False,
    )
    instance, subnet = f"{EC2}:instance/*", f"{EC2}:subnet/subnet-1"
    for part in (instance, subnet, f"arn:aws:ec2:{REGION}::image/ami-1"):
        yield "ec2:RunInstances", part, FROM_TEMPLATE, True
        yield "ec2:RunInstances", part, {}, False
    yield "ec2:CreateSecurityGroup", VPC, {}, True


DECISIONS = [
    ("iam:CreateRole", OURS, BOUND, True),
    ("iam:CreateRole", OURS, {}, False),
    ("iam:CreateRole", OURS, {"iam:PermissionsBoundary": f"{IAM}:policy/codeferry-wide"}, False),
    ("iam:CreateRole", f"{IAM}:role/Admin", BOUND, False),
    ("iam:PutRolePolicy", OURS, BOUND, True),
    ("iam:PutRolePolicy", OURS, {}, False),
    ("iam:PutRolePolicy", f"{IAM}:role/cdk-hnb659fds-cfn-exec-role", BOUND, False),
    ("iam:PutRolePermissionsBoundary", OURS, BOUND, True),
    ("iam:PutRolePermissionsBoundary", OURS, {}, False),
    ("iam:DeleteRolePermissionsBoundary", OURS, BOUND, False),
    ("iam:AttachRolePolicy", OURS, BOUND | {"iam:PolicyARN": CORE}, True),
    ("iam:AttachRolePolicy", OURS, BOUND | {"iam:PolicyARN": f"{IAM}:policy/codeferry-a"}, True),
    ("iam:AttachRolePolicy", OURS, {"iam:PolicyARN": CORE}, False),
    ("iam:AttachRolePolicy", OURS, BOUND | {"iam:PolicyARN": ADMINISTRATOR}, False),
    ("iam:PassRole", OURS, {"iam:PassedToService": FUNCTION}, True),
    ("iam:PassRole", OURS, {"iam:PassedToService": "glue.amazonaws.com"}, False),
    ("iam:PassRole", OURS, {}, False),
    (
        "iam:PassRole",
        f"{IAM}:role/codeferry-prod-eu-west-1-break-glass",
        {"iam:PassedToService": FUNCTION},
        False,
    ),
    ("iam:CreatePolicy", f"{IAM}:policy/codeferry-prod-eu-west-1-drain", {}, True),
    ("iam:CreatePolicy", f"{IAM}:policy/other", {}, False),
    ("iam:CreateUser", f"{IAM}:user/codeferry-1", {}, False),
    ("iam:CreateAccessKey", f"{IAM}:user/alice", {}, False),
    ("iam:CreateLoginProfile", f"{IAM}:user/alice", {}, False),
    ("iam:AttachUserPolicy", f"{IAM}:user/alice", {"iam:PolicyARN": ADMINISTRATOR}, False),
    (
        "iam:CreateOpenIDConnectProvider",
        f"{IAM}:oidc-provider/token.actions.githubusercontent.com",
        {},
        True,
    ),
    ("iam:CreateOpenIDConnectProvider", f"{IAM}:oidc-provider/evil.example.org", {}, False),
    *(
        (f"iam:{call}", f"{IAM}:oidc-provider/token.actions.githubusercontent.com", TAGGED, False)
        for call in (
            "DeleteOpenIDConnectProvider",
            "RemoveClientIDFromOpenIDConnectProvider",
            "UpdateOpenIDConnectProviderThumbprint",
        )
    ),
    ("iam:UpdateAssumeRolePolicy", OURS, {}, True),
    ("iam:UpdateAssumeRolePolicy", f"{IAM}:role/codeferry-prod-eu-west-1-break-glass", {}, False),
    ("iam:DeleteRole", f"{IAM}:role/codeferry-prod-eu-west-1-break-glass", {}, False),
    (
        "iam:CreateServiceLinkedRole",
        f"{IAM}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
        {"iam:AWSServiceName": "autoscaling.amazonaws.com"},
        True,
    ),
    (
        "iam:CreateServiceLinkedRole",
        f"{IAM}:role/aws-service-role/organizations.amazonaws.com/R",
        {"iam:AWSServiceName": "organizations.amazonaws.com"},
        False,
    ),
    ("kms:CreateKey", "*", {"aws:RequestTag/codeferry:stage": "prod"}, True),
    ("kms:CreateKey", "*", {}, False),
    ("kms:TagResource", "*", TAGGING, True),
    ("kms:TagResource", KEY, TAGGING, False),
    ("kms:TagResource", KEY, TAGGING | {"aws:ResourceTag/owner": "payroll"}, False),
    ("kms:TagResource", KEY, TAGGING | TAGGED, True),
    ("kms:PutKeyPolicy", KEY, TAGGED, True),
    ("kms:PutKeyPolicy", KEY, {}, False),
    *network_decisions(),
    ("ec2:TerminateInstances", f"{EC2}:instance/i-1", TAGGED, False),
    ("s3:GetObject", "arn:aws:s3:::codeferry-prod-models/weights", {}, False),
    ("s3:DeleteBucket", "arn:aws:s3:::payroll", {}, False),
    ("sts:AssumeRole", f"{IAM}:role/Admin", {}, False),
    ("cloudformation:CreateStack", "*", {}, False),
    ("secretsmanager:GetSecretValue", "*", {}, False),
    ("ssm:GetParameters", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/secret", {}, False),
]


@pytest.mark.parametrize(("action", "resource", "context", "allowed"), DECISIONS)
def test_who_deploys_cannot_become_an_administrator(action, resource, context, allowed):
    """No role without the boundary, no policy of anybody else's, no user, no other team's thing."""
    assert decide(STATEMENTS, Request(action, resource, context)) is allowed
