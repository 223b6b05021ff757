"""The permissions of every role, and why: for the stacks, the docs and the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from codeferry_contracts import layout
from codeferry_contracts.names import SYNC, Stage
from codeferry_contracts.target import STAGE_TAG, TARGET_TAG


@dataclass(frozen=True)
class Arns:
    """The resources a permission can name. ``stage`` is whose instances take its code, and those
    that no tag puts into a stage unless ``require_stage_tag``. ``signed``: instances ask for
    signed releases."""

    bucket: str
    table: str
    documents: tuple[str, ...]
    instances: str
    state_machines: Mapping[str, str]
    event_bus: str
    agents: str
    stage: str
    record_document: str
    require_stage_tag: bool = False
    signed: bool = False

    def objects(self, prefix: str) -> str:
        return f"{self.bucket}/{prefix}*"


@dataclass(frozen=True)
class Permission:
    """One IAM statement with its reason; ``effect`` is Allow or Deny. ``unseen`` holds the
    actions that no run of the end-to-end suite makes use of, each with the reason why it is
    granted all the same."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    why: str
    conditions: Mapping[str, Any] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    effect: str = "Allow"


# Not for our code: the Lambda service acts with the function's role, and this is granted for
# it beside the rest. The queue's part goes to the functions that events invoke.
LOGGING: Mapping[str, str] = {
    "logs:CreateLogStream": "Lambda writes the function's log.",
    "logs:PutLogEvents": "Lambda writes the function's log.",
}
TRACING: Mapping[str, str] = {
    "xray:PutTraceSegments": "Lambda adds the function to its run's trace. Cannot be narrowed to "
    "resources.",
    "xray:PutTelemetryRecords": "Lambda tells X-Ray how many segments it has sent. Cannot be "
    "narrowed to resources.",
}
EVERY_FUNCTION: Mapping[str, str] = {**LOGGING, **TRACING}
INVOKED_BY_EVENTS: Mapping[str, str] = {
    "sqs:SendMessage": "Lambda hands on the event that the function has failed on.",
    "sqs:GetQueueAttributes": "Comes with the CDK's grant to send.",
    "sqs:GetQueueUrl": "Comes with the CDK's grant to send.",
}
EVENT_FUNCTIONS = ("start", "welcome", "resume", "abort")


def function_permissions(arns: Arns) -> dict[str, list[Permission]]:
    """Every function's permissions beyond writing its own log."""
    return {
        "start": [_start_execution(arns, "An upload into the inbox starts a run.")],
        "welcome": _welcome(arns),
        "plan": _plan(arns),
        "check": [_resolve_target()],
        "dispatch": _dispatch(arns),
        "await": [_keep_token(arns), _look_at_commands(), _complete_task(arns)],
        "resume": [_find_token(arns), _complete_task(arns)],
        "collect": [_read_record(arns), _write_record(arns), _look_at_invocations(), _count(arns)],
        "verify": [
            _read_record(arns),
            _write_record(arns),
            _read_manifest(arns),
            *_keep_release(arns),
        ],
        "cleanup": [_read_record(arns), *_delete_archive(arns), _close(arns), _stop_abandoned()],
        "report": [_read_record(arns), _write_record(arns), _announce(arns)],
        "abort": [
            _read_record(arns),
            *_delete_archive(arns),
            _close(arns),
            _stop_running(),
            Permission(
                ("ssm:SendCommand",),
                (arns.record_document,),
                "Asks instances what a stopped run has left on them.",
            ),
            _send_to_instances(arns),
            _look_at_invocations(),
            _write_record(arns),
            _announce(arns),
        ],
    }


def _start_execution(arns: Arns, why: str) -> Permission:
    return Permission(("states:StartExecution",), (arns.state_machines[SYNC],), why)


def _welcome(arns: Arns) -> list[Permission]:
    return [
        _start_execution(arns, "Brings the kept release to an instance that joined later."),
        _resolve_target(),
        Permission(("s3:ListBucket",), (arns.bucket,), "Finds the kept releases."),
        Permission(("s3:GetObject",), (_kept(arns),), "Reads what is kept of a release."),
        Permission(
            ("dynamodb:GetItem", "dynamodb:PutItem"),
            (arns.table,),
            "Notes each attempt, so that none is made twice at once or for ever.",
        ),
    ]


def _kept(arns: Arns) -> str:
    return arns.objects(layout.RELEASES_PREFIX)


def _keep_release(arns: Arns) -> list[Permission]:
    return [
        Permission(
            ("s3:GetObject", "s3:PutObject"),
            (_kept(arns),),
            "Keeps the release of a run that went well, for instances that join later.",
        ),
        Permission(
            ("s3:AbortMultipartUpload",),
            (_kept(arns),),
            "Takes back the copy of an archive from 256 MiB that did not get through.",
            unseen={"s3:AbortMultipartUpload": "Archives of that size are not in the suite."},
        ),
    ]


