"""The most that any role of any stage may do, whatever a template gives it, and why: values.

scripts/bootstrap.sh makes the policy; the app puts it on every role (``-c
permissions_boundary=NAME``), and CloudFormation makes no role without it. It is wider than what
the roles have, which is in their own policies; it keeps them to Codeferry's things.
"""

from __future__ import annotations

from typing import Any

from codeferry_contracts.target import STAGE_TAG, TARGET_TAG
from stacks.cloudformation_permissions import document
from stacks.gitops_permissions import QUALIFIER, Place, deploy_permissions
from stacks.permissions import Permission

# What AmazonSSMManagedInstanceCore has (its version 2), but for changing this.
_MANAGED_INSTANCE = (
    "ec2messages:*",
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
    "ssmmessages:*",
)

# What the roles of GitHub keep to even if somebody attaches a policy to them.
_OF_PLAN = (
    "cloudformation:DescribeStacks",
    "cloudformation:GetTemplate",
    "ssm:GetParameter",
)
_OF_INSPECT = (
    "autoscaling:Describe*",
    "cloudformation:Describe*",
    "cloudformation:Detect*",
    "cloudformation:Get*",
    "cloudformation:List*",
    "cloudwatch:Describe*",
    "dynamodb:Describe*",
    "ec2:Describe*",
    "events:Describe*",
    "events:List*",
    "iam:Get*",
    "iam:List*",
    "lambda:GetFunctionConfiguration",
    "lambda:InvokeFunction",
    "logs:Describe*",
    "s3:GetBucket*",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:ListBucket",
    "sns:Get*",
    "sqs:Get*",
    "ssm:DescribeDocument",
    "ssm:GetParameter",
    "states:Describe*",
)
_OF_DEPLOY = ("sts:AssumeRole",)


def boundary_document(place: Place) -> dict[str, Any]:
    """The boundary as IAM reads it."""
    made = document(boundary_permissions(place))
    for purpose, actions in (
        ("plan", _OF_PLAN),
        ("inspect", _OF_INSPECT),
        ("deploy", _OF_DEPLOY),
    ):
        made["Statement"].append(_nothing_but(place, purpose, actions))
    return made


def boundary_permissions(place: Place) -> list[Permission]:
    return [*_storing(place), *_running(place), *_reporting(place), *_looking(place)]


def _nothing_but(place: Place, purpose: str, actions: tuple[str, ...]) -> dict[str, Any]:
    role = place.iam(f"role/codeferry-*-{purpose}")
    return {
        "Effect": "Deny",
        "NotAction": list(actions),
        "Resource": "*",
        "Condition": {"ArnLike": {"aws:PrincipalArn": role}},
    }


def _storing(place: Place) -> list[Permission]:
    assets = f"cdk-{QUALIFIER}-assets-{place.account}-{place.region}/*"
    return [
        Permission(
            ("s3:*",), (place.bucket("codeferry-*"),), "The stages' buckets and what is in them."
        ),
        Permission(("s3:GetObject",), (place.bucket(assets),), "What instances run."),
        Permission(
            ("dynamodb:*",), (place.arn("dynamodb", "table/Codeferry-*"),), "The tables of runs."
        ),
        Permission(
            ("kms:Decrypt", "kms:GenerateDataKey*"),
            (place.arn("kms", "key/*"),),
            "Messages about runs are encrypted, with a key that has our tag.",
            conditions={"StringLike": {f"aws:ResourceTag/{STAGE_TAG}": "?*"}},
        ),
    ]


def _running(place: Place) -> list[Permission]:
    documents = (place.arn("ssm", "document/codeferry-*"),)
    return [
        Permission(("ssm:SendCommand",), documents, "Our documents."),
        Permission(
            ("ssm:SendCommand",),
            (place.arn("ec2", "instance/*"),),
            "Instances that say they take code.",
            conditions={"StringLike": {f"aws:ResourceTag/{TARGET_TAG}": "?*"}},
        ),
        Permission(
            ("ssm:CancelCommand", "ssm:DescribeInstanceInformation", "ssm:ListCommand*"),
            ("*",),
            "These have no narrower resource.",
        ),
        Permission(_MANAGED_INSTANCE, ("*",), "AmazonSSMManagedInstanceCore, of an instance."),
        Permission(
            ("states:*", "lambda:InvokeFunction"),
            (
                place.arn("states", "*:codeferry-*"),
                place.arn("lambda", "function:codeferry-*"),
            ),
            "Workflows and their functions.",
        ),
        Permission(
            ("autoscaling:CompleteLifecycleAction",),
            (place.arn("autoscaling", "autoScalingGroup:*:autoScalingGroupName/codeferry-*"),),
            "An instance's own start.",
        ),
        Permission(
            ("cloudformation:SignalResource",),
            (place.arn("cloudformation", "stack/Codeferry-*"),),
            "The CDK grants it to instances whose group waits for signals.",
        ),
    ]


def _reporting(place: Place) -> list[Permission]:
    nested = "rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"
    return [
        Permission(
            ("events:DescribeRule", "events:PutEvents", "events:PutRule", "events:PutTargets"),
            (place.arn("events", "event-bus/default"), place.arn("events", nested)),
            "Announcing a run's end; how Step Functions waits for a nested run.",
        ),
        Permission(
            ("sns:Publish", "sqs:Get*", "sqs:SendMessage"),
            (
                place.arn("sns", "?odeferry-*"),
                place.arn("sqs", "Codeferry-*"),
            ),
            "Messages about runs, and events that were given up.",
        ),
        Permission(
            ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            (
                place.arn("logs", "log-group:/codeferry/*"),
                place.arn("logs", "log-group:Codeferry-*"),
            ),
            "The stages' logs.",
        ),
        Permission(
            (
                "logs:*LogDelivery",
                "logs:Describe*",
                "logs:ListLogDeliveries",
                "logs:PutResourcePolicy",
                "xray:Get*",
                "xray:Put*",
            ),
            ("*",),
            "Step Functions' logs and traces, which have no narrower resource.",
        ),
    ]


def _looking(place: Place) -> list[Permission]:
    return [
        Permission(
            ("ec2:Describe*", "autoscaling:Describe*", "cloudwatch:Describe*"),
            ("*",),
            "What runs; these list.",
        ),
        Permission(
            (
                "cloudformation:Describe*",
                "cloudformation:Detect*",
                "cloudformation:Get*",
                "cloudformation:List*",
            ),
            ("*",),
            "What is deployed, for a plan and for drift.",
        ),
        Permission(
            ("iam:Get*", "iam:List*"),
            tuple(place.iam(name) for name in ("role/?odeferry-*", "policy/codeferry-*")),
            "How our roles are, for drift.",
        ),
        Permission(
            (
                "events:Describe*",
                "events:List*",
                "lambda:GetFunctionConfiguration",
                "sns:Get*",
                "ssm:DescribeDocument",
            ),
            (
                place.arn("events", "rule/Codeferry-*"),
                place.arn("lambda", "function:?odeferry-*"),
                place.arn("sns", "?odeferry-*"),
                place.arn("ssm", "document/codeferry-*"),
            ),
            "How our parts are configured, for drift.",
        ),
        *deploy_permissions(place),
    ]
