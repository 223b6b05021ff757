"""What CloudFormation may do for whoever deploys, and why: values, for bootstrap, docs and tests.

`cdk bootstrap` makes CloudFormation's role an administrator unless it is told otherwise, and so
everyone who may deploy. scripts/bootstrap.sh gives it these policies instead. A role that a
template makes has to carry the boundary (``stacks/permissions_boundary.py``), or it would be the
way around all of this.

The actions are those of CloudFormation's own handlers for the resource types in our templates
("handlers" in each type's schema); tests/unit/stacks/test_cloudformation_permissions.py compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codeferry_contracts.names import Stage
from codeferry_contracts.target import STAGE_TAG
from stacks.gitops_permissions import ISSUER, QUALIFIER, Place
from stacks.permissions import Permission

# IAM User Guide, "IAM and AWS STS quotas": a managed policy's size, white space not counted.
POLICY_LIMIT = 6144

# Beside the handlers' own: what CloudFormation and the services ask of the same role.
BESIDE_THE_HANDLERS: Mapping[str, str] = {
    "ssm:GetParameters": "CloudFormation itself resolves a template's SSM parameters.",
    "lambda:InvokeFunction": "CloudFormation itself calls the function behind a custom resource.",
    "iam:CreateServiceLinkedRole": "Auto Scaling's own role, in an account that never used it.",
}


def policy_name(part: str, region: str) -> str:
    """Of one account and region, as the CDK's own roles are; outside of what it may change."""
    return f"cdk-{QUALIFIER}-codeferry-{part}-{region}"


def place_of(partition: str, region: str, account: str) -> Place:
    """A place of no stage in particular: the policies are for all stages of the region."""
    return Place(partition, region, account, Stage("any"))


def cloudformation_permissions(place: Place) -> dict[str, list[Permission]]:
    """Part to the statements of its policy; one policy could not hold them all."""
    return {
        "storage": [_buckets(place), _assets(place), *_keys(place)],
        "workflow": [*_workflow(place), *_messages(place), *_observing(place)],
        "fleet": [*_network(place), *_group(place)],
        "iam": [*_roles(place), *_policies(place), _provider(place)],
    }


def document(permissions: Sequence[Permission]) -> dict[str, Any]:
    """The statements as IAM reads them."""
    statements = []
    for permission in permissions:
        statement: dict[str, Any] = {
            "Effect": permission.effect,
            "Action": list(permission.actions),
        }
        statement["Resource"] = list(permission.resources)
        if permission.conditions:
            statement["Condition"] = {k: dict(v) for k, v in permission.conditions.items()}
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def _both(place: Place, service: str, prefix: str) -> tuple[str, str]:
    """Resources with a name of ours, and those that CloudFormation names after their stack."""
    return (
        place.arn(service, f"{prefix}codeferry-*"),
        place.arn(service, f"{prefix}Codeferry-*"),
    )


def _tagged() -> dict[str, dict[str, str]]:
    return {"StringLike": {f"aws:ResourceTag/{STAGE_TAG}": "?*"}}


def _untagged() -> dict[str, dict[str, str]]:
    """Holds as well for what has no such tag: a negated operator does for a missing key."""
    return {"StringNotLike": {f"aws:ResourceTag/{STAGE_TAG}": "?*"}}


def _tagging() -> dict[str, dict[str, str]]:
    return {"StringLike": {f"aws:RequestTag/{STAGE_TAG}": "?*"}}


def _buckets(place: Place) -> Permission:
    return Permission(
        (
            "s3:CreateBucket",
            "s3:DeleteBucket",
            "s3:DeleteBucketPolicy",
            "s3:GetBucket*",
            "s3:GetEncryptionConfiguration",
            "s3:GetLifecycleConfiguration",
            "s3:ListBucket",
            "s3:ListTagsForResource",
            "s3:PutBucketNotification",
            "s3:PutBucketOwnershipControls",
            "s3:PutBucketPolicy",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketTagging",
            "s3:PutBucketVersioning",
            "s3:PutEncryptionConfiguration",
            "s3:PutLifecycleConfiguration",
            "s3:TagResource",
            "s3:UntagResource",
        ),
        (place.bucket("codeferry-*"),),
        "The buckets and how they are configured; not what is in them.",
    )