def _archives(arns: Arns) -> tuple[str, ...]:
    return (arns.objects(layout.ARCHIVES_PREFIX), arns.objects(layout.INBOX_PREFIX))


def _environments(arns: Arns) -> str:
    return arns.objects(layout.ENVIRONMENTS_PREFIX)


def _read_archives(arns: Arns) -> list[Permission]:
    return [
        Permission(
            ("s3:GetObject", "s3:GetObjectVersion"),
            _archives(arns),
            "Reads the archive's size, checksum and manifest: of the latest version, where the "
            "request names none, and from then on of that one.",
        ),
        Permission(
            ("s3:GetObjectVersion",), (_kept(arns),), "The same of a release that was kept."
        ),
        Permission(
            ("s3:GetObject", "s3:GetObjectVersion"),
            (_environments(arns),),
            "Settles the version of a command's variables; it asks for no byte of them.",
        ),
    ]


def _read_manifest(arns: Arns) -> Permission:
    return Permission(
        ("s3:GetObjectVersion",),
        (*_archives(arns), _kept(arns)),
        "Reads the manifest of the pinned version, and copies it to where releases are kept.",
    )


def _read_record(arns: Arns) -> Permission:
    return Permission(
        ("s3:GetObject",), (arns.objects(layout.RUNS_PREFIX),), "Reads the run's record."
    )


def _write_record(arns: Arns) -> Permission:
    return Permission(
        ("s3:PutObject",), (arns.objects(layout.RUNS_PREFIX),), "Writes the run's record."
    )


def _plan(arns: Arns) -> list[Permission]:
    return [
        *_read_archives(arns),
        _read_record(arns),
        _write_record(arns),
        _resolve_target(),
        Permission(
            ("ssm:DescribeDocument",),
            arns.documents,
            "Pins the document's version and hash for the whole run.",
        ),
        Permission(
            ("dynamodb:PutItem",), (arns.table,), "An older upload never replaces a newer one."
        ),
    ]


def _resolve_target() -> Permission:
    return Permission(
        ("ec2:DescribeInstances", "ssm:DescribeInstanceInformation"),
        ("*",),
        "Resolves the target. Neither action can be narrowed to resources.",
    )


def _dispatch(arns: Arns) -> list[Permission]:
    return [
        Permission(
            ("ssm:SendCommand",), arns.documents, "Sends the stage's own documents, no others."
        ),
        _send_to_instances(arns),
        Permission(
            ("ssm:ListCommands", "ssm:CancelCommand", "ssm:DescribeInstanceInformation"),
            ("*",),
            "Finds a command whose answer was lost, cancels one whose run was ended meanwhile, "
            "and sees which instances SSM still knows. None can be narrowed to resources.",
        ),
        Permission(
            ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:GetItem", "dynamodb:Query"),
            (arns.table,),
            "Reserves the batch before sending it and counts failures against the error budget.",
        ),
        _read_record(arns),
        _write_record(arns),
        Permission(
            ("s3:GetObjectVersion",),
            (*_archives(arns), _environments(arns), _kept(arns)),
            "Signs the GET of one version that the instances use: a signature carries its "
            "signer's rights.",
        ),
        Permission(
            ("s3:GetObject",),
            (arns.agents,),
            "Signs the GET of what instances run, of this version and, for runs that began "
            "before it was deployed, of earlier ones.",
        ),
        *_look_at_documents(arns),
    ]


def _look_at_documents(arns: Arns) -> list[Permission]:
    if not arns.signed:
        return []
    why = "Sees that the pinned version asks for a signature: earlier ones may not."
    return [Permission(("ssm:DescribeDocument",), arns.documents, why)]


def _send_to_instances(arns: Arns) -> Permission:
    return Permission(
        ("ssm:SendCommand",),
        (arns.instances,),
        f"Only instances that carry the tag {TARGET_TAG} can be reached, and none that is of "
        f"another stage by its tag {STAGE_TAG}.",
        conditions={
            "StringLike": {f"aws:ResourceTag/{TARGET_TAG}": "?*"},
            _of_stage(arns): {f"aws:ResourceTag/{STAGE_TAG}": arns.stage},
        },
    )


def _of_stage(arns: Arns) -> str:
    """IfExists holds for a missing tag ("IAM JSON policy elements: Condition operators")."""
    return "StringEquals" if arns.require_stage_tag else "StringEqualsIfExists"


def _keep_token(arns: Arns) -> Permission:
    return Permission(("dynamodb:PutItem",), (arns.table,), "Keeps the task token by command.")


def _find_token(arns: Arns) -> Permission:
    return Permission(("dynamodb:GetItem",), (arns.table,), "Finds the task token of a command.")


def _look_at_commands() -> Permission:
    return Permission(
        ("ssm:ListCommands",),
        ("*",),
        "Sees whether the command has already ended. Cannot be narrowed to resources.",
    )


def _look_at_invocations() -> Permission:
    return Permission(
        ("ssm:ListCommandInvocations",),
        ("*",),
        "Reads each instance's result line. Cannot be narrowed to resources.",
    )


