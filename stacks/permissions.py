"""What each Lambda may do, and why: read by the stack and by the generator of docs/iam.md.

Values only: ``Arns`` holds CloudFormation tokens in a deployment and readable
placeholders in the docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from codeferry_contracts import layout
from codeferry_contracts.names import SYNC
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


def permissions(arns: Arns) -> dict[str, list[Permission]]:
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