def _assets(place: Place) -> Permission:
    bucket = f"cdk-{QUALIFIER}-assets-{place.account}-{place.region}"
    return Permission(
        ("s3:GetObject",), (place.bucket(f"{bucket}/*"),), "The functions' code, as published."
    )


def _keys(place: Place) -> list[Permission]:
    keys = (place.arn("kms", "key/*"),)
    return [
        Permission(
            ("kms:CreateKey", "kms:TagResource"),
            ("*",),
            "A key for messages; it has no ARN before it is made, and is ours by its tag.",
            conditions=_tagging(),
        ),
        # The request of CreateKey names no key ("Controlling access to tags", KMS Developer
        # Guide); every key has a hyphen in its id, and so this is about keys that are there.
        Permission(
            ("kms:TagResource",),
            (place.arn("kms", "key/*-*"),),
            "A key of somebody else does not become ours by being given our tag.",
            conditions=_untagged(),
            effect="Deny",
        ),
        Permission(
            (
                "kms:DescribeKey",
                "kms:DisableKey",
                "kms:DisableKeyRotation",
                "kms:EnableKey",
                "kms:EnableKeyRotation",
                "kms:GetKeyPolicy",
                "kms:GetKeyRotationStatus",
                "kms:ListResourceTags",
                "kms:PutKeyPolicy",
                "kms:ScheduleKeyDeletion",
                "kms:TagResource",
                "kms:UntagResource",
                "kms:UpdateKeyDescription",
            ),
            keys,
            "Keys with our tag.",
            conditions=_tagged(),
        ),
    ]


def _workflow(place: Place) -> list[Permission]:
    return [
        Permission(
            (
                "dynamodb:CreateTable",
                "dynamodb:DeleteTable",
                "dynamodb:Describe*",
                "dynamodb:GetResourcePolicy",
                "dynamodb:ListTagsOfResource",
                "dynamodb:TagResource",
                "dynamodb:UntagResource",
                "dynamodb:UpdateContinuousBackups",
                "dynamodb:UpdateContributorInsights",
                "dynamodb:UpdateTable",
                "dynamodb:UpdateTimeToLive",
            ),
            (place.arn("dynamodb", "table/Codeferry-*"),),
            "The table of runs; not its items.",
        ),
        Permission(
            (
                "lambda:AddPermission",
                "lambda:CreateFunction",
                "lambda:DeleteFunction",
                "lambda:DeleteFunctionConcurrency",
                "lambda:DeleteFunctionEventInvokeConfig",
                "lambda:Get*",
                "lambda:InvokeFunction",
                "lambda:PublishVersion",
                "lambda:PutFunctionConcurrency",
                "lambda:PutFunctionEventInvokeConfig",
                "lambda:PutFunctionRecursionConfig",
                "lambda:PutRuntimeManagementConfig",
                "lambda:RemovePermission",
                "lambda:TagResource",
                "lambda:UntagResource",
                "lambda:UpdateFunctionCode",
                "lambda:UpdateFunctionConfiguration",
                "lambda:UpdateFunctionEventInvokeConfig",
            ),
            _both(place, "lambda", "function:"),
            "The functions; invoked is the one that empties a bucket.",
        ),
        Permission(
            (
                "states:CreateStateMachine",
                "states:DeleteStateMachine",
                "states:DescribeStateMachine",
                "states:ListTagsForResource",
                "states:TagResource",
                "states:UntagResource",
                "states:UpdateStateMachine",
            ),
            (place.arn("states", "stateMachine:codeferry-*"),),
            "The state machines.",
        ),
        Permission(
            (
                "ssm:AddTagsToResource",
                "ssm:CreateDocument",
                "ssm:DeleteDocument",
                "ssm:DescribeDocument",
                "ssm:GetDocument",
                "ssm:ListTagsForResource",
                "ssm:RemoveTagsFromResource",
                "ssm:UpdateDocument",
                "ssm:UpdateDocumentDefaultVersion",
            ),
            (place.arn("ssm", "document/codeferry-*"),),
            "The documents that instances run.",
        ),
        Permission(
            ("ssm:GetParameters",),
            (
                place.arn("ssm", f"parameter/cdk-bootstrap/{QUALIFIER}/version"),
                f"arn:{place.partition}:ssm:{place.region}::parameter/aws/service/*",
                place.arn("ssm", "parameter/codeferry/*"),
            ),
            "Parameters of a template: the bootstrap's version, the image of an instance.",
        ),
        Permission(
            (
                "events:DeleteRule",
                "events:DescribeRule",
                "events:ListTagsForResource",
                "events:ListTargetsByRule",
                "events:PutRule",
                "events:PutTargets",
                "events:RemoveTargets",
                "events:TagResource",
                "events:UntagResource",
            ),
            (place.arn("events", "rule/Codeferry-*"),),
            "The rules that start, resume and stop runs.",
        ),
    ]