def _complete_task(arns: Arns) -> Permission:
    return Permission(
        ("states:SendTaskSuccess",),
        tuple(arns.state_machines.values()),
        "Lets the waiting run go on.",
    )


def _count(arns: Arns) -> Permission:
    return Permission(
        ("dynamodb:GetItem", "dynamodb:UpdateItem"),
        (arns.table,),
        "Finds the batch's command and records how many of the batch failed.",
    )


def _delete_archive(arns: Arns) -> list[Permission]:
    return [
        Permission(
            ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"),
            _archives(arns),
            "Deletes the archive and what an interrupted upload left.",
            unseen={
                "s3:DeleteObject": "Every delete names a version; S3's reference asks for this "
                "action beside the one for versions."
            },
        ),
        Permission(
            ("s3:DeleteObject", "s3:DeleteObjectVersion"),
            (_environments(arns),),
            "Deletes a command's variables.",
            unseen={"s3:DeleteObject": "As of archives."},
        ),
        Permission(
            ("s3:ListBucketVersions", "s3:ListBucketMultipartUploads"),
            (arns.bucket,),
            "Finds the archive's versions and unfinished uploads.",
        ),
    ]


def _close(arns: Arns) -> Permission:
    return Permission(
        ("dynamodb:PutItem", "dynamodb:Query", "dynamodb:DeleteItem"),
        (arns.table,),
        "Closes the run, finds its commands and forgets their tokens.",
    )


def _stop_running() -> Permission:
    return Permission(
        ("ssm:CancelCommand",), ("*",), "Stops what still runs. Cannot be narrowed to resources."
    )


def _stop_abandoned() -> Permission:
    return replace(
        _stop_running(),
        unseen={
            "ssm:CancelCommand": "Only a command that await gave up on still runs here, and await "
            "gives up after two days or when SSM refuses to tell it anything."
        },
    )


def _announce(arns: Arns) -> Permission:
    return Permission(("events:PutEvents",), (arns.event_bus,), "Announces that the run finished.")


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


_SSM_AGENT = "The SSM agent's, which streams a command's output; the suite has none of AWS's."
_LOG_AGENT = "The CloudWatch agent's, which ships the drain's log; the suite has none."

# Granted by the CDK to the instances of a group that waits for signals.
SIGNALS: Mapping[str, str] = {
    "cloudformation:SignalResource": "Comes with the CDK's signals. cfn-signal does without: it "
    "proves which instance it is by the instance's own identity document.",
}


def command_output_permissions(log_group: str) -> list[Permission]:
    """``log_group``: the ARN of the stage's command log."""
    writing = ("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams")
    return [
        Permission(
            writing,
            (log_group,),
            "Run Command streams output while it runs.",
            unseen=dict.fromkeys(writing, _SSM_AGENT),
        ),
        Permission(
            ("logs:DescribeLogGroups",),
            ("*",),
            "The SSM agent looks the group up by listing; that call has no narrower resource.",
            unseen={"logs:DescribeLogGroups": _SSM_AGENT},
        ),
    ]


def drain_permissions(buckets: Sequence[str], log_group: str) -> list[Permission]:
    """What the drain agent needs to upload into ``buckets``, to prove that it did, and to log."""
    writing = ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
    return [
        Permission(
            ("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"),
            tuple(f"{bucket}/*" for bucket in buckets),
            "Uploads, under the names that programs chose; asks for the checksum of what is there "
            "already (HeadObject); gives up the parts of an upload that was cut off.",
        ),
        Permission(
            ("s3:ListBucket",),
            tuple(buckets),
            "Without it a missing key answers 403, which is no answer to whether it is there.",
            unseen={"s3:ListBucket": "No call of its own: S3 asks for it to answer 404."},
        ),
        Permission(
            writing,
            (log_group,),
            "The service's log.",
            unseen=dict.fromkeys(writing, _LOG_AGENT),
        ),
    ]


def first_start_permissions(agent: str, group: str) -> list[Permission]:
    """``agent`` is one object's ARN, ``group`` the Auto Scaling group's."""
    return [
        Permission(("s3:GetObject",), (agent,), "Installs the agent, from the one object it is."),
        Permission(
            ("autoscaling:CompleteLifecycleAction",),
            (group,),
            "Says that its own start is done. A group's ARN has a number in the middle.",
        ),
    ]


def models_permissions(bucket: str, prefix: str) -> list[Permission]:
    """What the first start of a fleet with models fetches of the permanent bucket."""
    return [
        Permission(
            ("s3:GetObject",),
            (f"{bucket}/{prefix}/*",),
            "Fetches the models; they come in as many files as they like.",
        ),
        Permission(
            ("s3:ListBucket",),
            (bucket,),
            "Finds the models.",
            conditions={"StringLike": {"s3:prefix": [f"{prefix}/*"]}},
        ),
    ]


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


def policy_document(permissions: Sequence[Permission]) -> dict[str, Any]:
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
    made = policy_document(boundary_permissions(place))
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
