"""What the three GitHub roles may do, and why: values, for the stack, the docs and the tests.

``plan``, which every branch can have by opening a pull request, reads what `cdk diff` reads: the
templates of this stage's stacks. ``inspect``, which only the branch has, reads what `cdk drift` and
`ferry doctor` read: how things are configured, never what is in them. ``deploy`` may become the
CDK's own roles that deploy.
"""

from __future__ import annotations

from dataclasses import dataclass

from codeferry_contracts.names import Stage
from stacks.permissions import Permission

# Whose tokens are trusted ("OpenID Connect reference", GitHub Docs).
ISSUER = "token.actions.githubusercontent.com"
# The CDK's default qualifier ("Bootstrap your environment", CDK guide).
QUALIFIER = "hnb659fds"
BOOTSTRAP_STACK = "CDKToolkit"
# Not "lookup", which reads the whole account: a deployment looks nothing up.
BOOTSTRAP_ROLES = ("deploy", "file-publishing")


@dataclass(frozen=True)
class Place:
    """Where a stage is deployed; tokens in a stack, plain text in docs and tests."""

    partition: str
    region: str
    account: str
    stage: Stage

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def iam(self, resource: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:{resource}"

    def bucket(self, name: str) -> str:
        return f"arn:{self.partition}:s3:::{name}"


def deploy_permissions(place: Place) -> list[Permission]:
    """Becoming the CDK's bootstrap roles of this account and region, and nothing else."""
    roles = tuple(
        place.iam(f"role/cdk-{QUALIFIER}-{role}-role-{place.account}-{place.region}")
        for role in BOOTSTRAP_ROLES
    )
    return [
        Permission(
            ("sts:AssumeRole",),
            roles,
            "The CDK publishes assets and starts CloudFormation with these.",
        )
    ]


def plan_permissions(place: Place) -> list[Permission]:
    """Reading the stage's stacks as they were deployed, and nothing of what came of them."""
    return [
        Permission(
            ("cloudformation:DescribeStacks", "cloudformation:GetTemplate"),
            (_stacks(place),),
            "What is deployed, to compare with what would be; a stack's ARN ends in a random id.",
        ),
        _bootstrap_version(place),
    ]


def inspect_permissions(place: Place) -> list[Permission]:
    """Reading the stage's stacks and the configuration of what is in them."""
    return [*_drift(place), *_by_name(place), _without_narrower_resource(), _check(place)]


def _stacks(place: Place) -> str:
    return place.arn("cloudformation", f"stack/Codeferry-{place.stage.name}-*")


def _bootstrap_version(place: Place) -> Permission:
    return Permission(
        ("ssm:GetParameter",),
        (place.arn("ssm", f"parameter/cdk-bootstrap/{QUALIFIER}/version"),),
        "The CDK looks whether the account's bootstrap is recent enough.",
    )


def _drift(place: Place) -> list[Permission]:
    return [
        Permission(
            (
                "cloudformation:DescribeStacks",
                "cloudformation:DescribeStackEvents",
                "cloudformation:DescribeStackResource",
                "cloudformation:DescribeStackResourceDrifts",
                "cloudformation:DescribeStackResources",
                "cloudformation:DetectStackDrift",
                "cloudformation:DetectStackResourceDrift",
                "cloudformation:GetTemplate",
                "cloudformation:ListStackResources",
            ),
            (_stacks(place), place.arn("cloudformation", f"stack/{BOOTSTRAP_STACK}/*")),
            "What is deployed, to compare with what is there; a stack's ARN ends in a random id.",
        ),
        _bootstrap_version(place),
    ]


def _by_name(place: Place) -> list[Permission]:
    """Drift detection reads each resource as whoever asks for it; these have the stage's name."""
    named, titled = f"codeferry-{place.stage.name}-*", f"Codeferry-{place.stage.name}-*"
    return [
        Permission(
            (
                "s3:GetBucketLocation",
                "s3:GetBucketNotification",
                "s3:GetBucketOwnershipControls",
                "s3:GetBucketPolicy",
                "s3:GetBucketPublicAccessBlock",
                "s3:GetBucketTagging",
                "s3:GetBucketVersioning",
                "s3:GetEncryptionConfiguration",
                "s3:GetLifecycleConfiguration",
                "s3:ListBucket",
            ),
            (place.bucket(named),),
            "A bucket's configuration; its objects stay closed.",
        ),
        Permission(
            (
                "iam:GetPolicy",
                "iam:GetPolicyVersion",
                "iam:GetRole",
                "iam:GetRolePolicy",
                "iam:ListAttachedRolePolicies",
                "iam:ListRolePolicies",
            ),
            (
                place.iam(f"role/{named}"),
                place.iam(f"role/{titled}"),
                place.iam(f"policy/{named}"),
            ),
            "Roles and policies of the stage.",
        ),
        Permission(
            (
                "dynamodb:DescribeTable",
                "dynamodb:DescribeTimeToLive",
                "events:DescribeRule",
                "events:ListTargetsByRule",
                "lambda:GetFunctionConfiguration",
                "sns:GetTopicAttributes",
                "sqs:GetQueueAttributes",
                "ssm:DescribeDocument",
                "states:DescribeStateMachine",
            ),
            (
                place.arn("dynamodb", f"table/{titled}"),
                place.arn("events", f"rule/{titled}"),
                place.arn("lambda", f"function:{named}"),
                place.arn("sns", named),
                place.arn("sqs", titled),
                place.arn("ssm", f"document/{named}"),
                place.arn("states", f"stateMachine:{named}"),
            ),
            "How the parts of the workflow are configured.",
        ),
    ]


def _without_narrower_resource() -> Permission:
    return Permission(
        (
            "autoscaling:DescribeAutoScalingGroups",
            "cloudformation:DescribeStackDriftDetectionStatus",
            "cloudwatch:DescribeAlarms",
            "ec2:DescribeLaunchTemplates",
            "ec2:DescribeLaunchTemplateVersions",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcEndpoints",
            "ec2:DescribeVpcs",
            "logs:DescribeLogGroups",
        ),
        ("*",),
        "These list or describe; IAM knows no resource for them.",
    )


def _check(place: Place) -> Permission:
    return Permission(
        ("lambda:InvokeFunction",),
        (place.arn("lambda", f"function:{place.stage.function('check')}"),),
        "The health check after a deployment; the function looks at a target and changes nothing.",
    )