def _messages(place: Place) -> list[Permission]:
    return [
        Permission(
            (
                "sns:CreateTopic",
                "sns:DeleteTopic",
                "sns:GetDataProtectionPolicy",
                "sns:GetSubscriptionAttributes",
                "sns:GetTopicAttributes",
                "sns:ListSubscriptionsByTopic",
                "sns:ListTagsForResource",
                "sns:PutDataProtectionPolicy",
                "sns:SetSubscriptionAttributes",
                "sns:SetTopicAttributes",
                "sns:Subscribe",
                "sns:TagResource",
                "sns:Unsubscribe",
                "sns:UntagResource",
            ),
            _both(place, "sns", ""),
            "Topics for alarms and for messages about runs.",
        ),
        Permission(
            (
                "sqs:CreateQueue",
                "sqs:DeleteQueue",
                "sqs:GetQueueAttributes",
                "sqs:GetQueueUrl",
                "sqs:ListQueueTags",
                "sqs:SetQueueAttributes",
                "sqs:TagQueue",
                "sqs:UntagQueue",
            ),
            (place.arn("sqs", "Codeferry-*"),),
            "The dead-letter queue.",
        ),
    ]


def _observing(place: Place) -> list[Permission]:
    groups = tuple(
        place.arn("logs", f"log-group:{prefix}*")
        for prefix in ("/codeferry/", "/aws/vendedlogs/states/codeferry-", "Codeferry-")
    )
    return [
        Permission(
            (
                "logs:CreateLogGroup",
                "logs:DeleteLogGroup",
                "logs:DeleteRetentionPolicy",
                "logs:DescribeIndexPolicies",
                "logs:GetDataProtectionPolicy",
                "logs:ListTagsForResource",
                "logs:PutRetentionPolicy",
                "logs:TagResource",
                "logs:UntagResource",
            ),
            groups,
            "Log groups and how long they are kept; not what is in them.",
        ),
        Permission(
            ("logs:DescribeLogGroups", "logs:DescribeResourcePolicies"),
            ("*",),
            "Both list; IAM knows no narrower resource that serves.",
        ),
        Permission(
            (
                "cloudwatch:DeleteAlarms",
                "cloudwatch:DescribeAlarms",
                "cloudwatch:ListTagsForResource",
                "cloudwatch:PutMetricAlarm",
                "cloudwatch:TagResource",
                "cloudwatch:UntagResource",
            ),
            _both(place, "cloudwatch", "alarm:"),
            "The alarms.",
        ),
        Permission(
            (
                "cloudwatch:DeleteDashboards",
                "cloudwatch:GetDashboard",
                "cloudwatch:ListTagsForResource",
                "cloudwatch:PutDashboard",
                "cloudwatch:TagResource",
                "cloudwatch:UntagResource",
            ),
            (f"arn:{place.partition}:cloudwatch::{place.account}:dashboard/codeferry-*",),
            "The dashboard.",
        ),
    ]


def _network(place: Place) -> list[Permission]:
    return [
        Permission(
            ("ec2:Describe*", "ec2:Get*"),
            ("*",),
            "CloudFormation and Auto Scaling look at what they made; these have no resources.",
        ),
        *_making(place),
        Permission(
            (
                "ec2:AssociateRouteTable",
                "ec2:AuthorizeSecurityGroupEgress",
                "ec2:AuthorizeSecurityGroupIngress",
                "ec2:CreateLaunchTemplateVersion",
                "ec2:CreateTags",
                "ec2:DeleteLaunchTemplate",
                "ec2:DeleteRouteTable",
                "ec2:DeleteSecurityGroup",
                "ec2:DeleteSubnet",
                "ec2:DeleteTags",
                "ec2:DeleteVpc",
                "ec2:DeleteVpcEndpoints",
                "ec2:DisassociateRouteTable",
                "ec2:ModifySubnetAttribute",
                "ec2:ModifyVpcAttribute",
                "ec2:ModifyVpcEndpoint",
                "ec2:ReplaceRouteTableAssociation",
                "ec2:RevokeSecurityGroupEgress",
                "ec2:RevokeSecurityGroupIngress",
                "ec2:UpdateSecurityGroupRuleDescriptionsEgress",
                "ec2:UpdateSecurityGroupRuleDescriptionsIngress",
            ),
            (place.arn("ec2", "*"),),
            "Changes, opens and deletes only what has our tag.",
            conditions=_tagged(),
        ),
    ]


# What tags what it makes in the call that makes it ("tagOnCreate" in each type's schema, and a
# launch template by its TagSpecifications), so that nothing of ours is without its tag.
_MAKING = (
    "CreateLaunchTemplate",
    "CreateRouteTable",
    "CreateSecurityGroup",
    "CreateSubnet",
    "CreateVpc",
    "CreateVpcEndpoint",
)


def _making(place: Place) -> list[Permission]:
    """EC2 asks about what a call makes and about what it makes it in, each on its own ("Actions,
    resources, and condition keys for Amazon EC2", Service Authorization Reference): no call is
    in one statement with another one that makes what it makes something in."""
    inside = ("route-table/*", "security-group/*", "subnet/*")
    return [
        *(
            Permission(
                tuple(f"ec2:{action}" for action in actions),
                tuple(place.arn("ec2", made) for made in kinds),
                "Makes them with our tag from the beginning, or not at all.",
                conditions=_tagging(),
            )
            for actions, kinds in (
                (("CreateLaunchTemplate", "CreateVpc"), ("launch-template/*", "vpc/*")),
                (("CreateRouteTable", "CreateSecurityGroup", "CreateSubnet"), inside),
                (("CreateVpcEndpoint",), ("vpc-endpoint/*",)),
            )
        ),
        Permission(
            ("ec2:CreateRouteTable", "ec2:CreateSubnet", "ec2:CreateVpcEndpoint"),
            tuple(place.arn("ec2", kind) for kind in (*inside, "vpc/*")),
            "And in a network of ours.",
            conditions=_tagged(),
        ),
        Permission(
            ("ec2:CreateSecurityGroup",),
            (place.arn("ec2", "vpc/*"),),
            "The fleet's own group, in a network that may be yours (`fleet_vpc`): it is empty, and "
            "nothing is in it but what is put there.",
        ),
        Permission(
            ("ec2:CreateTags",),
            (place.arn("ec2", "*"),),
            "Tags what is being made, and nothing that is there already.",
            conditions={"StringEquals": {"ec2:CreateAction": [*_MAKING, "RunInstances"]}},
        ),
        Permission(
            ("ec2:RunInstances",),
            (place.arn("ec2", "launch-template/*"), place.arn("ec2", "security-group/*")),
            "As Auto Scaling checks for whoever makes a group: from a template and in a security "
            "group of ours.",
            conditions=_tagged(),
        ),
        Permission(
            ("ec2:RunInstances",),
            (
                *(
                    place.arn("ec2", f"{kind}/*")
                    for kind in (
                        "instance",
                        "network-interface",
                        "spot-instances-request",
                        "subnet",
                        "volume",
                    )
                ),
                f"arn:{place.partition}:ec2:{place.region}::image/*",
            ),
            "And the rest of such an instance, in subnets that may be yours (`fleet_subnets`).",
            conditions={"ArnLike": {"ec2:LaunchTemplate": place.arn("ec2", "launch-template/*")}},
        ),
    ]


def _group(place: Place) -> list[Permission]:
    named = "autoScalingGroup:*:autoScalingGroupName/codeferry-*"
    return [
        Permission(
            (
                "autoscaling:CancelInstanceRefresh",
                "autoscaling:CreateAutoScalingGroup",
                "autoscaling:CreateOrUpdateTags",
                "autoscaling:DeleteAutoScalingGroup",
                "autoscaling:DeleteLifecycleHook",
                "autoscaling:DeleteTags",
                "autoscaling:DisableMetricsCollection",
                "autoscaling:EnableMetricsCollection",
                "autoscaling:PutLifecycleHook",
                "autoscaling:ResumeProcesses",
                "autoscaling:StartInstanceRefresh",
                "autoscaling:SuspendProcesses",
                "autoscaling:UpdateAutoScalingGroup",
            ),
            (place.arn("autoscaling", named),),
            "The group, and the refresh that rolls a new template through it.",
        ),
        Permission(
            ("autoscaling:Describe*",), ("*",), "These list; IAM knows no resource for them."
        ),
        Permission(
            ("iam:CreateServiceLinkedRole",),
            (place.iam("role/aws-service-role/*"),),
            "In a new account: the roles of Auto Scaling and of EC2 Spot, which AWS defines.",
            conditions={
                "StringEquals": {
                    "iam:AWSServiceName": ["autoscaling.amazonaws.com", "spot.amazonaws.com"]
                }
            },
        ),
    ]


def _roles(place: Place) -> list[Permission]:
    ours = (place.iam("role/codeferry-*"), place.iam("role/Codeferry-*"))
    boundary = place.iam(f"policy/{policy_name('boundary', place.region)}")
    bounded = {"StringEquals": {"iam:PermissionsBoundary": boundary}}
    core = f"arn:{place.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
    return [
        Permission(
            ("iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"),
            ours,
            "A role is made, and gets rights, only with the boundary.",
            conditions=bounded,
        ),
        Permission(
            ("iam:AttachRolePolicy",),
            ours,
            "So it is with policies of their own, which are ours or Systems Manager's.",
            conditions={
                **bounded,
                "ArnLike": {"iam:PolicyARN": [place.iam("policy/codeferry-*"), core]},
            },
        ),
        Permission(
            (
                "iam:DeleteRole",
                "iam:DeleteRolePolicy",
                "iam:DetachRolePolicy",
                "iam:GetRole",
                "iam:GetRolePolicy",
                "iam:ListAttachedRolePolicies",
                "iam:ListRolePolicies",
                "iam:TagRole",
                "iam:UntagRole",
                "iam:UpdateAssumeRolePolicy",
                "iam:UpdateRole",
                "iam:UpdateRoleDescription",
            ),
            ours,
            "Whose role it is changes nothing about how far it reaches.",
        ),
        Permission(
            ("iam:DeleteRole", "iam:UpdateAssumeRolePolicy"),
            (place.iam("role/codeferry-*-break-glass"),),
            "Who may break the glass is settled when the role is made; a deployment changes it no "
            "more, nor makes the role anew.",
            effect="Deny",
        ),
        Permission(
            ("iam:PassRole",),
            (place.iam("role/Codeferry-*"),),
            "Services get the roles that CloudFormation names after their stack: never those of "
            "people and of GitHub, which have names of their own.",
            conditions={
                "StringEquals": {
                    "iam:PassedToService": [
                        "ec2.amazonaws.com",
                        "events.amazonaws.com",
                        "lambda.amazonaws.com",
                        "states.amazonaws.com",
                    ]
                }
            },
        ),
    ]


def _policies(place: Place) -> list[Permission]:
    return [
        Permission(
            (
                "iam:CreatePolicy",
                "iam:CreatePolicyVersion",
                "iam:DeletePolicy",
                "iam:DeletePolicyVersion",
                "iam:GetPolicy",
                "iam:GetPolicyVersion",
                "iam:ListEntitiesForPolicy",
                "iam:ListPolicyVersions",
            ),
            (place.iam("policy/codeferry-*"),),
            "The stages' policies; not these, nor the boundary, whose names begin otherwise.",
        ),
        Permission(
            (
                "iam:AddRoleToInstanceProfile",
                "iam:CreateInstanceProfile",
                "iam:DeleteInstanceProfile",
                "iam:GetInstanceProfile",
                "iam:RemoveRoleFromInstanceProfile",
            ),
            (place.iam("instance-profile/Codeferry-*"), place.iam("role/Codeferry-*")),
            "How instances of a fleet get their role.",
        ),
    ]


def _provider(place: Place) -> Permission:
    return Permission(
        (
            "iam:AddClientIDToOpenIDConnectProvider",
            "iam:CreateOpenIDConnectProvider",
            "iam:GetOpenIDConnectProvider",
            "iam:ListOpenIDConnectProviderTags",
            "iam:TagOpenIDConnectProvider",
            "iam:UntagOpenIDConnectProvider",
        ),
        (place.iam(f"oidc-provider/{ISSUER}"),),
        "GitHub's provider, and no other. An account has one, for everybody's roles: it is made, "
        "and nothing is taken from it.",
    )
